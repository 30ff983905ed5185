// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/checkpoint/model_config.hpp"
#include "core/tensor.hpp"
#include "kernels/ssd/variants.hpp"

namespace chunkstate {

/// Which scan a sequence is run with. A state belongs to one: it cannot change in mid-sequence.
struct SsdSettings {
  const SsdVariant* variant = nullptr;
  std::int64_t chunk_size = 256;
  std::int64_t lookback = 1;  // SsdSemantics::lookback only
};

/// Everything a batch of sequences remembers between forward passes: per mamba layer the
/// convolution's window and the SSD state, per attention layer the keys and values. All memory is
/// allocated at once.
class SequenceState {
 public:
  /// Room for `capacity` tokens of each of `batch` sequences. `dtype` stores windows, keys and
  /// values; `state_dtype` the SSD state. Starts reset. Throws std::bad_alloc.
  SequenceState(const ModelConfig& config, const Executor& exec, DType dtype, DType state_dtype,
                const SsdSettings& ssd, std::int64_t batch, std::int64_t capacity);

  /// Differs between all states of this process.
  std::uint64_t id() const { return id_; }
  std::int64_t batch() const { return static_cast<std::int64_t>(positions_.size()); }
  std::int64_t capacity() const { return capacity_; }
  const SsdSettings& ssd() const { return ssd_; }
  /// Tokens that a sequence has absorbed.
  std::int64_t position(std::int64_t sequence) const { return positions_.at(sequence); }
  void advance(std::int64_t sequence, std::int64_t tokens) { positions_.at(sequence) += tokens; }
  /// All sequences back to their start.
  void reset(const Executor& exec);
  /// This one back to its start.
  void reset(const Executor& exec, std::int64_t sequence);
  /// The same for another scan. False, and nothing done, if that needs other memory.
  bool restart(const Executor& exec, const SsdSettings& ssd);
  std::size_t bytes() const;

  /// The layer must be of the kind that has it.
  AnyView<3> conv_window(std::size_t layer) {
    return layers_[layer].conv_window.view<3>();
  }  // [batch, taps - 1, channels]
  AnyView<5> ssd_state(std::size_t layer) {
    return layers_[layer].ssd.view<5>();
  }  // [batch, slots, heads, head_dim, state_dim]
  AnyView<4> keys(std::size_t layer) {
    return layers_[layer].keys.view<4>();
  }  // [batch, capacity, kv_heads, head_dim]
  AnyView<4> values(std::size_t layer) { return layers_[layer].values.view<4>(); }

 private:
  struct Layer {
    Tensor conv_window;
    Tensor ssd;
    Tensor keys;
    Tensor values;
  };

  std::uint64_t id_;
  SsdSettings ssd_;
  std::int64_t capacity_;
  std::vector<std::int64_t> positions_;
  std::vector<Layer> layers_;
};

/// Bytes of one sequence's state, without allocating it: fixed part, and part per token of
/// capacity.
struct SequenceStateBytes {
  std::int64_t fixed = 0;
  std::int64_t per_token = 0;
};
SequenceStateBytes sequence_state_bytes(const ModelConfig& config, DType dtype, DType state_dtype,
                                        const SsdSettings& ssd);

}  // namespace chunkstate
