// SPDX-License-Identifier: Apache-2.0
#include "core/weights.hpp"

#include <cmath>

#include "core/checkpoint/tensor_names.hpp"
#include "kernels/base/memory.hpp"

namespace chunkstate {
namespace {

// fp32 arithmetic is exact on any storage type; 16-bit arithmetic rounds wider weights, as
// transformers does when it loads a checkpoint in that type.
DType storage_type(DType file, DType compute) { return compute == DType::fp32 ? file : compute; }

// What kernels may rely on where a matrix starts: that of an allocation.
constexpr std::size_t device_alignment = 256;

/// On the host.
Tensor convert(const CheckpointTensor& tensor, DType target) {
  const std::int64_t elements = element_count(tensor.extents);
  Tensor converted(Backend::cpu, target, {elements});
  const ConstAnyView<1> from{tensor.data, tensor.dtype, {elements}};
  const AnyView<1> to = converted.view<1>();
  for (std::int64_t i = 0; i < elements; ++i) to.store(from.load(i), i);
  return converted;
}

}  // namespace

Weights::Weights(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                 Backend backend, DType dtype, const Range& vocab)
    : checkpoint_(std::move(checkpoint)), backend_(backend), dtype_(dtype) {
  if (config.family == "mamba1") {
    load_mamba1(config);
    return;
  }
  const TensorNames names = tensor_names(config.family);
  embedding = matrix(names.embedding, config.vocab_size, config.hidden_size);
  streamed_bytes_ = 0;  // a pass reads single rows of the table only
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string prefix = names.layers + std::to_string(i) + ".";
    LayerWeights layer;
    layer.kind = config.layers[i];
    layer.mixer_norm = vector(prefix + names.mixer_norm, config.hidden_size);
    if (layer.kind == LayerKind::mamba) {
      layer.mamba = mamba(config, prefix + names.mamba);
    } else {
      layer.attention = attention(config, prefix + names.attention);
    }
    if (config.has_mlp()) {
      layer.mlp_norm = vector(prefix + names.mlp_norm, config.hidden_size);
      layer.mlp = mlp(config, prefix, names);
    }
    layers.push_back(layer);
  }
  final_norm = vector(names.final_norm, config.hidden_size);
  if (config.tie_word_embeddings) {
    lm_head = embedding.slice(0, vocab.begin, vocab.end);
    streamed_bytes_ += static_cast<double>(vocab.size() * config.hidden_size) *
                       static_cast<double>(bytes_of(embedding.dtype));
  } else {
    lm_head = matrix("lm_head.weight", vocab.size(), config.hidden_size);
  }
}

MambaWeights Weights::mamba(const ModelConfig& config, const std::string& prefix) {
  MambaWeights w;
  w.in_proj = matrix(prefix + "in_proj.weight", config.in_proj_size(), config.hidden_size);
  w.out_proj = matrix(prefix + "out_proj.weight", config.hidden_size, config.inner_size());
  if (config.projection_bias) {
    w.in_proj_bias = vector(prefix + "in_proj.bias", config.in_proj_size());
    w.out_proj_bias = vector(prefix + "out_proj.bias", config.hidden_size);
  }
  w.conv = conv_matrix(prefix + "conv1d.weight", config.conv_channels(), config.conv_taps);
  if (config.conv_bias) w.conv_bias = vector(prefix + "conv1d.bias", config.conv_channels());
  w.A = small_fp32(prefix + "A_log", config.mamba_heads, true);
  w.dt_bias = small_fp32(prefix + "dt_bias", config.mamba_heads, false);
  w.D = small_fp32(prefix + "D", config.mamba_heads, false);
  w.norm = vector(prefix + "norm.weight", config.inner_size());
  return w;
}

AttentionWeights Weights::attention(const ModelConfig& config, const std::string& prefix) {
  const std::int64_t q_size = config.attention_heads * config.attention_head_dim;
  const std::int64_t kv_size = config.kv_heads * config.attention_head_dim;
  AttentionWeights w;
  w.q = matrix(prefix + "q_proj.weight", q_size, config.hidden_size);
  w.k = matrix(prefix + "k_proj.weight", kv_size, config.hidden_size);
  w.v = matrix(prefix + "v_proj.weight", kv_size, config.hidden_size);
  w.o = matrix(prefix + "o_proj.weight", config.hidden_size, q_size);
  return w;
}

// Gate and up lie in one block in some files, and on a GPU, so that one product makes both.
MlpWeights Weights::mlp(const ModelConfig& config, const std::string& prefix,
                        const TensorNames& names) {
  const std::int64_t channels = config.intermediate_size, hidden = config.hidden_size;
  MlpWeights w;
  w.down = matrix(prefix + names.down, hidden, channels);
  if (*names.gate_and_up != 0) {
    w.gate_up = matrix(prefix + names.gate_and_up, 2 * channels, hidden);
  } else {
    const std::string gate = prefix + names.gate, up = prefix + names.up;
    const DType target = storage_type(checkpoint_->dtype(gate), dtype_);
    const std::size_t half = static_cast<std::size_t>(channels * hidden) * bytes_of(target);
    if (backend_ != Backend::cuda || storage_type(checkpoint_->dtype(up), dtype_) != target ||
        half % device_alignment != 0) {
      w.gate = matrix(gate, channels, hidden);
      w.up = matrix(up, channels, hidden);
      return w;
    }
    std::byte* const both = own(target, {2 * channels, hidden});
    put_on_device(gate, {channels, hidden}, target, both);
    put_on_device(up, {channels, hidden}, target, both + half);
    w.gate_up = {both, target, {2 * channels, hidden}};
  }
  w.gate = w.gate_up.slice(0, 0, channels);
  w.up = w.gate_up.slice(0, channels, 2 * channels);
  return w;
}

ConstAnyView<1> Weights::vector(const std::string& name, std::int64_t size) {
  const CheckpointTensor tensor = checkpoint_->tensor(name, {size});
  const DType target = storage_type(tensor.dtype, dtype_);
  return {place(tensor, target), target, {size}};
}

ConstAnyView<2> Weights::matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const DType target = storage_type(checkpoint_->dtype(name), dtype_);
  if (backend_ != Backend::cuda) {
    return {place(checkpoint_->tensor(name, {rows, columns}), target), target, {rows, columns}};
  }
  std::byte* const device = own(target, {rows, columns});
  put_on_device(name, {rows, columns}, target, device);
  return {device, target, {rows, columns}};
}

ConstAnyView<2> Weights::conv_matrix(const std::string& name, std::int64_t channels,
                                     std::int64_t taps) {
  const CheckpointTensor tensor = checkpoint_->tensor(name, {channels, 1, taps});
  const DType target = storage_type(tensor.dtype, dtype_);
  return {place(tensor, target), target, {channels, taps}};
}

View<const float, 1> Weights::small_fp32(const std::string& name, std::int64_t size,
                                         bool negate_exp) {
  return {fp32_values(name, {size}, negate_exp), {size}};
}

const float* Weights::fp32_values(const std::string& name, const std::vector<std::int64_t>& extents,
                                  bool negate_exp) {
  const CheckpointTensor tensor = checkpoint_->tensor(name, extents);
  const std::int64_t size = element_count(extents);
  const ConstAnyView<1> source{tensor.data, tensor.dtype, {size}};
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::int64_t i = 0; i < size; ++i) {
    float value = source.load(i);
    // A 16-bit model rounds these to its type first and computes on in fp32, as transformers does.
    value = dispatch(storage_type(tensor.dtype, dtype_),
                     [&](auto tag) { return to_float(from_float<decltype(tag)>(value)); });
    values[static_cast<std::size_t>(i)] = negate_exp ? -std::exp(value) : value;
  }
  std::byte* const target = own(DType::fp32, {size});
  copy_to_backend(Executor{backend_}, target, values.data(), values.size() * sizeof(float));
  synchronize(Executor{backend_});
  return reinterpret_cast<const float*>(target);
}

std::byte* Weights::own(DType dtype, const std::vector<std::int64_t>& extents) {
  owned_.emplace_back(backend_, dtype, extents);
  owned_bytes_ += owned_.back().bytes();
  return owned_.back().data();
}

void Weights::put_on_device(const std::string& name, const std::vector<std::int64_t>& extents,
                            DType target, std::byte* device) {
  const Executor exec{backend_};
  const std::int64_t elements = element_count(extents);
  const auto bytes = static_cast<std::size_t>(elements) * bytes_of(target);
  streamed_bytes_ += static_cast<double>(bytes);
  if (checkpoint_->dtype(name) == target &&
      checkpoint_->make_on_device(name, extents, exec, device)) {
    return;
  }
  const CheckpointTensor tensor = checkpoint_->tensor(name, extents);
  const Tensor converted = tensor.dtype == target ? Tensor() : convert(tensor, target);
  copy_to_backend(exec, device, converted ? converted.data() : tensor.data, bytes);
  synchronize(exec);
}

const std::byte* Weights::place(const CheckpointTensor& tensor, DType target) {
  if (backend_ == Backend::cuda) {
    std::byte* const device = own(target, tensor.extents);
    put_on_device(tensor.name, tensor.extents, target, device);
    return device;
  }
  const std::int64_t elements = element_count(tensor.extents);
  streamed_bytes_ += static_cast<double>(elements) * static_cast<double>(bytes_of(target));
  if (tensor.dtype == target) return tensor.data;
  owned_.push_back(convert(tensor, target));
  owned_bytes_ += owned_.back().bytes();
  return owned_.back().data();
}

}  // namespace chunkstate
