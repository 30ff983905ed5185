// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "tests/catch.hpp"
#include "tests/core/input_builders.hpp"

// Bad model folders: every row ends with one clear line, as an InputError, in under a second.
namespace chunkstate {

/// What a row does in an empty folder.
using Action = std::function<void(const TemporaryFolder&)>;

struct BadModelRow {
  int item;  // of the bad-input catalogue; 0: beyond it
  const char* what;
  Action action;
  const char* message;  // a part of what the error must say
};

inline void run(const std::vector<BadModelRow>& rows) {
  for (const BadModelRow& row : rows) {
    INFO("item " << row.item << ": " << row.what);
    const TemporaryFolder folder;
    const std::clock_t begin = std::clock();  // of the processor: other processes do not count
    const std::string message = message_of<InputError>([&] { row.action(folder); });
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    CAPTURE(message);
    CHECK(contains(message, row.message));
    CHECK_FALSE(contains(message, "\n"));
    CHECK(message.size() < 600);
    CHECK(seconds < 1.0);
  }
}

inline const std::string lfs =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 19232664\n";

inline std::string repeated(const std::string& text, std::size_t count) {
  std::string result;
  for (std::size_t i = 0; i < count; ++i) result += text;
  return result;
}

}  // namespace chunkstate
