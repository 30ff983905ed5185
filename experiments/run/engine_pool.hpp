// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "core/model.hpp"
#include "core/open_model.hpp"
#include "experiments/run/engine_groups.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// The models that an experiment's points need, each opened and built once per process, on first
/// use.
class EnginePool {
 public:
  /// `threads`: per forward pass. Synthetic weights are seeded by the experiment's generation.seed.
  explicit EnginePool(int threads) : threads_(threads) {}

  /// Files only: config, tokenizer, mapped weights. Throws InputError, UsageError.
  const OpenModel& files(const PointSettings& settings);
  /// Puts weights that would be copied per process (synthetic or converted ones) into memory that
  /// the ranks of a host share. Collective; before the first model() of these settings. Throws as
  /// model() does.
  void share_weights(const PointSettings& settings, Communicator& world);
  /// Ready to run, with the attention of these settings. Throws also std::bad_alloc.
  Model& model(const PointSettings& settings);
  /// From now on models are made for these ranks together (ModelOptions::tensor_group); nullptr
  /// members: by this rank alone. Built models are freed.
  void set_tensor_groups(const EngineGroups& groups) {
    release_models();
    tensor_groups_ = groups;
  }
  /// Bytes of all built models: states, activations and decoders; and with the weights that are no
  /// one else's.
  std::size_t working_bytes() const;
  std::size_t held_bytes() const;
  /// Frees built models (they are rebuilt on next use): what can be done after out of memory.
  void release_models() { models_.clear(); }
  int threads() const { return threads_; }

 private:
  using FileKey = std::tuple<std::string, std::string, std::string, std::uint64_t>;
  using ModelKey = std::tuple<FileKey, std::string, std::string, std::int64_t, std::string,
                              std::string, std::string, std::string>;
  using WeightKey = std::pair<FileKey, std::string>;  // and model.dtype
  static FileKey file_key(const PointSettings& settings);

  int threads_;
  EngineGroups tensor_groups_;
  std::map<FileKey, OpenModel> files_;
  std::map<WeightKey, std::shared_ptr<const Checkpoint>> shared_;
  std::map<ModelKey, std::unique_ptr<Model>> models_;
};

}  // namespace chunkstate
