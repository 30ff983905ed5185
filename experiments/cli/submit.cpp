// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <set>

#include "core/errors.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/plan/shard.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "experiments/submit/job_scripts.hpp"
#include "experiments/submit/sbatch.hpp"

namespace chunkstate {
namespace {

struct SubmitFlags {
  std::string file;
  std::vector<std::string> overrides;
  std::string out;
  std::string site;
  bool dry_run = false;
  bool failed = false;
};

std::string absolute(const std::string& path) {
  return std::filesystem::absolute(path).lexically_normal().string();
}

/// Shards that hold items without an outcome, or with `failed`, items that failed.
std::vector<int> shards_to_submit(const ExperimentSetup& setup, const std::string& directory,
                                  bool failed) {
  const JournalContents journals = read_journals(directory);
  check_same_experiment(directory, journals, identity_of(setup));
  const std::vector<int> shard_of =
      shard_of_items(setup.plan, static_cast<int>(setup.spec.slurm.array));
  std::set<int> shards;
  std::size_t items = 0;
  for (std::size_t i = 0; i < setup.plan.size(); ++i) {
    const RequestRecord* record = journals.find(setup.plan[i].id);
    const bool wanted =
        failed ? record != nullptr && record->status == RequestStatus::failed : record == nullptr;
    if (!wanted) continue;
    ++items;
    shards.insert(shard_of[i]);
  }
  fmt::print("{}: {} of {} items {} in {}, for {} of {} array tasks\n", setup.spec.name, items,
             setup.plan.size(), failed ? "failed" : "to run", directory, shards.size(),
             setup.spec.slurm.array);
  return {shards.begin(), shards.end()};
}

/// Settings of the jobs themselves mean nothing to the tasks.
std::vector<std::string> overrides_of_run(const std::vector<std::string>& overrides) {
  std::vector<std::string> kept;
  for (const std::string& text : overrides) {
    if (!text.starts_with("slurm.") && !text.starts_with("slurm=")) kept.push_back(text);
  }
  return kept;
}

int submit_verb(const SubmitFlags& flags) {
  const std::string yaml = read_experiment_file(flags.file);
  YamlSource site;
  if (!flags.site.empty()) site = {flags.site, read_experiment_file(flags.site)};
  const auto world = make_local_communicator();
  EnginePool engines(1);
  const ExperimentSetup setup = set_up_experiment(
      *world, engines, parse_experiment(yaml, flags.file, flags.overrides, site), false);

  JobRequest request;
  request.name = setup.spec.name;
  request.binary = std::filesystem::read_symlink("/proc/self/exe").string();
  request.directory = absolute(flags.out.empty() ? setup.spec.output.dir : flags.out);
  request.experiment = request.directory + "/slurm/experiment.yaml";
  request.working_directory = std::filesystem::current_path().string();
  request.overrides = overrides_of_run(flags.overrides);
  request.slurm = setup.spec.slurm;
  request.parallel = setup.spec.parallel;
  if (flags.failed) request.retry_failed_before = utc_now();
  request.shards = shards_to_submit(setup, request.directory, flags.failed);
  if (request.shards.empty() && flags.failed) return exit_ok;
  const JobScripts scripts = make_job_scripts(request);
  const std::string array_file = request.directory + "/slurm/array.sbatch";
  const std::string merge_file = request.directory + "/slurm/merge.sbatch";

  if (flags.dry_run) {
    if (!request.shards.empty()) {
      fmt::print("\n# {}\n{}\n# sbatch --parsable {}\n", array_file, scripts.array,
                 shell_quoted(array_file));
    }
    fmt::print("\n# {}\n{}\n# sbatch --parsable {}{}\n", merge_file, scripts.merge,
               request.shards.empty() ? "" : "--dependency=afterany:JOB ",
               shell_quoted(merge_file));
    return exit_ok;
  }
  make_directories(request.directory + "/slurm");
  // The tasks read this copy: the file may be edited for the next experiment while they wait.
  write_durably(request.experiment, yaml);
  std::vector<std::string> merge_arguments;
  if (!request.shards.empty()) {
    write_durably(array_file, scripts.array);
    const std::string job = sbatch({array_file});
    fmt::print("array job {}\n", job);
    std::fflush(stdout);
    merge_arguments.push_back("--dependency=afterany:" + job);
  }
  write_durably(merge_file, scripts.merge);
  merge_arguments.push_back(merge_file);
  fmt::print("merge job {}\n", sbatch(merge_arguments));
  fmt::print("logs in {}/slurm; `chunkstate status {}` while it runs\n", request.directory,
             shell_quoted(request.directory));
  return exit_ok;
}

}  // namespace

void add_submit(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<SubmitFlags>();
  CLI::App* verb = app.add_subcommand(
      "submit", "Submit what is not done yet as a Slurm array, and a job that merges the results");
  verb->add_option("experiment", flags->file, "experiment file (YAML)")->required();
  verb->add_option("-s,--set", flags->overrides, "key.path=value, in place of the file's value");
  verb->add_option("--out", flags->out, "results directory, in place of output.dir");
  verb->add_option("--site", flags->site,
                   "YAML with keys of `slurm`, for those that the experiment does not set");
  verb->add_flag("--dry-run", flags->dry_run, "print the scripts, write and submit nothing");
  verb->add_flag("--failed", flags->failed, "only what failed, once more");
  verb->callback([flags, &action] { action = [flags] { return submit_verb(*flags); }; });
}

}  // namespace chunkstate
