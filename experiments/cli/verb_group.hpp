// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "experiments/cli/verb.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// The ranks that share a verb's model or sequences: those it was started with under a launcher if
/// --split says how, else this process alone.
class VerbGroup {
 public:
  VerbGroup() = default;
  /// Takes this rank's GPU and connects it with the others' where the backend is cuda. Collective.
  VerbGroup(Communicator& world, const ModelFlags& flags);

  bool first() const { return world_ == nullptr || world_->rank() == 0; }
  int size() const { return world_ == nullptr ? 1 : world_->size(); }
  /// For forward_split(); nullptr unless --split sequence.
  RankGroup* sequence() const { return is_tensor_ ? nullptr : engine(); }
  /// For ModelOptions::tensor_group; nullptr unless --split tensor.
  RankGroup* tensor() const { return is_tensor_ ? engine() : nullptr; }
  /// The longest of what the ranks say.
  double slowest(double seconds) const;
  void barrier() const {
    if (world_ != nullptr) world_->barrier();
  }
  /// On rank 0 the parts of all ranks in their order; elsewhere the rank's own.
  std::vector<float> joined(std::vector<float> mine) const;

 private:
  RankGroup* engine() const { return devices_ ? devices_.get() : world_; }

  Communicator* world_ = nullptr;
  std::unique_ptr<RankGroup> devices_;
  bool is_tensor_ = false;
};

/// In a catch block: the others would wait for this rank, so it says what went wrong and ends all;
/// the exit code. Rethrows where there are no others.
int end_group(Communicator& world);

/// The exit code of `body`. An error on any rank ends the group.
int run_in_group(const ModelFlags& flags, const std::function<int(VerbGroup&)>& body);

}  // namespace chunkstate
