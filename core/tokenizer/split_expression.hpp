// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace chunkstate {

/// What one thread needs to run split expressions.
class SplitScratch {
 public:
  SplitScratch();
  ~SplitScratch();
  SplitScratch(const SplitScratch&) = delete;
  SplitScratch& operator=(const SplitScratch&) = delete;

 private:
  friend class SplitExpression;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The regular expression that cuts a text into pieces before byte-pair merging.
///
/// The tokenizers that wrote it run it with Oniguruma; here PCRE2 does. What means the same to both
/// is accepted (\s is rewritten to Unicode White_Space), what does not is refused by name: \w \b
/// \h, nested classes, (?m), {n}+.
class SplitExpression {
 public:
  /// `place` precedes messages. Throws InputError.
  SplitExpression(std::string_view pattern, const std::string& place);
  ~SplitExpression();
  SplitExpression(SplitExpression&&) noexcept;
  SplitExpression& operator=(SplitExpression&&) noexcept;

  /// Appends the end offset of every piece of `text`: matches, and what lies between them. `text`
  /// is valid UTF-8. Throws InputError if a match takes too many steps (catastrophic backtracking).
  void split(std::string_view text, SplitScratch& scratch, std::vector<std::size_t>& ends) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// `pattern`, written for Oniguruma's Ruby syntax, for PCRE2. Throws InputError.
std::string translate_expression(std::string_view pattern, const std::string& place);

}  // namespace chunkstate
