// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "experiments/cli/verb.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/run/run_experiment.hpp"

namespace chunkstate {
namespace {

// Launchers change exit codes: mpirun ends with 0 if a whole node's ranks are killed.
int ended(const RunOptions& options, const Communicator& world, int code) {
  if (world.rank() == 0 && !options.ending.empty()) {
    write_durably(options.ending, std::to_string(code) + "\n");
  }
  return code;
}

// Of MPI jobs started by another library's launcher every rank would be a job of its own.
void check_launcher(const Communicator& world) {
  const int launched = launched_processes();
  if (world.size() > 1 || launched < 2) return;
  throw AgreedError(
      {exit_usage,
       fmt::format("the launcher started {} processes, and {} took each for a job of its own: use "
                   "its mpirun, or another srun --mpi= (srun --mpi=list)",
                   launched, mpi_library_version())});
}

int run_verb(const RunOptions& options) {
  const auto world = make_world();
  try {
    check_launcher(*world);
    return ended(options, *world, run_experiment(*world, options));
  } catch (const AgreedError& error) {  // every rank is here, one speaks
    if (world->rank() == 0) fmt::print(stderr, "chunkstate: {}\n", error.what());
    return ended(options, *world, error.code());
  } catch (...) {  // this rank alone: the others would wait for it
    const int code = report_failure(world->rank());
    if (world->size() > 1) world->abort(code);
    return code;
  }
}

}  // namespace

void add_run(CLI::App& app, VerbAction& action) {
  auto options = std::make_shared<RunOptions>();
  auto shard = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand(
      "run",
      "Run what is not done yet of an experiment; write DIR/results.h5. Also under mpirun, srun");
  verb->add_option("experiment", options->file, "experiment file (YAML)")->required();
  verb->add_option("-s,--set", options->overrides, "key.path=value, in place of the file's value");
  verb->add_option("--out", options->out, "results directory, in place of output.dir");
  verb->add_option("--shard", *shard,
                   "I/N: task I (from 0) of an array of N that share DIR; no results.h5");
  verb->add_flag("--retry-failed", options->retry_failed, "run failed items again");
  verb->add_option("--retry-failed-before", options->retry_failed_before,
                   "run again what processes that started before this time (UTC) failed");
  verb->add_option("--ending", options->ending,
                   "write the exit code into this file: launchers do not all pass it on");
  verb->add_flag("-q,--quiet", options->quiet, "no rank table, progress or summary");
  verb->add_option("--probe", options->probe, "run this item only, record nothing")->group("");
  verb->callback([options, shard, &action] {
    options->argv = command_line();
    action = [options, shard] {
      options->shard = parse_shard(*shard);
      return run_verb(*options);
    };
  });
}

}  // namespace chunkstate
