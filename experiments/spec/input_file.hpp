// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace chunkstate {

/// A regular file open for reading. Directories, FIFOs, sockets and devices are refused, and
/// opening one never blocks.
class InputFile {
 public:
  /// Throws InputError naming the path and the reason.
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Reads up to `capacity` bytes; 0 means the end of the file. Throws InputError.
  std::size_t read(char* buffer, std::size_t capacity);

 private:
  std::string path_;
  int descriptor_ = -1;
};

}  // namespace chunkstate
