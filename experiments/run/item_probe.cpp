// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/item_probe.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <system_error>
#include <vector>

#include "core/errors.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/run/evaluator.hpp"
#include "experiments/run/request_runner.hpp"
#include "experiments/run/stop_signal.hpp"

namespace chunkstate {
namespace {

// The probe is a process alone, not a rank of this job.
bool belongs_to_launcher(const std::string& variable) {
  return variable.starts_with("OMPI_COMM_WORLD_") || variable.starts_with("PMIX_") ||
         variable.starts_with("PMI_");
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

std::string probe_item(const RunOptions& options, const std::string& directory,
                       const std::string& item_id) {
  std::vector<std::string> arguments = {"chunkstate", "run",     options.file, "--out",
                                        directory,    "--probe", item_id};
  for (const std::string& override_text : options.overrides) {
    arguments.insert(arguments.end(), {"-s", override_text});
  }
  std::vector<std::string> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!belongs_to_launcher(*variable)) environment.emplace_back(*variable);
  }

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  // A stop of the whole job reaches the probe too, and must not pass for the item's doing. It ends
  // with the item, or with this process.
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGHUP);  // of a closed terminal
  for (const int stop : stop_signals) sigaddset(&stops, stop);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawnattr_setsigmask(&attributes, &stops);
  pid_t child = -1;
  const int error = posix_spawn(&child, "/proc/self/exe", &actions, &attributes,
                                pointers(arguments).data(), pointers(environment).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::system_error(error, std::generic_category(), "posix_spawn");
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
  }
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "exit code " + std::to_string(WEXITSTATUS(status));
}

void run_probed_item(const std::string& probe, const ExperimentSetup& setup, EnginePool& engines,
                     const std::string& directory, double run_start) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const WorkItem& item : setup.plan) {
    if (item.id != probe) continue;
    RequestRunner(setup.spec, setup.prompts, engines, 0, run_start).run(item);
    return;
  }
  for (const WorkItem& item : setup.plan) {
    if (evaluation_claim(item.id) != probe) continue;
    const JournalContents journals = read_journals(directory);
    const RequestRecord* record = journals.find(item.id);
    if (record != nullptr) Evaluator(setup.spec, setup.prompts, engines).run(item, *record);
    return;
  }
  throw UsageError("--probe: no item " + probe);
}

std::optional<RequestRecord> poison_record(const RunOptions& options, const std::string& directory,
                                           const WorkItem& item, int rank) {
  const std::string death = probe_item(options, directory, item.id);
  if (death.empty()) return std::nullopt;
  RequestRecord record = RequestRunner::blank_record(item, rank);
  record.status = RequestStatus::failed;
  record.error =
      "poison: " + std::to_string(deaths_of_a_poisonous_item) +
      " processes died while they ran this item, and so did one that ran nothing else (" + death +
      ")";
  return record;
}

}  // namespace chunkstate
