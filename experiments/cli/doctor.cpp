// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/errors.hpp"
#include "experiments/cli/verb_group.hpp"
#include "experiments/doctor/diagnose.hpp"

namespace chunkstate {
namespace {

struct DoctorFlags {
  DoctorOptions options;
  std::string backend = "auto";
  bool json = false;
};

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::note:
      return "note";
    case Severity::warning:
      return "warning";
    default:
      return "PROBLEM";
  }
}

std::string line_of(const Finding& finding) {
  std::string line =
      fmt::format("{:<8} {:<12} {}", name_of(finding.severity), finding.check, finding.found);
  if (!finding.expected.empty()) line += "; expected " + finding.expected;
  if (!finding.remedy.empty()) line += "; do: " + finding.remedy;
  return line;
}

nlohmann::json json_of(const Diagnosis& diagnosis) {
  nlohmann::json ranks = nlohmann::json::array();
  for (const RankFacts& rank : diagnosis.ranks) {
    nlohmann::json facts = nlohmann::json::parse(to_json(rank));
    const nlohmann::json place = std::move(facts["place"]);
    facts.erase("place");
    facts.update(place);
    ranks.push_back(facts);
  }
  nlohmann::json findings = nlohmann::json::array();
  for (const Finding& finding : diagnosis.findings) {
    std::string severity = name_of(finding.severity);
    if (finding.severity == Severity::problem) severity = "problem";
    findings.push_back({{"verdict", severity},
                        {"check", finding.check},
                        {"found", finding.found},
                        {"expected", finding.expected},
                        {"do", finding.remedy}});
  }
  nlohmann::json pairs = nlohmann::json::array();
  for (const PeerPair& pair : diagnosis.pairs) {
    pairs.push_back({{"host", pair.host},
                     {"source", pair.source},
                     {"target", pair.target},
                     {"direct", pair.copy.direct},
                     {"equal", pair.copy.equal},
                     {"bytes_per_second", pair.copy.bytes_per_second},
                     {"problem", pair.copy.problem}});
  }
  return {{"ranks", ranks},
          {"findings", findings},
          {"peer_copies", pairs},
          {"well", worst(diagnosis.findings) < Severity::problem}};
}

void print(const Diagnosis& diagnosis, bool json) {
  if (json) {
    fmt::print("{}\n",
               json_of(diagnosis).dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return;
  }
  std::vector<RankProvenance> places;
  for (const RankFacts& rank : diagnosis.ranks) places.push_back(rank.place);
  fmt::print("{}\n", binding_table(places));
  if (!diagnosis.pairs.empty()) fmt::print("{}\n", peer_table(diagnosis.pairs));
  int problems = 0, warnings = 0;
  for (const Finding& finding : diagnosis.findings) {
    fmt::print("{}\n", line_of(finding));
    problems += finding.severity == Severity::problem ? 1 : 0;
    warnings += finding.severity == Severity::warning ? 1 : 0;
  }
  fmt::print("\n{}\n", problems == 0 && warnings == 0
                           ? "all is well"
                           : fmt::format("{} to mend, {} to think about", problems, warnings));
}

/// Of processes that a launcher started and MPI does not know of each other one speaks.
bool speaks(const Communicator& world) {
  if (world.size() > 1) return world.rank() == 0;
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    const char* const rank = std::getenv(variable);
    if (rank != nullptr && *rank != '\0') return std::atoi(rank) == 0;
  }
  return true;
}

int doctor_verb(const DoctorFlags& flags) {
  DoctorOptions options = flags.options;
  if (flags.backend != "auto" && flags.backend != "cpu" && flags.backend != "cuda") {
    throw UsageError("--backend: found '" + flags.backend + "', expected auto, cpu or cuda");
  }
  options.with_gpu = flags.backend != "cpu";
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on files is to be a finding, not the end
  const auto world = make_world();
  try {
    const Diagnosis diagnosis = diagnose(*world, options);
    const bool well = worst(diagnosis.findings) < Severity::problem;
    if (speaks(*world)) print(diagnosis, flags.json);
    std::string code = std::to_string(well ? exit_ok : exit_error);
    world->broadcast(code, 0);
    return std::stoi(code);
  } catch (const AgreedError& error) {
    if (world->rank() == 0) fmt::print(stderr, "chunkstate: {}\n", error.what());
    return error.code();
  } catch (...) {
    return end_group(*world);
  }
}

}  // namespace

void add_doctor(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<DoctorFlags>();
  CLI::App* verb = app.add_subcommand(
      "doctor",
      "What works here and what to mend: ranks, cores, GPUs, MPI, files, Slurm. Also under mpirun, "
      "srun");
  verb->add_option("--out", flags->options.directory, "results directory to try")
      ->capture_default_str();
  verb->add_option("--site", flags->options.site_file, "site file of submit to check");
  verb->add_option("--backend", flags->backend, "auto, cuda, or cpu: no GPU is looked at")
      ->capture_default_str();
  verb->add_option("--threads", flags->options.threads, "per rank; 0: its part of the CPUs")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, &action] { action = [flags] { return doctor_verb(*flags); }; });
}

}  // namespace chunkstate
