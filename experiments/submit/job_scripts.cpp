// SPDX-License-Identifier: Apache-2.0
#include "experiments/submit/job_scripts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "core/errors.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/submit/check_job.hpp"
#include "experiments/submit/templates.hpp"

namespace chunkstate {
namespace {

bool is_control(char c) { return (c >= 0 && c < 0x20) || c == 0x7F; }

/// Names that everybody may read without quotes.
bool is_plain(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-+:,@/=").find(c) != std::string_view::npos;
  });
}

void refuse_control(const std::string& text) {
  if (std::ranges::none_of(text, is_control)) return;
  std::string shown = text.substr(0, 100);
  std::ranges::replace_if(shown, is_control, '?');
  throw UsageError(fmt::format("'{}': found a control character, expected none", shown));
}

/// A path in an #SBATCH line: sbatch reads quotes and replaces %j and the like.
std::string sbatch_quoted(const std::string& path) {
  refuse_control(path);
  if (path.find_first_of("%\\") != std::string::npos) {
    throw UsageError(fmt::format(
        "{}: found % or \\ in a path, expected none: sbatch replaces them in names of logs", path));
  }
  if (is_plain(path)) return path;
  std::string quoted = "\"";
  for (const char c : path) {
    if (c == '"') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

std::string time_limit(const std::string& duration) {
  const std::int64_t seconds = seconds_of(duration);
  return fmt::format("{}-{:02}:{:02}:{:02}", seconds / 86400, seconds / 3600 % 24,
                     seconds / 60 % 60, seconds % 60);
}

std::vector<std::string> words_of(const std::string& text) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

/// The #SBATCH lines; what has no value is left out.
class Options {
 public:
  void add(const char* option, const std::string& value) {
    if (!value.empty()) lines_ += fmt::format("#SBATCH --{}={}\n", option, value);
  }
  void add(const char* option, std::int64_t value) {
    if (value > 0) add(option, std::to_string(value));
  }
  void add(const std::string& options) {
    if (!options.empty()) lines_ += "#SBATCH " + options + "\n";
  }
  std::string take() {
    lines_.pop_back();  // the template ends the line
    return std::move(lines_);
  }

 private:
  std::string lines_;
};

void add_site(Options& options, const SlurmSettings& slurm, const std::string& partition) {
  options.add("account", slurm.account);
  options.add("partition", partition);
  options.add("qos", slurm.qos);
  options.add("constraint", slurm.constraint);
  options.add("reservation", slurm.reservation);
  options.add(slurm.sbatch_options);
}

void add_gpus(Options& options, const SlurmSettings& slurm) {
  if (slurm.gpus_per_node == 0) return;
  const bool per_task = slurm.gpu_option == "gpus-per-task";
  const std::string type = slurm.gpu_type.empty() ? "" : slurm.gpu_type + ":";
  options.add(slurm.gpu_option.c_str(),
              fmt::format("{}{}{}", slurm.gpu_option == "gres" ? "gpu:" : "", type,
                          slurm.gpus_per_node / (per_task ? slurm.tasks_per_node : 1)));
}

std::string array_options(const JobRequest& request) {
  const SlurmSettings& slurm = request.slurm;
  Options options;
  options.add("job-name", request.name);
  options.add("array", cpu_list(request.shards) +
                           (slurm.simultaneous > 0 ? fmt::format("%{}", slurm.simultaneous) : ""));
  options.add("nodes", slurm.nodes);
  options.add("ntasks-per-node", slurm.tasks_per_node);
  options.add("cpus-per-task", slurm.cpus_per_task);
  add_gpus(options, slurm);
  options.add("mem", slurm.memory);
  if (!slurm.time.empty()) options.add("time", time_limit(slurm.time));
  options.add("signal", fmt::format("B:USR1@{}", seconds_of(slurm.signal_before_end)));
  options.add("--requeue");
  options.add("chdir", sbatch_quoted(request.working_directory));
  options.add("output", sbatch_quoted(request.directory + "/slurm/") + "%A_%a.log");
  options.add("open-mode", "append");
  add_site(options, slurm, slurm.partition);
  return options.take();
}

std::string merge_options(const JobRequest& request) {
  Options options;
  options.add("job-name", request.name + "-merge");
  options.add("ntasks", 1);
  options.add("time", time_limit(request.slurm.merge_time));
  options.add("chdir", sbatch_quoted(request.working_directory));
  options.add("output", sbatch_quoted(request.directory + "/slurm/") + "merge_%j.log");
  options.add("open-mode", "append");
  add_site(options, request.slurm,
           request.slurm.merge_partition.empty() ? request.slurm.partition
                                                 : request.slurm.merge_partition);
  return options.take();
}

std::string module_lines(const SlurmSettings& slurm) {
  if (slurm.modules.empty()) return "";
  std::string line = "command -v module >/dev/null || . /etc/profile\nmodule load";
  for (const std::string& module : words_of(slurm.modules)) line += " " + shell_quoted(module);
  return line + " || exit 1\n";
}

/// Ranks reach each other's GPUs only if their processes see them: each sees all of its node's and
/// takes the one of its rank there. What the job was asked for would bind one to each task.
std::string gpu_lines(const SlurmSettings& slurm) {
  if (slurm.gpus_per_node == 0) return "";
  return "# Every rank sees all GPUs of its node and takes the one of its rank there.\n"
         "unset SLURM_GPUS_PER_TASK SLURM_TRES_PER_TASK SLURM_NTASKS_PER_GPU SLURM_GPU_BIND "
         "SLURM_GPUS\n";
}

/// The words before the program's, with a blank behind them.
std::string launcher_words(const JobRequest& request) {
  const SlurmSettings& slurm = request.slurm;
  if (slurm.launcher == "none") return "";
  std::string words;
  if (slurm.launcher == "srun") {
    // The launcher binds, because it knows which cores Slurm gave; srun does not take
    // --cpus-per-task over from sbatch since 22.05. One rank that dies ends the others.
    words = fmt::format("srun --mpi={} --kill-on-bad-exit=1 --cpu-bind=cores ",
                        shell_quoted(slurm.mpi));
    if (slurm.cpus_per_task > 0) words += fmt::format("--cpus-per-task={} ", slurm.cpus_per_task);
    // Neighbouring ranks on one node and, on it, on one socket: groups stay together, and the
    // first GPUs of a node are those of its first socket. Slurm's default deals them to sockets in
    // turn.
    const bool placed = slurm.launcher_options.find("--distribution") != std::string::npos;
    if (!placed && (slurm.gpus_per_node > 0 || request.parallel.mode != "data")) {
      words += "--distribution=block:block ";
    }
    // No --gpu-bind=none: Slurm 22.05 then names the GPUs to none of the tasks.
    if (slurm.gpus_per_node > 0) words += fmt::format("--gpus-per-node={} ", slurm.gpus_per_node);
  } else {
    // Open MPI would bind a rank of two to one core. Unbound, the ranks of a node divide its cores.
    words = fmt::format("mpirun -n {} --bind-to none ", slurm.nodes * slurm.tasks_per_node);
  }
  for (const std::string& word : words_of(slurm.launcher_options))
    words += shell_quoted(word) + " ";
  return words;
}

std::string run_options(const JobRequest& request) {
  std::string words;
  for (const std::string& text : request.overrides) words += " -s " + shell_quoted(text);
  if (!request.retry_failed_before.empty()) {
    words += " --retry-failed-before " + shell_quoted(request.retry_failed_before);
  }
  return words.empty() ? "" : " \\\n " + words;
}

/// Replaces @NAME@ once: what is put in is not looked at again.
std::string filled(std::string_view text, const std::map<std::string, std::string>& values) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t at = std::min(text.find('@', begin), text.size());
    result += text.substr(begin, at - begin);
    if (at == text.size()) break;
    const std::size_t end = text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", at + 1);
    if (end == std::string_view::npos || text[end] != '@' || end == at + 1) {
      result += '@';
      begin = at + 1;
      continue;
    }
    result += values.at(std::string(text.substr(at + 1, end - at - 1)));
    begin = end + 1;
  }
  return result;
}

}  // namespace

std::string shell_quoted(const std::string& text) {
  refuse_control(text);
  if (is_plain(text)) return text;
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'')
      quoted += "'\\''";
    else
      quoted += c;
  }
  return quoted + "'";
}

std::int64_t seconds_of(const std::string& duration) {
  const std::int64_t count = std::stoll(duration);
  switch (duration.back()) {
    case 'm':
      return count * 60;
    case 'h':
      return count * 3600;
    case 'd':
      return count * 86400;
    default:
      return count;
  }
}

JobScripts make_job_scripts(const JobRequest& request) {
  const SlurmSettings& slurm = request.slurm;
  check_job(request);
  std::map<std::string, std::string> values = {
      {"BINARY", shell_quoted(request.binary)},
      {"DIRECTORY", shell_quoted(request.directory)},
      {"EXPERIMENT", shell_quoted(request.experiment)},
      {"GPUS", gpu_lines(slurm)},
      {"LAUNCHER", launcher_words(request)},
      {"MODULES", module_lines(slurm)},
      {"REQUEUES", std::to_string(slurm.requeues)},
      {"RUN_OPTIONS", run_options(request)},
      {"SHARDS", std::to_string(slurm.array)},
  };
  JobScripts scripts;
  values["OPTIONS"] = array_options(request);
  scripts.array = filled(array_template, values);
  values["OPTIONS"] = merge_options(request);
  scripts.merge = filled(merge_template, values);
  return scripts;
}

}  // namespace chunkstate
