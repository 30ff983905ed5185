// SPDX-License-Identifier: Apache-2.0
#include "core/open_model.hpp"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "core/digest.hpp"
#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/mamba1.hpp"
#include "core/variant_names.hpp"

namespace chunkstate {
namespace {

constexpr std::string_view synthetic_prefix = "synthetic:";
constexpr std::uint64_t max_config_bytes = std::uint64_t{1} << 20;
constexpr std::uint64_t max_tokenizer_bytes = std::uint64_t{1} << 28;

}  // namespace

OpenModel open_model(const ModelSource& source) {
  OpenModel model;
  model.name = source.path;
  if (source.path.starts_with(synthetic_prefix)) {
    const std::string name = source.path.substr(synthetic_prefix.size());
    model.config = synthetic_model_config(name);
    model.checkpoint = make_synthetic_checkpoint(model.config, source.seed, source.dtype);
    model.shape_text = name;
    return model;
  }

  const std::filesystem::path folder = source.path;
  std::error_code unknown;  // a folder that may not be looked into: config.json says why
  if (std::filesystem::status(folder, unknown).type() == std::filesystem::file_type::not_found) {
    const auto known = synthetic_model_names();
    const bool synthetic = std::find(known.begin(), known.end(), source.path) != known.end();
    throw InputError(source.path + ": no such folder" +
                     (synthetic ? " (did you mean 'synthetic:" + source.path + "'?)"
                                : ", expected a Hugging Face folder or synthetic:NAME"));
  }
  const std::filesystem::path config_file = folder / "config.json";
  model.shape_text = read_input_file(config_file, max_config_bytes);
  model.config = parse_model_config(model.shape_text, config_file.string());
  model.checkpoint = source.synthetic_weights
                         ? make_synthetic_checkpoint(model.config, source.seed, source.dtype)
                         : open_safetensors(folder);
  if (!source.synthetic_weights) check_weights(*model.checkpoint, model.config);
  std::string& tokenizer_json = model.tokenizer_text.emplace();
  const std::filesystem::path tokenizer_file = folder / "tokenizer.json";
  if (std::filesystem::exists(tokenizer_file)) {
    tokenizer_json = read_input_file(tokenizer_file, max_tokenizer_bytes);
    model.tokenizer.emplace(tokenizer_json, tokenizer_file.string(), model.config.vocab_size);
  }
  return model;
}

const std::string& OpenModel::digest() const {
  if (digest_.empty()) {
    Digest all;
    all.text(shape_text).text(checkpoint->digest());
    if (tokenizer_text) all.text(*tokenizer_text);
    digest_ = all.hex();
  }
  return digest_;
}

std::vector<std::int32_t> OpenModel::encode_prompt(const std::string& text,
                                                   std::int64_t stated_tokens) const {
  if (tokenizer) return tokenizer->encode(text, true);
  const std::int64_t tokens =
      stated_tokens > 0 ? stated_tokens : static_cast<std::int64_t>(text.size() + 3) / 4;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const XXH64_hash_t hash = XXH3_64bits_withSeed(text.data(), text.size(), i);
    ids[i] = static_cast<std::int32_t>(hash % static_cast<std::uint64_t>(config.vocab_size));
  }
  return ids;
}

std::string OpenModel::decode(std::span<const std::int32_t> ids) const {
  if (tokenizer) return tokenizer->decode(ids);
  std::string text;
  for (const std::int32_t id : ids) text += (text.empty() ? "" : " ") + std::to_string(id);
  return text;
}

std::vector<std::int32_t> OpenModel::stop_tokens() const {
  return tokenizer ? tokenizer->end_of_text() : std::vector<std::int32_t>{};
}

SsdSettings ssd_settings(const std::string& variant, std::int64_t chunk_size, std::int64_t lookback,
                         const ModelConfig& config) {
  SsdSettings settings;
  const bool mamba1 = config.family == "mamba1";
  settings.variant = mamba1 ? find_mamba1_variant(variant) : find_ssd_variant(variant);
  if (settings.variant == nullptr) {
    std::string known;
    for (const std::string& name : mamba1 ? selective_scan_variant_names() : ssd_variant_names()) {
      known += (known.empty() ? "" : ", ") + name;
    }
    const bool other = !mamba1 && find_mamba1_variant(variant) != nullptr;
    throw UsageError("unknown " + std::string(mamba1 ? "Mamba-1" : "SSD") + " variant '" + variant +
                     "'" + (other ? " (it is one of family mamba1)" : "") + "; known: " + known);
  }
  if (chunk_size < 0) {
    throw UsageError("chunk size: found " + std::to_string(chunk_size) +
                     ", expected 1 or more, or 0 for the model's own");
  }
  if (lookback < 0) {
    throw UsageError("lookback: found " + std::to_string(lookback) + ", expected at least 0");
  }
  settings.chunk_size = chunk_size > 0 ? chunk_size : config.chunk_size;
  settings.lookback = lookback;
  return settings;
}

}  // namespace chunkstate
