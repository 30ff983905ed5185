// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/spec/key_table.hpp"

namespace chunkstate {

/// A condition of `sweep.exclude`: comparisons `path ==|!=|<|<=|>|>= literal` joined by `and` and
/// `or` (`and` binds tighter), with optional parentheses: "ssm.variant == 'default' and
/// ssm.chunk_size <= 64". Texts stand in quotes and know == and != only.
class Condition {
 public:
  /// `place` is where the text stands. Throws UsageError with the position inside the text.
  Condition(const std::string& text, const Place& place);

  bool holds(const PointSettings& settings) const;

 private:
  friend class ConditionParser;
  enum class Operator : std::uint8_t {
    equal,
    unequal,
    less,
    at_most,
    greater,
    at_least,
    both,
    either
  };
  /// In postfix order: `both` and `either` join the two results before them.
  struct Step {
    Operator op = Operator::equal;
    const Key* key = nullptr;
    std::string text;   // literal of a text or a boolean
    double number = 0;  // literal of a number
  };

  std::vector<Step> steps_;
};

}  // namespace chunkstate
