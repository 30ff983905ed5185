// SPDX-License-Identifier: Apache-2.0
#include "core/input_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/errors.hpp"

namespace chunkstate {
namespace {

constexpr std::string_view lfs_pointer = "version https://git-lfs.github.com/spec/";

[[noreturn]] void fail_with_errno(const std::string& name, const char* what) {
  throw InputError(name + ": " + what + ": " + std::strerror(errno));
}

const char* kind_of(mode_t mode) {
  return S_ISDIR(mode)    ? "a directory"
         : S_ISFIFO(mode) ? "a FIFO"
         : S_ISCHR(mode)  ? "a character device"
         : S_ISBLK(mode)  ? "a block device"
         : S_ISSOCK(mode) ? "a socket"
                          : "not a regular file";
}

std::uint64_t regular_size(const struct stat& status, const std::string& name) {
  if (!S_ISREG(status.st_mode)) {
    throw InputError(name + ": is " + kind_of(status.st_mode) + ", expected a regular file");
  }
  return static_cast<std::uint64_t>(status.st_size);
}

class Descriptor {
 public:
  explicit Descriptor(const std::string& name) {
    struct stat status {};
    if (::stat(name.c_str(), &status) != 0) fail_with_errno(name, "cannot be read");
    regular_size(status, name);  // before opening: to open a device can have effects
    descriptor_ = ::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail_with_errno(name, "cannot be read");
  }
  ~Descriptor() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return descriptor_; }
  int release() { return std::exchange(descriptor_, -1); }

  std::uint64_t size(const std::string& name) const {
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0) fail_with_errno(name, "cannot be read");
    return regular_size(status, name);
  }

 private:
  int descriptor_ = -1;
};

void refuse_lfs_pointer(std::string_view bytes, const std::string& name) {
  if (bytes.substr(0, lfs_pointer.size()) == lfs_pointer) {
    throw InputError(name + ": is a Git LFS pointer (" + std::to_string(bytes.size()) +
                     " bytes of text), not the file itself; fetch it with `git lfs pull`");
  }
}

/// What the signal handler may read: written before `begin` is published.
struct GuardedRange {
  std::atomic<bool> taken{false};
  std::atomic<const char*> begin{nullptr};
  std::size_t size = 0;
  const char* name = nullptr;
};

std::array<GuardedRange, 1024> guarded_ranges;
struct sigaction previous_sigbus;

void handle_sigbus(int, siginfo_t* info, void*) {
  const auto* address = static_cast<const char*>(info->si_addr);
  for (const GuardedRange& range : guarded_ranges) {
    const char* begin = range.begin.load();
    if (begin == nullptr || address < begin || address >= begin + range.size) continue;
    constexpr std::string_view text = ": became shorter while it was in use\n";
    (void)!::write(STDERR_FILENO, range.name, std::strlen(range.name));
    (void)!::write(STDERR_FILENO, text.data(), text.size());
    ::_exit(65);
  }
  ::sigaction(SIGBUS, &previous_sigbus, nullptr);  // not ours: the access is repeated under it
}

int guard(const char* begin, std::size_t size, const char* name) {
  static std::once_flag installed;
  std::call_once(installed, [] {
    struct sigaction action {};
    action.sa_sigaction = handle_sigbus;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, &previous_sigbus);
  });
  for (std::size_t slot = 0; slot < guarded_ranges.size(); ++slot) {
    GuardedRange& range = guarded_ranges[slot];
    if (range.taken.exchange(true)) continue;
    range.size = size;
    range.name = name;
    range.begin.store(begin);
    return static_cast<int>(slot);
  }
  return -1;
}

void release_guard(int slot) {
  if (slot < 0) return;
  guarded_ranges[static_cast<std::size_t>(slot)].begin.store(nullptr);
  guarded_ranges[static_cast<std::size_t>(slot)].taken.store(false);
}

}  // namespace

std::string read_input_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const std::string name = path.string();
  const Descriptor file(name);
  const std::uint64_t size = file.size(name);
  if (size > max_bytes) {
    throw InputError(name + ": has " + std::to_string(size) + " bytes, expected at most " +
                     std::to_string(max_bytes));
  }
  std::string bytes(size, '\0');
  std::size_t filled = 0;
  while (filled < bytes.size()) {
    const ssize_t count = ::read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno(name, "cannot be read");
    if (count == 0) throw InputError(name + ": became shorter while it was read");
    filled += static_cast<std::size_t>(count);
  }
  refuse_lfs_pointer(bytes, name);
  return bytes;
}

MappedFile::MappedFile(const std::filesystem::path& path) : name_(path.string()) {
  Descriptor file(name_);
  size_ = file.size(name_);
  if (size_ > 0) {
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
    if (data == MAP_FAILED) fail_with_errno(name_, "cannot be mapped");
    data_ = static_cast<char*>(data);
  }
  try {
    refuse_lfs_pointer(bytes(), name_);
  } catch (...) {
    if (data_ != nullptr) ::munmap(data_, size_);
    throw;
  }
  if (data_ != nullptr) guard_slot_ = guard(data_, size_, name_.c_str());
  descriptor_ = file.release();
}

MappedFile::~MappedFile() {
  release_guard(guard_slot_);
  if (data_ != nullptr) ::munmap(data_, size_);
  ::close(descriptor_);
}

std::string MappedFile::identity() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail_with_errno(name_, "cannot be read");
  return std::to_string(status.st_dev) + ' ' + std::to_string(status.st_ino) + ' ' +
         std::to_string(status.st_size) + ' ' + std::to_string(status.st_mtim.tv_sec) + '.' +
         std::to_string(status.st_mtim.tv_nsec);
}

void MappedFile::check_size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail_with_errno(name_, "cannot be read");
  if (static_cast<std::uint64_t>(status.st_size) != size_) {
    throw InputError(name_ + ": changed its size from " + std::to_string(size_) + " to " +
                     std::to_string(status.st_size) + " bytes while it was in use");
  }
}

}  // namespace chunkstate
