// SPDX-License-Identifier: Apache-2.0
#include "experiments/submit/sbatch.hpp"

#include <cstdio>
#include <stdexcept>

#include "experiments/submit/command.hpp"

namespace chunkstate {

std::string sbatch(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"sbatch", "--parsable"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const CommandResult done = run_command(std::move(words));
  if (!done.found) {
    throw std::runtime_error("sbatch is not in PATH: no Slurm here? --dry-run shows the scripts");
  }
  std::fputs(done.errors.c_str(), stderr);
  if (!done.good()) throw std::runtime_error("sbatch failed");
  const std::string& answer = done.output;
  const std::string id = answer.substr(0, answer.find_first_not_of("0123456789"));  // "12;cluster"
  if (id.empty()) throw std::runtime_error("sbatch named no job: " + answer);
  return id;
}

}  // namespace chunkstate
