// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/checkpoint/checkpoint.hpp"
#include "core/checkpoint/model_config.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {

/// True if a model of this activation type would need copies of `checkpoint`'s large weights:
/// synthetic ones, which are made in memory, and stored types that 16-bit arithmetic does not
/// compute in.
bool needs_copies(const Checkpoint& checkpoint, const ModelConfig& config, DType compute);

/// The weights that `config` needs, in the type a model of activation type `compute` wants, in
/// memory shared by the ranks of each host: each tensor is made or converted by one rank, and
/// exists once per host. The digest is the source's. `world` must outlive the result. Collective,
/// also where a rank throws: InputError of a bad tensor, std::bad_alloc.
std::shared_ptr<const Checkpoint> share_checkpoint(std::shared_ptr<const Checkpoint> source,
                                                   const ModelConfig& config, DType compute,
                                                   Communicator& world);

}  // namespace chunkstate
