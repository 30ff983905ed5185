// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace chunkstate {

/// An instruction with the place of the given text: "Source: {given}\nSummary: ".
struct JudgeTemplate {
  std::string before;  // the part before {given}
  std::string after;   // the part after it; the scored text follows
};

/// Throws UsageError unless `text` has `{given}` exactly once.
JudgeTemplate parse_judge_template(const std::string& text);

}  // namespace chunkstate
