// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>

namespace chunkstate {

/// A file operation failed. code() is the errno; the message names the file and the operation.
class FileError : public std::system_error {
 public:
  FileError(int error, const std::filesystem::path& path, const std::string& operation)
      : std::system_error(error, std::generic_category(), path.string() + ": " + operation) {}
  /// No space or quota left: what was acknowledged is safe, the run can be resumed later (exit code
  /// 75).
  bool disk_full() const;
};

/// Owns a file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  /// open(2) with O_CLOEXEC, again after EINTR. Throws FileError.
  FileDescriptor(const std::filesystem::path& path, int flags, unsigned mode = 0666);
  FileDescriptor(FileDescriptor&& other) noexcept;
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  ~FileDescriptor();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  /// close(2); returns its errno, 0 if it worked. On network file systems this is where a full disk
  /// shows.
  int close();

 private:
  int fd_ = -1;
};

/// write(2) until all is written, over short writes and EINTR. Returns 0 or the errno that stopped
/// it.
int write_all(int fd, std::string_view bytes);

/// fdatasync(2), again after EINTR only. Returns 0 or the errno. After an error never call it again
/// on this file: the kernel may have dropped the dirty pages and would report success.
int sync_data(int fd);

/// ftruncate(2), again after EINTR. Returns 0 or the errno.
int cut_file(int fd, std::int64_t bytes);

/// Makes the creation or renaming of entries of `directory` durable. Throws FileError.
void sync_directory(const std::filesystem::path& directory);

/// A new file of these bytes, on disk when this returns. `meanwhile` is called when they are
/// written and while they go to disk. Throws FileError, and what `meanwhile` throws.
void write_durably(const std::filesystem::path& path, std::string_view bytes,
                   const std::function<void()>& meanwhile = {});
/// rename(2), durably: `to` is the old file or the new one, whatever happens. Throws FileError.
void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to);

/// Creates the directory and its parents where they are missing, durably. Throws FileError.
void make_directories(const std::filesystem::path& directory);

}  // namespace chunkstate
