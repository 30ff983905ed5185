// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/file_io.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <utility>

namespace chunkstate {
namespace {

/// The errno that `call` ended with, 0 if it worked; again while a signal interrupts it.
template <class Call>
int error_of(const Call& call) {
  while (call() != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

bool FileError::disk_full() const { return code().value() == ENOSPC || code().value() == EDQUOT; }

FileDescriptor::FileDescriptor(const std::filesystem::path& path, int flags, unsigned mode) {
  do {
    fd_ = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0) throw FileError(errno, path, "open");
}

FileDescriptor::FileDescriptor(FileDescriptor&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)) {}

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileDescriptor::~FileDescriptor() { close(); }

int FileDescriptor::close() {
  if (fd_ < 0) return 0;
  // Never again after EINTR: Linux has released the number, another thread may own it already.
  const int result = ::close(std::exchange(fd_, -1));
  return result == 0 || errno == EINTR ? 0 : errno;
}

int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (written == 0) return EIO;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

int sync_data(int fd) {
  return error_of([&] { return ::fdatasync(fd); });
}

int cut_file(int fd, std::int64_t bytes) {
  return error_of([&] { return ::ftruncate(fd, bytes); });
}

void sync_directory(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory.empty() ? "." : directory;
  const FileDescriptor fd(path, O_RDONLY | O_DIRECTORY);
  const int error = error_of([&] { return ::fsync(fd.get()); });
  // Some network file systems cannot sync a directory and say EINVAL; there is nothing better to
  // do.
  if (error != 0 && error != EINVAL) throw FileError(error, path, "fsync");
}

void make_directories(const std::filesystem::path& directory) {
  std::filesystem::path so_far;
  for (const auto& part : directory) {
    const std::filesystem::path parent = so_far;
    so_far /= part;
    const int error = ::mkdir(so_far.c_str(), 0777) == 0 ? 0 : errno;
    if (error == 0) {
      sync_directory(parent);
    } else if (!std::filesystem::is_directory(so_far)) {
      throw FileError(error, so_far, "mkdir");
    }
  }
}

void write_durably(const std::filesystem::path& path, std::string_view bytes,
                   const std::function<void()>& meanwhile) {
  FileDescriptor file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (const int error = write_all(file.get(), bytes); error != 0) {
    throw FileError(error, path, "write");
  }
  auto synced =
      std::async(std::launch::async, [&] { return error_of([&] { return ::fsync(file.get()); }); });
  if (meanwhile) meanwhile();
  if (const int error = synced.get(); error != 0) throw FileError(error, path, "fsync");
  if (const int error = file.close(); error != 0) throw FileError(error, path, "close");
}

void rename_durably(const std::filesystem::path& from, const std::filesystem::path& to) {
  std::error_code failed;
  std::filesystem::rename(from, to, failed);
  if (failed) throw FileError(failed.value(), to, "rename");
  sync_directory(to.has_parent_path() ? to.parent_path() : ".");
}

}  // namespace chunkstate
