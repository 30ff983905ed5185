// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace chunkstate {

/// One tensor of a safetensors container, as its header states it.
struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // F32, BF16, I64, ...: one that the format knows
  std::vector<std::int64_t> extents;
  std::uint64_t begin = 0;  // bytes from the start of the file
  std::uint64_t end = 0;
};

/// The entries of a container, ordered by `begin`. Complete validation: what is returned lies
/// inside the file, without overlaps and holes, and every entry has as many bytes as its shape and
/// dtype say.
///
/// `bytes` is the start of the file: at least the header, or all of a shorter file; `file_size` the
/// size of all of it. `file` is used in messages only. A pure function. Throws InputError.
std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view bytes,
                                                       std::uint64_t file_size,
                                                       const std::string& file);

}  // namespace chunkstate
