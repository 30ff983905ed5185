// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/model.hpp"

namespace chunkstate {

/// Compares an engine with Backend::reference: the logits of a model's first layers, as many of
/// them as the definition in double computes in a second or two, after a few tokens.
class ReferenceCheck {
 public:
  /// The engine is as `options` say but for the number of layers, on this rank alone.
  ReferenceCheck(const ModelConfig& config, std::shared_ptr<const Checkpoint> checkpoint,
                 ModelOptions options, const SsdSettings& ssd);

  std::int64_t layers() const { return static_cast<std::int64_t>(engine_.config().layers.size()); }
  std::int64_t tokens() const;
  /// The largest difference relative to the largest logit: of a prefill, or of a decode step of
  /// `batch` sequences after one.
  double prefill_error();
  double decode_error(std::int64_t batch);

 private:
  SsdSettings ssd_;
  std::vector<float> expected_;
  Model engine_;
};

}  // namespace chunkstate
