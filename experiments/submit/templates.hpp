// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace chunkstate {

/// The files of slurm/ as they were when the program was built, with @NAME@ where a value goes.
extern const std::string_view array_template;
extern const std::string_view merge_template;

}  // namespace chunkstate
