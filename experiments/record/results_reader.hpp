// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "experiments/record/hdf5.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// The content of an open results file, in this process: the inverse of write_*() of
/// results_groups.hpp. Throws h5::Error.
StoredResults read_groups(const h5::Group& root);

/// The content digest that these results give.
std::string content_digest(const StoredResults& results);

/// Throws InputError if it is no regular file that begins like HDF5.
void check_signature(const std::filesystem::path& path);
/// Throws InputError if the file is none of ours, or of another schema version.
void check_schema(const h5::Group& root, const std::string& path);

/// What `body` returns, called in a child process whose limits on memory and time suit a results
/// file of this size. `body` may throw. Throws InputError with what it threw, or how it crashed.
std::string call_on_foreign_file(const std::filesystem::path& path,
                                 const std::function<std::string()>& body);

}  // namespace chunkstate
