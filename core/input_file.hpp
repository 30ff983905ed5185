// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace chunkstate {

/// The bytes of a regular file. Throws InputError naming the file if it is missing, unreadable, not
/// a regular file (a FIFO or a device is never opened), longer than `max_bytes`, or the text of a
/// Git LFS pointer.
std::string read_input_file(const std::filesystem::path& path, std::uint64_t max_bytes);

/// A regular file mapped read-only and shared: all processes of a node use the same pages. Throws
/// InputError.
///
/// A page that vanishes because the file was cut while mapped raises SIGBUS; the first MappedFile
/// installs a handler that, for addresses inside a MappedFile, prints one line that names the file
/// and ends the process with code 65.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& name() const { return name_; }
  std::string_view bytes() const { return {data_, size_}; }

  /// Device, inode, size and time of the last change: what two processes of a host have alike that
  /// mapped the same bytes. Throws InputError.
  std::string identity() const;

  /// Throws InputError if the file is no longer as long as it was when it was opened.
  void check_size() const;

 private:
  std::string name_;
  int descriptor_ = -1;
  char* data_ = nullptr;
  std::size_t size_ = 0;
  int guard_slot_ = -1;
};

}  // namespace chunkstate
