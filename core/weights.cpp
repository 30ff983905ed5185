// SPDX-License-Identifier: Apache-2.0
#include "core/weights.hpp"

#include <cmath>

#include "kernels/base/memory.hpp"

namespace chunkstate {
namespace {

// Names that differ between the families' Hugging Face checkpoints.
struct FamilyNames {
  const char* mlp_norm;
  const char* mlp;
  const char* final_norm;
};

FamilyNames family_names(const std::string& family) {
  if (family == "bamba") return {"pre_ff_layernorm", "feed_forward", "model.final_layernorm"};
  return {"post_attention_layernorm", "mlp", "model.norm"};
}

// fp32 arithmetic is exact on any storage type; 16-bit arithmetic rounds wider weights, as
// transformers does when it loads a checkpoint in that type.
DType storage_type(DType file, DType compute) { return compute == DType::fp32 ? file : compute; }

}  // namespace

Weights::Weights(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                 Backend backend, DType dtype)
    : checkpoint_(std::move(checkpoint)), backend_(backend), dtype_(dtype) {
  if (config.family == "mamba1") {
    load_mamba1(config);
    return;
  }
  const FamilyNames names = family_names(config.family);
  embedding = matrix("model.embed_tokens.weight", config.vocab_size, config.hidden_size);
  streamed_bytes_ = 0;  // a pass reads single rows of the table only
  for (std::size_t i = 0; i < config.layers.size(); ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    LayerWeights layer;
    layer.kind = config.layers[i];
    layer.mixer_norm = vector(prefix + "input_layernorm.weight", config.hidden_size);
    if (layer.kind == LayerKind::mamba) {
      layer.mamba = mamba(config, prefix + "mamba.");
    } else {
      layer.attention = attention(config, prefix + "self_attn.");
    }
    layer.mlp_norm = vector(prefix + names.mlp_norm + ".weight", config.hidden_size);
    const std::string mlp = prefix + names.mlp;
    layer.mlp.gate =
        matrix(mlp + ".gate_proj.weight", config.intermediate_size, config.hidden_size);
    layer.mlp.up = matrix(mlp + ".up_proj.weight", config.intermediate_size, config.hidden_size);
    layer.mlp.down =
        matrix(mlp + ".down_proj.weight", config.hidden_size, config.intermediate_size);
    layers.push_back(layer);
  }
  final_norm = vector(std::string(names.final_norm) + ".weight", config.hidden_size);
  if (config.tie_word_embeddings) {
    lm_head = embedding;
    streamed_bytes_ += static_cast<double>(config.vocab_size * config.hidden_size) *
                       static_cast<double>(bytes_of(embedding.dtype));
  } else {
    lm_head = matrix("lm_head.weight", config.vocab_size, config.hidden_size);
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

ConstAnyView<1> Weights::vector(const std::string& name, std::int64_t size) {
  const CheckpointTensor tensor = checkpoint_->tensor(name, {size});
  const DType target = storage_type(tensor.dtype, dtype_);
  return {place(tensor, target), target, {size}};
}

ConstAnyView<2> Weights::matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
  const DType stored = checkpoint_->dtype(name);
  const DType target = storage_type(stored, dtype_);
  if (backend_ == Backend::cuda && stored == target) {
    Tensor device(backend_, target, {rows, columns});
    if (checkpoint_->make_on_device(name, {rows, columns}, Executor{backend_}, device.data())) {
      streamed_bytes_ += static_cast<double>(device.bytes());
      owned_bytes_ += device.bytes();
      owned_.push_back(std::move(device));
      return {owned_.back().data(), target, {rows, columns}};
    }
  }
  return {place(checkpoint_->tensor(name, {rows, columns}), target), target, {rows, columns}};
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
  owned_.emplace_back(backend_, DType::fp32, std::vector<std::int64_t>{size});
  Tensor& target = owned_.back();
  owned_bytes_ += target.bytes();
  copy_to_backend(Executor{backend_}, target.data(), values.data(), target.bytes());
  synchronize(Executor{backend_});
  return reinterpret_cast<const float*>(target.data());
}

const std::byte* Weights::place(const CheckpointTensor& tensor, DType target) {
  const std::int64_t elements = element_count(tensor.extents);
  streamed_bytes_ += static_cast<double>(elements) * static_cast<double>(bytes_of(target));
  if (backend_ != Backend::cuda && tensor.dtype == target) return tensor.data;

  const std::byte* source = tensor.data;
  Tensor converted;
  if (tensor.dtype != target) {
    converted = Tensor(Backend::cpu, target, {elements});
    const ConstAnyView<1> from{tensor.data, tensor.dtype, {elements}};
    const AnyView<1> to = converted.view<1>();
    for (std::int64_t i = 0; i < elements; ++i) to.store(from.load(i), i);
    source = converted.data();
  }
  if (backend_ == Backend::cuda) {
    Tensor device(Backend::cuda, target, {elements});
    copy_to_backend(Executor{Backend::cuda}, device.data(), source, device.bytes());
    synchronize(Executor{Backend::cuda});
    converted = std::move(device);
  }
  owned_bytes_ += converted.bytes();
  owned_.push_back(std::move(converted));
  return owned_.back().data();
}

}  // namespace chunkstate
