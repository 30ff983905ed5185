// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "core/checkpoint/checkpoint.hpp"
#include "core/checkpoint/model_config.hpp"
#include "core/checkpoint/tensor_names.hpp"
#include "core/tensor.hpp"
#include "kernels/base/view.hpp"
#include "parallel/partition.hpp"

namespace chunkstate {

/// Linear weights are [out_features, in_features].
struct MambaWeights {
  ConstAnyView<2> in_proj;       // [z | x | B | C | dt, hidden]
  ConstAnyView<1> in_proj_bias;  // not given unless the model has one
  ConstAnyView<2> conv;          // [conv_channels, taps]
  ConstAnyView<1> conv_bias;     // not given unless the model has one
  View<const float, 1> A;        // [heads]  -exp(A_log)
  View<const float, 1> dt_bias;  // [heads]
  View<const float, 1> D;        // [heads]
  ConstAnyView<1> norm;          // [inner]
  ConstAnyView<2> out_proj;      // [hidden, inner]
  ConstAnyView<1> out_proj_bias;
};

/// A layer of family mamba1.
struct Mamba1Weights {
  ConstAnyView<1> norm;          // [hidden]
  ConstAnyView<2> in_proj;       // [x | z, hidden]
  ConstAnyView<1> in_proj_bias;  // not given unless the model has one
  ConstAnyView<2> conv;          // [inner, taps]
  ConstAnyView<1> conv_bias;     // not given unless the model has one
  ConstAnyView<2> x_proj;        // [dt_rank | B | C, inner]
  ConstAnyView<2> dt_proj;       // [inner, dt_rank]
  View<const float, 2> A;        // [inner, state_dim]  -exp(A_log)
  View<const float, 1> dt_bias;  // [inner]  dt_proj's bias
  View<const float, 1> D;        // [inner]
  ConstAnyView<2> out_proj;      // [hidden, inner]
  ConstAnyView<1> out_proj_bias;
};

struct AttentionWeights {
  ConstAnyView<2> q;  // [heads * head_dim, hidden]
  ConstAnyView<2> k;  // [kv_heads * head_dim, hidden]
  ConstAnyView<2> v;  // [kv_heads * head_dim, hidden]
  ConstAnyView<2> o;  // [hidden, heads * head_dim]
};

struct MlpWeights {
  ConstAnyView<2> gate;     // [intermediate, hidden]
  ConstAnyView<2> up;       // [intermediate, hidden]
  ConstAnyView<2> gate_up;  // [2 intermediate, hidden]  both, where they lie one behind the other
  ConstAnyView<2> down;     // [hidden, intermediate]
};

struct LayerWeights {
  LayerKind kind = LayerKind::mamba;
  ConstAnyView<1> mixer_norm;  // [hidden]
  MambaWeights mamba;          // kind mamba only
  AttentionWeights attention;  // kind attention only
  ConstAnyView<1> mlp_norm;    // [hidden]
  MlpWeights mlp;              // with mlp_norm: models with MLPs only
};

/// A model's weights where its backend computes. Host backends read the checkpoint in place (a
/// mapped file is the only copy, shared by all processes of a host); only small vectors, and
/// tensors whose storage type differs from a 16-bit `dtype`, are converted copies. fp32 computes on
/// 16-bit files without converting them.
class Weights {
 public:
  /// `vocab`: the rows of lm_head. Throws InputError for a missing or misshapen tensor.
  Weights(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint, Backend backend,
          DType dtype, const Range& vocab);

  ConstAnyView<2> embedding;   // [vocab, hidden]
  ConstAnyView<1> final_norm;  // [hidden]
  ConstAnyView<2> lm_head;     // [rows of vocab, hidden]; the embedding's if tied
  std::vector<LayerWeights> layers;
  std::vector<Mamba1Weights> mamba1_layers;  // of family mamba1, in place of `layers`

  /// Bytes of device or converted copies; what is read in place does not count.
  std::size_t owned_bytes() const { return owned_bytes_; }
  /// Bytes that one forward pass reads: every weight but the embedding table, once.
  double streamed_bytes() const { return streamed_bytes_; }

 private:
  ConstAnyView<1> vector(const std::string& name, std::int64_t size);
  ConstAnyView<2> matrix(const std::string& name, std::int64_t rows, std::int64_t columns);
  ConstAnyView<2> conv_matrix(const std::string& name, std::int64_t channels, std::int64_t taps);
  View<const float, 1> small_fp32(const std::string& name, std::int64_t size, bool negate_exp);
  const float* fp32_values(const std::string& name, const std::vector<std::int64_t>& extents,
                           bool negate_exp);
  void load_mamba1(const ModelConfig& config);
  MambaWeights mamba(const ModelConfig& config, const std::string& prefix);
  AttentionWeights attention(const ModelConfig& config, const std::string& prefix);
  MlpWeights mlp(const ModelConfig& config, const std::string& prefix, const TensorNames& names);
  std::byte* own(DType dtype, const std::vector<std::int64_t>& extents);
  void put_on_device(const std::string& name, const std::vector<std::int64_t>& extents,
                     DType target, std::byte* device);
  const std::byte* place(const CheckpointTensor& tensor, DType target);

  std::shared_ptr<const Checkpoint> checkpoint_;
  Backend backend_;
  DType dtype_;
  std::vector<Tensor> owned_;
  std::size_t owned_bytes_ = 0;
  double streamed_bytes_ = 0;
};

}  // namespace chunkstate
