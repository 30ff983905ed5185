// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace chunkstate {

enum class Severity : std::uint8_t {
  ok,
  note,     // to know, nothing to mend
  warning,  // works, but slower, or not everywhere
  problem,  // must be mended
};

/// One line of `doctor`.
struct Finding {
  Severity severity = Severity::ok;
  std::string check;     // what was looked at: a word
  std::string found;     // and where
  std::string expected;  // empty if that was found
  std::string remedy;    // what to do
};
using Findings = std::vector<Finding>;

inline void append(Findings& to, Findings more) {
  for (Finding& finding : more) to.push_back(std::move(finding));
}

inline Severity worst(const Findings& findings) {
  Severity severity = Severity::ok;
  for (const Finding& finding : findings) severity = std::max(severity, finding.severity);
  return severity;
}

}  // namespace chunkstate
