// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/merge.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/analysis/table.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/added_gptscore.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {
namespace {

struct MergeFlags {
  std::vector<std::string> inputs;
  std::string out;
  bool partial = false;
  std::vector<std::string> argv;
};

constexpr std::size_t most_named = 5;

void print_conflicts(const std::vector<Conflict>& conflicts) {
  for (std::size_t i = 0; i < std::min(conflicts.size(), most_named); ++i) {
    const Conflict& conflict = conflicts[i];
    fmt::print(stderr, "chunkstate: item {} has two different results: {} in {}, {} in {}\n",
               conflict.item_id, conflict.kept_digest, conflict.kept_path.string(),
               conflict.other_digest, conflict.other_path.string());
  }
  fmt::print(stderr, "chunkstate: {} conflicts, nothing is written\n", conflicts.size());
}

int merge_verb(const MergeFlags& flags) {
  ResultsMerge merge;
  for (const std::string& path : flags.inputs) {
    MergeInput input = read_merge_input(path);
    for (const std::string& note : input.notes) fmt::print(stderr, "{}\n", note);
    merge.add(std::move(input));
  }
  Table table({"input", "items", "duplicates dropped"});
  for (const ShardFacts& shard : merge.shards()) {
    table.add({shard.name, std::to_string(shard.items), std::to_string(shard.duplicates)});
  }
  fmt::print("{}", table.text());
  std::fflush(stdout);
  if (!merge.conflicts().empty()) {
    print_conflicts(merge.conflicts());
    return exit_conflict;
  }
  const std::int64_t missing = merge.missing();
  if (missing > 0 && !flags.partial) {
    fmt::print(stderr,
               "chunkstate: {} of {} items have no outcome: {}{}; nothing is written, --partial "
               "writes all the same\n",
               missing, merge.expected(), fmt::join(merge.first_missing(most_named), "; "),
               missing > static_cast<std::int64_t>(most_named) ? "; ..." : "");
    return exit_stopped_early;
  }
  if (merge.unevaluated() > 0 && !flags.partial) {
    fmt::print(stderr,
               "chunkstate: {} outputs are not evaluated yet; nothing is written, --partial writes "
               "all the same\n",
               merge.unevaluated());
    return exit_stopped_early;
  }
  ResultsContent content = merge.take(collect_run_provenance(flags.argv, mpi_library_version()));
  keep_added_gptscore(flags.out, content);
  const auto failed = std::count_if(
      content.requests.begin(), content.requests.end(),
      [](const RequestRecord& request) { return request.status == RequestStatus::failed; });
  const std::string digest = write_results(flags.out, content);
  fmt::print("{} of {} items done, {} failed, {} missing\nresults: {}\ndigest:  {}\n",
             content.requests.size() - static_cast<std::size_t>(failed), merge.expected(), failed,
             missing, flags.out, digest);
  return failed > 0 ? exit_items_failed : exit_ok;
}

}  // namespace

void add_merge(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<MergeFlags>();
  CLI::App* verb = app.add_subcommand(
      "merge",
      "Write one results file from run directories and results files of the same experiment");
  verb->add_option("inputs", flags->inputs, "run directories, results files")->required();
  verb->add_option("-o,--output", flags->out, "results file to write")->required();
  verb->add_flag("--partial", flags->partial, "write even if items are missing");
  verb->callback([flags, &action] {
    flags->argv = command_line();
    action = [flags] { return merge_verb(*flags); };
  });
}

}  // namespace chunkstate
