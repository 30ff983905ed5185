// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/isolated.hpp"

#include <unistd.h>

#include <csignal>
#include <new>
#include <vector>

#include "tests/catch.hpp"

using namespace chunkstate;

namespace {
constexpr std::int64_t mebibyte = std::int64_t{1} << 20;
}

TEST_CASE("a child's text comes back, longer than a pipe holds") {
  const std::string text(300000, 'x');
  const IsolatedResult result = run_isolated([&] { return text; }, {64 * mebibyte, 20, 20});
  CHECK((result.text == text));
  CHECK(result.failure.empty());
}

TEST_CASE("a child that crashes or hangs is told from one that works") {
  const auto failure_of = [](int (*end)(), const IsolatedLimits& limits = {64 * mebibyte, 60, 60}) {
    return run_isolated([&] { return std::to_string(end()); }, limits).failure;
  };
  CHECK(failure_of([] { return raise(SIGSEGV); }).find("signal 11") == 0);
  CHECK(failure_of([] { return pause(); }, {64 * mebibyte, 60, 1}) == "time limit of 1 s");
  const auto loop = []() -> int {
    for (volatile unsigned turns = 0;;) turns = turns + 1;
  };
  CHECK(failure_of(loop, {64 * mebibyte, 1, 60}) == "processor time limit of 1 s");
  CHECK(failure_of([]() -> int { _exit(3); }) == "exit code 3");
}

#ifndef __SANITIZE_ADDRESS__
TEST_CASE("a child cannot take more memory than it is given") {
  const auto take = [](std::size_t bytes) {
    return [bytes]() -> std::string {
      try {
        const std::vector<char> memory(bytes, 'x');
        return memory.back() == 'x' ? "taken" : "";
      } catch (const std::bad_alloc&) {
        return "refused";
      }
    };
  };
  CHECK(run_isolated(take(16 * mebibyte), {64 * mebibyte, 20, 20}).text == "taken");
  CHECK(run_isolated(take(256 * mebibyte), {64 * mebibyte, 20, 20}).text == "refused");
}
#endif
