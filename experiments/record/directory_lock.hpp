// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>

#include "experiments/plan/shard.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/process_identity.hpp"

namespace chunkstate {

/// Another live process works in the directory: exit code 75. The message names host, pid and start
/// time.
class LockedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Only one run at a time works in a directory, or the tasks of arrays, each task once. Kernel
/// locks (flock) that end with the process, and in the files who holds them: a whole run has
/// DIR/lock alone; a shard shares DIR/lock and has DIR/lock.shard-I-of-N alone. Where the file
/// system has no kernel locks, the files' contents decide: a process that is dead, or of another
/// boot, holds nothing. The files stay, empty, after release.
class DirectoryLock {
 public:
  /// Creates `directory` if it is missing. Throws LockedError, FileError.
  explicit DirectoryLock(const std::filesystem::path& directory, Shard shard = {});
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  /// Who held the lock and ended without releasing it; empty if nobody did.
  const std::string& taken_over_from() const { return taken_over_from_; }

 private:
  FileDescriptor shared_;  // DIR/lock of a shard
  FileDescriptor file_;    // the one that names this process
  std::string taken_over_from_;
};

}  // namespace chunkstate
