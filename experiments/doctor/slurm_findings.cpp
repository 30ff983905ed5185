// SPDX-License-Identifier: Apache-2.0
#include "experiments/doctor/slurm_findings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <sstream>

#include "experiments/doctor/rank_sets.hpp"
#include "experiments/submit/command.hpp"

namespace chunkstate {
namespace {

constexpr int patience_seconds = 10;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string first_line_of(const std::string& text) { return text.substr(0, text.find('\n')); }

/// "gpu:h100:4(S:0-1),gpu:1" -> 5; "(null)" -> 0.
std::int64_t gpus_of(const std::string& resources) {
  std::int64_t count = 0;
  std::istringstream list(resources.substr(0, resources.find("(null)")));
  for (std::string one; std::getline(list, one, ',');) {
    if (!one.starts_with("gpu")) continue;
    one = one.substr(0, one.find('('));
    const std::size_t colon = one.rfind(':');
    if (colon != std::string::npos) count += std::atoll(one.c_str() + colon + 1);
  }
  return count;
}

bool has_plugin(const SlurmFacts& facts, const std::string& name) {
  return std::any_of(
      facts.mpi_plugins.begin(), facts.mpi_plugins.end(),
      [&](const std::string& plugin) { return plugin == name || plugin.starts_with(name + "_v"); });
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

void check_plugins(Findings& findings, const SlurmFacts& facts) {
  if (facts.mpi_plugins.empty()) {
    findings.push_back({Severity::warning, "slurm", "srun --mpi=list names no plugin",
                        "pmix or pmi2", "start ranks with mpirun (slurm.launcher: mpirun)"});
    return;
  }
  const std::string wanted = facts.site                                     ? facts.site->mpi
                             : facts.mpi.find("MPICH") == std::string::npos ? "pmix"
                                                                            : "pmi2";
  if (has_plugin(facts, wanted)) {
    findings.push_back({Severity::ok, "slurm",
                        fmt::format("srun --mpi={} starts ranks of {}", wanted, facts.mpi), "",
                        ""});
    return;
  }
  findings.push_back(
      {Severity::warning, "slurm",
       fmt::format("srun --mpi= has {}, not {}", joined(facts.mpi_plugins), wanted),
       fmt::format("{} for {}", wanted, facts.mpi),
       "set slurm.mpi to one that the MPI library knows, or slurm.launcher: mpirun"});
}

void check_site(Findings& findings, const SlurmFacts& facts) {
  const SlurmSettings& site = *facts.site;
  std::string names;
  const SlurmPartition* chosen = nullptr;
  for (const SlurmPartition& partition : facts.partitions) {
    names += (names.empty() ? "" : ", ") + partition.name;
    if (site.partition.empty() ? partition.is_default : partition.name == site.partition) {
      chosen = &partition;
    }
  }
  if (site.partition.find(',') != std::string::npos) return;  // sbatch takes any of several
  if (chosen == nullptr) {
    findings.push_back(
        {Severity::problem, "site",
         site.partition.empty()
             ? fmt::format("{} names no partition, and Slurm has no default", facts.site_file)
             : fmt::format("{}: partition '{}'", facts.site_file, site.partition),
         fmt::format("one of {}", names), "correct `partition`"});
    return;
  }
  if (!chosen->is_up) {
    findings.push_back(
        {Severity::warning, "site", fmt::format("partition {} is not up", chosen->name), "", ""});
  }
  if (site.gpus_per_node > chosen->gpus_per_node) {
    findings.push_back(
        {Severity::problem, "site",
         fmt::format("{}: gpus_per_node {}", facts.site_file, site.gpus_per_node),
         fmt::format("at most the {} of a node of {}", chosen->gpus_per_node, chosen->name),
         "correct `gpus_per_node` or `partition`"});
  }
  if (site.nodes > chosen->nodes) {
    findings.push_back({Severity::problem, "site",
                        fmt::format("{}: nodes {}", facts.site_file, site.nodes),
                        fmt::format("at most the {} of {}", chosen->nodes, chosen->name),
                        "correct `nodes` or `partition`"});
  }
  if (worst(findings) < Severity::problem) {
    findings.push_back(
        {Severity::ok, "site",
         fmt::format("{}: partition {}, {} of {}", facts.site_file, chosen->name,
                     counted(chosen->nodes, "node"), counted(chosen->gpus_per_node, "GPU")),
         "", ""});
  }
}

std::string partitions_text(const std::vector<SlurmPartition>& partitions) {
  std::string text;
  for (const SlurmPartition& partition : partitions) {
    if (!text.empty()) text += ", ";
    text += fmt::format("{}{} ({}", partition.name, partition.is_default ? "*" : "",
                        counted(partition.nodes, "node"));
    if (partition.gpus_per_node > 0) text += " of " + counted(partition.gpus_per_node, "GPU");
    text += partition.is_up ? ")" : ", not up)";
  }
  return text;
}

}  // namespace

std::vector<SlurmPartition> parse_partitions(const std::string& text) {
  std::vector<SlurmPartition> partitions;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string name, state, nodes, resources;
    if (!std::getline(fields, name, '|') || !std::getline(fields, state, '|') ||
        !std::getline(fields, nodes, '|') || !std::getline(fields, resources)) {
      continue;
    }
    SlurmPartition partition;
    partition.is_default = name.ends_with('*');
    partition.name = name.substr(0, name.size() - (partition.is_default ? 1 : 0));
    partition.is_up = state == "up";
    partition.nodes = std::atoll(nodes.c_str());
    partition.gpus_per_node = gpus_of(resources);
    // A line per kind of node: the partition has them all, and a node at most its own GPUs.
    const auto same = std::find_if(partitions.begin(), partitions.end(),
                                   [&](const auto& other) { return other.name == partition.name; });
    if (same == partitions.end()) {
      partitions.push_back(partition);
    } else {
      same->nodes += partition.nodes;
      same->gpus_per_node = std::max(same->gpus_per_node, partition.gpus_per_node);
    }
  }
  return partitions;
}

std::vector<std::string> parse_mpi_plugins(const std::string& text) {
  std::vector<std::string> plugins;
  std::string word;
  for (const char c : text + ' ') {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_') {
      word += c;
      continue;
    }
    const bool known =
        word == "none" || word == "openmpi" || word.starts_with("pmi") || word.starts_with("cray_");
    if (known && std::find(plugins.begin(), plugins.end(), word) == plugins.end()) {
      plugins.push_back(word);
    }
    word.clear();
  }
  return plugins;
}

SlurmFacts ask_slurm(const std::string& site_file, bool launched, const std::string& mpi) {
  SlurmFacts facts;
  facts.launched = launched;
  facts.mpi = mpi;
  facts.job = variable("SLURM_JOB_ID");
  facts.job_nodes = variable("SLURM_JOB_NUM_NODES");
  facts.job_tasks = variable("SLURM_NTASKS");
  if (!site_file.empty()) {
    // The least experiment: only its `slurm` section, which is the site's, is looked at.
    constexpr const char* least =
        "schema: 1\nname: doctor\nmodel: {path: .}\n"
        "prompts: {synthetic: {tokens: 1, count: 1}}\noutput: {dir: .}\n";
    facts.site_file = site_file;
    facts.site =
        parse_experiment(least, "doctor", {}, {site_file, read_experiment_file(site_file)}).slurm;
  }
  const CommandResult list = run_command({"sinfo", "-h", "-o", "%P|%a|%D|%G"}, patience_seconds);
  facts.sinfo = list.found;
  facts.sbatch = run_command({"sbatch", "--version"}, patience_seconds).found;
  if (!list.good()) {
    const std::string said = first_line_of(list.errors.empty() ? list.output : list.errors);
    facts.failure = list.timed_out ? fmt::format("no answer in {} s", patience_seconds)
                                   : fmt::format("exit code {}: {}", list.code, said);
    return facts;
  }
  facts.partitions = parse_partitions(list.output);
  const CommandResult plugins = run_command({"srun", "--mpi=list"}, patience_seconds);
  facts.mpi_plugins = parse_mpi_plugins(plugins.output + "\n" + plugins.errors);
  return facts;
}

Findings slurm_findings(const SlurmFacts& facts) {
  Findings findings;
  if (!facts.sinfo && !facts.sbatch) {
    const bool wanted = facts.site.has_value() || !facts.job.empty();
    findings.push_back({wanted ? Severity::warning : Severity::note, "slurm",
                        "no sinfo and no sbatch in PATH", wanted ? "Slurm's commands" : "",
                        wanted ? "load the site's module, or call this on a login node" : ""});
    return findings;
  }
  if (!facts.job.empty()) {
    findings.push_back({Severity::ok, "slurm",
                        fmt::format("in job {}, nodes: {}, tasks: {}", facts.job,
                                    facts.job_nodes.empty() ? "?" : facts.job_nodes,
                                    facts.job_tasks.empty() ? "?" : facts.job_tasks),
                        "", ""});
    if (!facts.launched && std::atoll(facts.job_tasks.c_str()) > 1) {
      findings.push_back({Severity::note, "slurm",
                          "this process is no rank of the job: srun --mpi=pmix chunkstate doctor "
                          "looks at all of them",
                          "", ""});
    }
  }
  if (!facts.failure.empty()) {
    findings.push_back({facts.job.empty() ? Severity::warning : Severity::problem, "slurm",
                        "sinfo: " + facts.failure, "a list of partitions",
                        "ask whether slurmctld runs and slurm.conf is here"});
    return findings;
  }
  findings.push_back(
      {facts.partitions.empty() ? Severity::warning : Severity::ok, "slurm",
       facts.partitions.empty() ? "sinfo names no partition" : partitions_text(facts.partitions),
       "", ""});
  if (!facts.sbatch) {
    findings.push_back({Severity::problem, "slurm", "no sbatch in PATH", "sbatch beside sinfo",
                        "call submit where jobs are submitted from"});
  }
  check_plugins(findings, facts);
  if (facts.site) check_site(findings, facts);
  return findings;
}

}  // namespace chunkstate
