// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The few macros of Catch2 that the kernels' device tests use, for machines with a GPU but without
// Catch2 and without a network to fetch it from.
namespace chunkstate::test::absent {

struct Case {
  const char* name;
  void (*body)();
};
inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}
struct Register {
  Register(const char* name, void (*body)()) { cases().push_back({name, body}); }
};

inline std::vector<std::string>& messages() {
  static std::vector<std::string> stack;
  return stack;
}
inline int& failures() {
  static int count = 0;
  return count;
}

/// What a failure in this scope prints beside itself.
class Message {
 public:
  template <class... Values>
  explicit Message(const char* names, const Values&... values) {
    std::ostringstream text;
    text << names << " = ";
    ((text << values << "; "), ...);
    messages().push_back(text.str());
  }
  ~Message() { messages().pop_back(); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
};

inline void fail(const char* file, int line, const std::string& what) {
  ++failures();
  std::printf("%s:%d: FAILED: %s\n", file, line, what.c_str());
  for (const std::string& message : messages()) std::printf("  %s\n", message.c_str());
}

inline void check(bool holds, const char* file, int line, const char* expression) {
  if (!holds) fail(file, line, expression);
}

}  // namespace chunkstate::test::absent

namespace Catch {

/// Runs every case whose name contains the first argument, if there is one.
class Session {
 public:
  int run(int argc, char** argv) {
    using namespace chunkstate::test::absent;
    int count = 0;
    for (const Case& one : cases()) {
      if (argc > 1 && std::string_view(one.name).find(argv[1]) == std::string_view::npos) continue;
      ++count;
      const int before = failures();
      try {
        one.body();
      } catch (const std::exception& error) {
        fail(one.name, 0, error.what());
      }
      std::printf("%s: %s\n", failures() == before ? "passed" : "FAILED", one.name);
      std::fflush(stdout);
    }
    std::printf("%d test cases, %d failed checks\n", count, failures());
    return failures() == 0 && count > 0 ? 0 : 1;
  }
};

}  // namespace Catch

#define CHUNKSTATE_JOIN2(a, b) a##b
#define CHUNKSTATE_JOIN(a, b) CHUNKSTATE_JOIN2(a, b)
#define CHUNKSTATE_CASE(name, body)                                                          \
  static void body();                                                                        \
  static const ::chunkstate::test::absent::Register CHUNKSTATE_JOIN(body, _at)(name, &body); \
  static void body()
#define TEST_CASE(name) CHUNKSTATE_CASE(name, CHUNKSTATE_JOIN(test_case_, __LINE__))
#define CHECK(...)                                                                      \
  ::chunkstate::test::absent::check(static_cast<bool>(__VA_ARGS__), __FILE__, __LINE__, \
                                    #__VA_ARGS__)
#define CAPTURE(...)                                                                          \
  const ::chunkstate::test::absent::Message CHUNKSTATE_JOIN(message_, __LINE__)(#__VA_ARGS__, \
                                                                                __VA_ARGS__)
