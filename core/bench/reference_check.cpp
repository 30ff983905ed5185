// SPDX-License-Identifier: Apache-2.0
#include "core/bench/reference_check.hpp"

#include <algorithm>

#include "core/bench/bench_tools.hpp"
#include "core/cost.hpp"

namespace chunkstate {
namespace {

constexpr std::int64_t checked_tokens = 4;
constexpr double most_flops = 4e9;  // of plain loops in double

std::int64_t checked_layers(ModelConfig config, const SsdSettings& ssd, std::int64_t layers) {
  const auto kinds = config.layers;
  std::int64_t count = layers > 0 ? layers : static_cast<std::int64_t>(kinds.size());
  for (; count > 1; --count) {
    config.layers.assign(kinds.begin(), kinds.begin() + count);
    if (forward_cost(config, {}, ssd, 0, checked_tokens, 1).flops <= most_flops) break;
  }
  return count;
}

ModelOptions cut(ModelOptions options, const ModelConfig& config, const SsdSettings& ssd) {
  options.layers = checked_layers(config, ssd, options.layers);
  options.tensor_group = nullptr;
  return options;
}

std::vector<std::int32_t> checked_ids(const ModelConfig& config) {
  std::vector<std::int32_t> ids;
  for (std::int64_t t = 0; t < checked_tokens; ++t) {
    ids.push_back(static_cast<std::int32_t>((37 * t + 5) % config.vocab_size));
  }
  return ids;
}

std::vector<float> prefill_logits(Model& model, const SsdSettings& ssd) {
  SequenceState state = model.make_state(ssd, 1, checked_tokens);
  std::vector<float> logits;
  model.prefill(checked_ids(model.config()), state, 0, 0, LogitsRows::last,
                [&](std::int64_t, std::int64_t, View<const float, 2> rows) {
                  logits.assign(rows.data, rows.data + rows.extent[1]);
                });
  return logits;
}

// Of the last sequence.
std::vector<float> step_logits(Model& model, const SsdSettings& ssd, std::int64_t batch) {
  SequenceState state = model.make_state(ssd, batch, checked_tokens);
  const std::vector<std::int32_t> ids = checked_ids(model.config());
  for (std::int64_t b = 0; b < batch; ++b) {
    model.prefill(std::span(ids).first(ids.size() - 1), state, b, 0, LogitsRows::none);
  }
  std::vector<float> logits;
  if (model.has_decoder(state)) {
    Decoder& decoder = model.decoder(state);
    decoder.start(state, std::vector<std::int32_t>(static_cast<std::size_t>(batch), ids.back()));
    decoder.launch();
    decoder.collect();
    const View<const float, 2> rows = decoder.logits();
    logits.assign(&rows(batch - 1, 0), &rows(batch - 1, 0) + rows.extent[1]);
    return logits;
  }
  const std::vector<std::span<const std::int32_t>> step(static_cast<std::size_t>(batch),
                                                        std::span(ids).last(1));
  model.forward(step, state, LogitsRows::last,
                [&](std::int64_t, std::int64_t, View<const float, 2> rows) {
                  logits.assign(rows.data, rows.data + rows.extent[1]);
                });
  return logits;
}

double error_of(const std::vector<float>& found, const std::vector<float>& expected) {
  const auto flat = [](const std::vector<float>& logits) {
    return ConstAnyView<1>(reinterpret_cast<const std::byte*>(logits.data()), DType::fp32,
                           {static_cast<std::int64_t>(logits.size())});
  };
  return relative_error(flat(found), flat(expected));
}

}  // namespace

ReferenceCheck::ReferenceCheck(const ModelConfig& config,
                               std::shared_ptr<const Checkpoint> checkpoint, ModelOptions options,
                               const SsdSettings& ssd)
    : ssd_(ssd), engine_(config, checkpoint, cut(options, config, ssd)) {
  ModelOptions exact;
  exact.backend = Backend::reference;
  exact.layers = layers();
  exact.execution.attention = options.execution.attention;
  Model reference(config, std::move(checkpoint), exact);
  expected_ = prefill_logits(reference, ssd);
}

std::int64_t ReferenceCheck::tokens() const { return checked_tokens; }

double ReferenceCheck::prefill_error() {
  return error_of(prefill_logits(engine_, ssd_), expected_);
}

double ReferenceCheck::decode_error(std::int64_t batch) {
  return error_of(step_logits(engine_, ssd_, batch), expected_);
}

}  // namespace chunkstate
