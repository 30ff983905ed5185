// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/errors.hpp"

namespace chunkstate {
namespace {

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

[[noreturn]] void fail(const std::string& path, const std::string& reason) {
  throw InputError((path.empty() ? "''" : path) + ": " + reason);
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  // open() would cut the name at the NUL and read another file.
  if (path.find('\0') != std::string::npos) fail(path.c_str(), "the path holds a NUL byte");
  // O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor_ < 0) fail(path, std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    fail(path, std::string("found ") + kind_of(status.st_mode) + ", expected a regular file");
  }
}

InputFile::~InputFile() { close(descriptor_); }

std::size_t InputFile::read(char* buffer, std::size_t capacity) {
  for (;;) {
    const ssize_t count = ::read(descriptor_, buffer, capacity);
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno != EINTR) fail(path_, std::string("cannot be read: ") + std::strerror(errno));
  }
}

}  // namespace chunkstate
