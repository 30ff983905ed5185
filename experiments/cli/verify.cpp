// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "experiments/cli/results_path.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {
namespace {

struct VerifyFlags {
  std::string file;
  bool json = false;
};

int verify_verb(const VerifyFlags& flags) {
  const VerifyReport report = verify_results(results_path(flags.file));
  const bool good = report.sound() && report.complete;
  if (flags.json) {
    fmt::print("{}\n", nlohmann::json{{"file", flags.file},
                                      {"sound", report.sound()},
                                      {"complete", report.complete},
                                      {"items_expected", report.items_expected},
                                      {"items_done", report.items_done},
                                      {"items_failed", report.items_failed},
                                      {"items_missing", report.items_missing},
                                      {"stored_digest", report.stored_digest},
                                      {"digest", report.digest},
                                      {"problems", report.problems}}
                           .dump(2));
  } else {
    fmt::print("{}: {} of {} items done, {} failed, {} missing\ndigest {}\n", flags.file,
               report.items_done, report.items_expected, report.items_failed, report.items_missing,
               report.digest);
    for (const std::string& problem : report.problems) fmt::print("problem: {}\n", problem);
    fmt::print("{}\n", good             ? "sound and complete"
                       : report.sound() ? "sound, but not complete"
                                        : "NOT sound");
  }
  return good ? exit_ok : report.sound() ? exit_items_failed : exit_bad_input;
}

}  // namespace

void add_verify(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* verb = app.add_subcommand(
      "verify", "Check a results file: checksums, completeness, content digest, structure");
  verb->add_option("file", flags->file, "results.h5, or the folder of a run")->required();
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, &action] { action = [flags] { return verify_verb(*flags); }; });
}

}  // namespace chunkstate
