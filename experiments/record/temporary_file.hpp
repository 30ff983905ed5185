// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace chunkstate {

/// A name beside `target` that no other living process uses, TARGET.tmp.HOST.PID.START, for bytes
/// that are renamed to `target` once they are whole. The file is removed at the end of the scope,
/// unless it was renamed; those that dead processes of this machine left are removed at its start.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& target);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace chunkstate
