// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint.hpp"
#include "core/checkpoint/model_config.hpp"
#include "core/sequence_state.hpp"
#include "core/tokenizer/tokenizer.hpp"

namespace chunkstate {

struct ModelSource {
  std::string path;                // a Hugging Face folder, or "synthetic:NAME"
  bool synthetic_weights = false;  // the folder's shape with seeded weights
  std::uint64_t seed = 0;          // of synthetic weights
  DType dtype = DType::bf16;       // storage of synthetic weights
};

/// A model's files, opened and validated; no weights are converted or copied yet.
struct OpenModel {
  std::string name;  // ModelSource::path
  ModelConfig config;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::optional<Tokenizer> tokenizer;  // synthetic models have none

  /// 32 hex digits of shape, weights and tokenizer. The first call reads all weights, unless the
  /// checkpoint knows its digest; one thread at a time.
  const std::string& digest() const;

  /// Ids of a prompt, begin_of_text included. A model without a tokenizer has random weights
  /// anyway: its prompts become `stated_tokens` ids drawn from the text's hash (one per four bytes
  /// if not stated, < 0).
  std::vector<std::int32_t> encode_prompt(const std::string& text,
                                          std::int64_t stated_tokens) const;

  /// The text of generated ids; without a tokenizer the ids themselves, separated by blanks.
  std::string decode(std::span<const std::int32_t> ids) const;

  /// Ids that end a text: the tokenizer's, not config.json's, which is wrong in published
  /// checkpoints.
  std::vector<std::int32_t> stop_tokens() const;

  /// What digest() adds before and behind the weights: config.json or a synthetic model's name, and
  /// tokenizer.json.
  std::string shape_text;
  std::optional<std::string> tokenizer_text;

 private:
  mutable std::string digest_;
};

/// Throws InputError, UsageError.
OpenModel open_model(const ModelSource& source);

/// The variant by name with the model's own chunk size for chunk_size 0. Throws UsageError that
/// lists the names.
SsdSettings ssd_settings(const std::string& variant, std::int64_t chunk_size, std::int64_t lookback,
                         const ModelConfig& config);

}  // namespace chunkstate
