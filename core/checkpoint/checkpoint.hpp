// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/checkpoint/model_config.hpp"
#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Elements of a dense tensor of these extents.
inline std::int64_t element_count(const std::vector<std::int64_t>& extents) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : extents) elements *= extent;
  return elements;
}

/// One named tensor in host memory; valid as long as the Checkpoint it came from.
struct CheckpointTensor {
  std::string name;
  DType dtype = DType::fp32;
  std::vector<std::int64_t> extents;
  const std::byte* data = nullptr;
};

/// The named weights of a model, by their Hugging Face names and shapes.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  /// Throws InputError if there is no tensor of this name or its shape is another. May be called by
  /// several threads.
  virtual CheckpointTensor tensor(const std::string& name,
                                  const std::vector<std::int64_t>& extents) const = 0;
  /// The same tensor's bytes at `target`, without keeping a copy here.
  virtual void copy_tensor(const std::string& name, const std::vector<std::int64_t>& extents,
                           std::byte* target) const;
  /// The same in device memory, without passing through the host's; false, and nothing done, where
  /// that is not possible. Done on return.
  virtual bool make_on_device(const std::string& name, const std::vector<std::int64_t>& extents,
                              const Executor& exec, std::byte* target) const;
  virtual bool contains(const std::string& name) const = 0;
  /// Storage type of a tensor, without touching its data. Throws InputError.
  virtual DType dtype(const std::string& name) const = 0;
  /// Whether the tensors are made in this process's memory, not mapped from files.
  virtual bool made_in_memory() const = 0;
  /// 32 hex digits that change when any weight does: xxh3-128 of all bytes, computed once on first
  /// use.
  virtual std::string digest() const = 0;
  /// What the processes of a host have alike whose weights come from the same files; empty for
  /// weights that are made in memory. Throws InputError.
  virtual std::string identity() const { return {}; }
  /// digest(), as another process of this host found it for the same identity(): all bytes need not
  /// be read again.
  virtual void know_digest(const std::string&) const {}
  /// Bytes of all tensors as stored.
  virtual std::int64_t bytes() const = 0;
};

/// `path` is a folder with model.safetensors or else the shards named by
/// model.safetensors.index.json, or one .safetensors file. Memory-mapped read-only and shared
/// between processes. Validates the containers completely (header, offsets, shapes, overlaps,
/// holes) before any tensor is used; tensors in F32, F16 and BF16 can be used, others are carried.
/// Data that is not aligned to its elements is copied when first used, all other data is used in
/// place. A weight whose elements are all NaN is refused when first used. Throws InputError.
std::unique_ptr<Checkpoint> open_safetensors(const std::filesystem::path& path);

/// Throws InputError if one of the weights that `config` needs is missing or has another shape.
void check_weights(const Checkpoint& checkpoint, const ModelConfig& config);

/// Weights drawn from `seed` for every tensor that `config` needs, made on first use. The values
/// depend on (seed, tensor name, index) alone and have the scale of a trained model's, so that
/// activations stay finite and decays lie in (0, 1). `dtype` is the storage type.
std::unique_ptr<Checkpoint> make_synthetic_checkpoint(const ModelConfig& config, std::uint64_t seed,
                                                      DType dtype);

}  // namespace chunkstate
