// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/scaling_study.hpp"

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "experiments/spec/experiment_spec.hpp"

namespace chunkstate {
namespace {

// Waits for it; its stdout becomes our stderr.
int run_command(std::vector<std::string> words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t child = -1;
  const int error = posix_spawnp(&child, pointers[0], &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::system_error(error, std::generic_category(), words[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void check(const ScalingStudy& study) {
  if (study.ranks.size() < 2) throw UsageError("--ranks: expected two or more numbers, as 1,2,4");
  const std::set<std::int64_t> distinct(study.ranks.begin(), study.ranks.end());
  if (distinct.size() != study.ranks.size() || *distinct.begin() < 1 ||
      *distinct.rbegin() > 100000) {
    throw UsageError("--ranks: expected distinct numbers from 1 to 100000");
  }
  if (study.out.empty()) throw UsageError("scale: --out DIR is missing");
  if (study.launcher.find("{ranks}") == std::string::npos) {
    throw UsageError("--launcher: found '" + study.launcher + "', expected {ranks} in it");
  }
}

// So that each rank has as much to do as the ranks of any other run.
std::string more_work(const ExperimentSpec& spec, std::int64_t ranks) {
  if (spec.prompts.synthetic_tokens > 0) {
    return fmt::format("prompts.synthetic.count={}", spec.prompts.synthetic_count * ranks);
  }
  return fmt::format("measure.repeats={}", spec.measure.repeats * ranks);
}

// There, recording every kernel would be part of what is measured.
bool on_gpu(const ExperimentSpec& spec) {
  return std::ranges::any_of(spec.points, [](const SweepPoint& point) {
    const std::string& backend = point.settings.backend;
    return backend == "cuda" || (backend == "auto" && !gpu_bus_id().empty());
  });
}

}  // namespace

std::vector<std::string> launcher_words(const std::string& launcher, std::int64_t ranks) {
  std::vector<std::string> words;
  std::istringstream in(launcher);
  for (std::string word; in >> word;) {
    if (const auto at = word.find("{ranks}"); at != std::string::npos) {
      word.replace(at, std::string_view("{ranks}").size(), std::to_string(ranks));
    }
    words.push_back(word);
  }
  return words;
}

std::vector<std::string> run_scaling_study(const ScalingStudy& study) {
  check(study);
  const ExperimentSpec spec = load_experiment(study.file, study.overrides);
  const std::int64_t most = *std::max_element(study.ranks.begin(), study.ranks.end());
  const std::string program = std::filesystem::read_symlink("/proc/self/exe");
  std::vector<std::string> files;
  for (const std::int64_t ranks : study.ranks) {
    const std::string directory = fmt::format("{}/ranks-{}", study.out, ranks);
    std::vector<std::string> words = launcher_words(study.launcher, ranks);
    words.insert(words.end(), {program, "run", study.file, "--out", directory, "--quiet"});
    std::vector<std::string> settings;
    if (!on_gpu(spec)) settings.emplace_back("profile.trace=true");
    settings.insert(settings.end(), study.overrides.begin(), study.overrides.end());
    if (spec.parallel.threads == 0) {
      settings.push_back(
          fmt::format("parallel.threads={}", resolve_threads(0, static_cast<int>(most))));
    }
    if (study.weak) settings.push_back(more_work(spec, ranks));
    for (const std::string& setting : settings) words.insert(words.end(), {"-s", setting});
    std::filesystem::create_directories(directory);
    fmt::print(stderr, "{}\n", fmt::join(words, " "));
    if (const int code = run_command(words); code != 0) {
      throw std::runtime_error(
          fmt::format("the run on {} ranks ended with {}; scale can be run again", ranks, code));
    }
    files.push_back(directory + "/results.h5");
  }
  return files;
}

}  // namespace chunkstate
