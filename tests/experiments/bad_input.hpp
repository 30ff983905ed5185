// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
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

/// AddressSanitizer keeps freed memory, so bounds on memory mean nothing under it.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool counts_memory = false;
#else
inline constexpr bool counts_memory = true;
#endif

inline std::int64_t peak_memory_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * std::int64_t{1024};
}

/// One clear line with the right exit code, in under a second, in under 256 MB.
inline void check_bad_input(const BadInput& row, int exit_code) {
  INFO("catalogue item " << row.number << ", expected '" << row.expected << "'");
  const auto start = std::chrono::steady_clock::now();
  std::string message;
  const int code = exit_code_of(row.read, message);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  INFO("message: " << message);
  CHECK(code == exit_code);
  CHECK(message.find(row.expected) != std::string::npos);
  CHECK(message.size() < 700);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(seconds.count() < 1.0);
  if (counts_memory) CHECK(peak_memory_bytes() < std::int64_t{256} << 20);
}

}  // namespace chunkstate
