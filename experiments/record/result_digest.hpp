// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "core/digest.hpp"
#include "experiments/record/request_record.hpp"
#include "experiments/spec/prompt_set.hpp"

namespace chunkstate {

/// "class" of "class: message": messages may name addresses or sizes, so only the class is
/// digested.
std::string error_class(const std::string& error);

/// 32 hex digits of what came out of a request: status, error class, tokens in, token ids,
/// log-probabilities (bit for bit), text, stop reason, flops, bytes moved. No times, no resources,
/// no ranks.
std::string result_digest(const RequestRecord& record);

/// The content digest of a whole experiment: the same whatever the number of ranks, threads and
/// interruptions. Add the requests sorted by point, prompt, repeat.
class ContentDigest {
 public:
  ContentDigest(const std::string& config_hash, const std::string& yaml_resolved,
                std::span<const std::string> model_digest_per_point, const PromptSet& prompts);
  void add(const RequestRecord& record);
  std::string hex() const { return digest_.hex(); }

 private:
  Digest digest_;
};

}  // namespace chunkstate
