// SPDX-License-Identifier: Apache-2.0
#include "core/sequence_state.hpp"

#include <algorithm>
#include <atomic>

#include "kernels/base/memory.hpp"

namespace chunkstate {
namespace {

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

SequenceState::SequenceState(const ModelConfig& config, const Executor& exec, DType dtype,
                             DType state_dtype, const SsdSettings& ssd, std::int64_t batch,
                             std::int64_t capacity)
    : id_(next_id()),
      ssd_(ssd),
      capacity_(capacity),
      positions_(static_cast<std::size_t>(batch), 0) {
  const std::int64_t slots = state_slots(*ssd.variant, ssd.lookback);
  for (const LayerKind kind : config.layers) {
    Layer layer;
    if (kind == LayerKind::mamba) {
      layer.conv_window =
          Tensor(exec.backend, dtype, {batch, config.conv_taps - 1, config.conv_channels()});
      layer.ssd =
          Tensor(exec.backend, state_dtype,
                 {batch, slots, config.mamba_heads, config.mamba_head_dim, config.state_dim});
    } else {
      const std::vector<std::int64_t> extents = {batch, capacity, config.kv_heads,
                                                 config.attention_head_dim};
      layer.keys = Tensor(exec.backend, dtype, extents);
      layer.values = Tensor(exec.backend, dtype, extents);
    }
    layers_.push_back(std::move(layer));
  }
  reset(exec);
}

void SequenceState::reset(const Executor& exec) {
  std::fill(positions_.begin(), positions_.end(), 0);
  for (Layer& layer : layers_) {  // keys and values beyond the position are never read
    fill_zero(exec, layer.conv_window.data(), layer.conv_window.bytes());
    fill_zero(exec, layer.ssd.data(), layer.ssd.bytes());
  }
}

void SequenceState::reset(const Executor& exec, std::int64_t sequence) {
  positions_.at(static_cast<std::size_t>(sequence)) = 0;
  const auto clear = [&](Tensor& all) {  // a sequence's part lies in one piece
    const std::size_t bytes = all.bytes() / positions_.size();
    fill_zero(exec, all.data() + static_cast<std::size_t>(sequence) * bytes, bytes);
  };
  for (Layer& layer : layers_) {
    clear(layer.conv_window);
    clear(layer.ssd);
  }
}

bool SequenceState::restart(const Executor& exec, const SsdSettings& ssd) {
  if (state_slots(*ssd.variant, ssd.lookback) != state_slots(*ssd_.variant, ssd_.lookback)) {
    return false;
  }
  ssd_ = ssd;
  reset(exec);
  return true;
}

std::size_t SequenceState::bytes() const {
  std::size_t total = 0;
  for (const Layer& layer : layers_) {
    total +=
        layer.conv_window.bytes() + layer.ssd.bytes() + layer.keys.bytes() + layer.values.bytes();
  }
  return total;
}

SequenceStateBytes sequence_state_bytes(const ModelConfig& config, DType dtype, DType state_dtype,
                                        const SsdSettings& ssd) {
  const auto size = static_cast<std::int64_t>(bytes_of(dtype));
  const auto state_size = static_cast<std::int64_t>(bytes_of(state_dtype));
  SequenceStateBytes result;
  for (const LayerKind kind : config.layers) {
    if (kind == LayerKind::mamba) {
      result.fixed += (config.conv_taps - 1) * config.conv_channels() * size;
      result.fixed += state_slots(*ssd.variant, ssd.lookback) * config.mamba_heads *
                      config.mamba_head_dim * config.state_dim * state_size;
    } else {
      result.per_token += 2 * config.kv_heads * config.attention_head_dim * size;
    }
  }
  return result;
}

}  // namespace chunkstate
