// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "experiments/spec/byte_reader.hpp"
#include "experiments/spec/prompt_set.hpp"

namespace chunkstate {

/// Collects prompts and checks what concerns several of them.
class PromptCollector {
 public:
  PromptCollector(std::string file, std::int64_t limit) : file_(std::move(file)), limit_(limit) {}

  /// Names the prompt if it has no id. Throws InputError.
  void add(Prompt prompt, std::int64_t line);
  bool is_full() const { return limit_ > 0 && size() == limit_; }
  std::int64_t size() const { return static_cast<std::int64_t>(prompts_.size()); }
  std::vector<Prompt> take() { return std::move(prompts_); }

  /// Throws InputError "file:line: item n: message" about the next prompt.
  [[noreturn]] void fail(std::int64_t line, const std::string& message) const;

 private:
  std::string file_;
  std::int64_t limit_;
  std::vector<Prompt> prompts_;
  std::unordered_map<std::string, std::int64_t> item_of_id_;
  std::unordered_set<std::string> extra_names_;
};

/// Reads `[{...}, ...]` until the end or until `prompts` is full. Throws InputError.
void read_prompt_list(ByteReader& bytes, PromptCollector& prompts);

/// Reads one line of JSON Lines. Throws InputError.
void read_prompt_line(const std::string& text, std::int64_t line, PromptCollector& prompts);

}  // namespace chunkstate
