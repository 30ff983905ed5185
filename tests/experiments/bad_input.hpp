// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "tests/catch.hpp"

namespace chunkstate {

/// A row of the catalogue of bad input: what is read and how that must end.
struct BadInput {
  int number;                  // in the catalogue
  std::function<void()> read;  // must throw
  std::string expected;        // a piece of the message
};

/// The same for what is read from a text.
struct BadText {
  int number;
  std::string text;
  std::string expected;
};

inline std::string repeated(const std::string& text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

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

/// AddressSanitizer keeps freed memory and takes its time, most of all to say where a process
/// crashed.
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

/// `read` of a file that this process may not read ends with one line that says so.
inline void check_forbidden(const std::string& path, int exit_code,
                            const std::function<void(const std::string& path)>& read) {
  REQUIRE(chmod(path.c_str(), 0) == 0);
  // Root may read everything, so it becomes somebody else for a moment.
  const bool is_root = geteuid() == 0;
  if (is_root) REQUIRE(seteuid(65534) == 0);
  std::string message;
  const int code = exit_code_of([&] { read(path); }, message);
  if (is_root) REQUIRE(seteuid(0) == 0);
  CHECK(code == exit_code);
  CHECK(message == path + ": cannot be opened: Permission denied");
}

/// One to four random changes: bytes gone, another byte, a stretch again, one of `pieces` put in.
inline void change_bytes(std::string& text, const std::vector<std::string>& pieces,
                         std::mt19937& random) {
  for (unsigned change = 0; change <= random() % 4; ++change) {
    const std::size_t at = random() % text.size();
    switch (random() % 4) {
      case 0:
        text.erase(at, 1 + random() % 20);
        break;
      case 1:
        text[at] = static_cast<char>(random());
        break;
      case 2:
        text.insert(at, text.substr(random() % text.size(), random() % 30));
        break;
      default:
        text.insert(at, pieces[random() % pieces.size()]);
        break;
    }
    if (text.empty()) text = pieces.front();
  }
}

/// `parse` takes each of many changed texts or throws Error; some of both.
template <class Error>
void check_changed_bytes(const std::vector<std::string>& texts,
                         const std::vector<std::string>& pieces, unsigned seed,
                         const std::function<void(const std::string& text)>& parse) {
  std::mt19937 random(seed);
  int accepted = 0;
  for (std::size_t round = 0; round < 4000; ++round) {
    std::string text = texts[round % texts.size()];
    change_bytes(text, pieces, random);
    INFO("round " << round << ":\n" << text);
    try {
      parse(text);
      ++accepted;
    } catch (const Error&) {
    }
  }
  CHECK(accepted > 0);
  CHECK(accepted < 4000);
}

}  // namespace chunkstate
