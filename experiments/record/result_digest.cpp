// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/result_digest.hpp"

#include <limits>

#include "experiments/record/checksum.hpp"

namespace chunkstate {
namespace {

/// Texts are nearly always canonical as they are.
void add_text(Digest& digest, const std::string& text) {
  if (is_canonical(text)) {
    digest.text(text);
  } else {
    digest.text(canonical_text(text));
  }
}

void add_result(Digest& digest, const RequestRecord& record) {
  digest.integer(static_cast<int>(record.status));
  add_text(digest, error_class(record.error));
  digest.integer(record.tokens_in);
  add_text(digest, record.stop_reason);
  add_text(digest, record.text);
  digest.integer(record.tokens_out());
  for (const std::int32_t token : record.token_ids) digest.integer(token);
  for (std::size_t i = 0; i < record.token_ids.size(); ++i) {
    digest.real(i < record.logprobs.size() ? record.logprobs[i]
                                           : std::numeric_limits<float>::quiet_NaN());
  }
  digest.real(record.flops).real(record.bytes_moved);
}

}  // namespace

std::string error_class(const std::string& error) { return error.substr(0, error.find(": ")); }

std::string result_digest(const RequestRecord& record) {
  Digest digest;
  add_result(digest, record);
  return digest.hex();
}

ContentDigest::ContentDigest(const std::string& config_hash, const std::string& yaml_resolved,
                             std::span<const std::string> model_digest_per_point,
                             const PromptSet& prompts) {
  digest_.text("chunkstate content 1").text(config_hash).text(canonical_text(yaml_resolved));
  digest_.integer(static_cast<std::int64_t>(model_digest_per_point.size()));
  for (const std::string& model : model_digest_per_point) digest_.text(model);
  digest_.text(prompts.digest).integer(static_cast<std::int64_t>(prompts.prompts.size()));
  for (const Prompt& prompt : prompts.prompts) {
    digest_.text(canonical_text(prompt.id))
        .text(canonical_text(prompt.text))
        .text(canonical_text(prompt.answer));
  }
}

void ContentDigest::add(const RequestRecord& record) {
  digest_.text(record.item_id).integer(record.point).integer(record.prompt).integer(record.repeat);
  add_result(digest_, record);
  if (record.evaluation) digest_.text(evaluation_digest(*record.evaluation));
}

}  // namespace chunkstate
