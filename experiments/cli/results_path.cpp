// SPDX-License-Identifier: Apache-2.0
#include "experiments/cli/results_path.hpp"

#include <filesystem>

#include "core/errors.hpp"
#include "experiments/record/merge.hpp"

namespace chunkstate {

std::string results_path(const std::string& given) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(given)) return given;
  const fs::path file = fs::path(given) / "results.h5";
  if (fs::exists(file)) return file.string();
  if (fs::exists(fs::path(given) / manifest_name)) {
    throw InputError(given +
                     ": no results.h5 yet: `chunkstate run` again finishes the run, "
                     "`chunkstate merge --partial " +
                     given + " -o FILE` takes what is there");
  }
  throw InputError(given +
                   ": no results.h5 in this folder, expected a results file or the folder "
                   "of a run");
}

}  // namespace chunkstate
