// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <ctime>
#include <functional>
#include <string>

#include "core/errors.hpp"
#include "tests/catch.hpp"

namespace chunkstate {

/// A row of the catalogue of bad input: what is read and how that must end.
struct BadInput {
  int number;                  // in the catalogue
  std::function<void()> read;  // must throw
  std::string expected;        // a piece of the message
};

/// Runs `read`; the exit code that its exception stands for, 0 if it threw none.
inline int exit_code_of(const std::function<void()>& read, std::string& message) {
  try {
    read();
  } catch (const UsageError& error) {
    message = error.what();
    return 64;
  } catch (const InputError& error) {
    message = error.what();
    return 65;
  }
  return 0;
}

/// AddressSanitizer keeps freed memory and takes its time.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool counts_memory = false;
inline constexpr double most_seconds = 10.0;
#else
inline constexpr bool counts_memory = true;
inline constexpr double most_seconds = 1.0;
#endif

/// Of this process on the CPU: a busy machine does not make a test fail.
inline double cpu_seconds() {
  return static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC);
}

inline std::int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * std::int64_t{1024};
}

/// One clear line with the right exit code, in under a second, in under 256 MB.
inline void check_bad_input(const BadInput& row, int exit_code) {
  INFO("catalogue item " << row.number << ", expected '" << row.expected << "'");
  const double start = cpu_seconds();
  std::string message;
  const int code = exit_code_of(row.read, message);
  const double seconds = cpu_seconds() - start;
  INFO("message: " << message);
  CHECK(code == exit_code);
  CHECK(message.find(row.expected) != std::string::npos);
  CHECK(message.size() < 700);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(seconds < most_seconds);
  if (counts_memory) CHECK(peak_memory_bytes() < std::int64_t{256} << 20);
}

}  // namespace chunkstate
