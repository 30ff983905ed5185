// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/shared_checkpoint.hpp"

#include <cstring>
#include <exception>
#include <unordered_map>

#include "core/errors.hpp"
#include "parallel/partition.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t tensor_alignment = 256;

DType target_type(DType stored, DType compute) { return compute == DType::fp32 ? stored : compute; }

struct Placement {
  CheckpointTensor tensor;  // data: in shared memory
  std::size_t offset = 0;
  std::size_t bytes = 0;
};

void fill(const Checkpoint& source, const CheckpointTensor& target, std::byte* memory) {
  if (source.dtype(target.name) == target.dtype) {
    source.copy_tensor(target.name, target.extents, memory);
    return;
  }
  const CheckpointTensor wide = source.tensor(target.name, target.extents);
  const std::int64_t elements = element_count(target.extents);
  const ConstAnyView<1> from{wide.data, wide.dtype, {elements}};
  const AnyView<1> to{memory, target.dtype, {elements}};
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < elements; ++i) to.store(from.load(i), i);
}

class SharedCheckpoint final : public Checkpoint {
 public:
  SharedCheckpoint(const Checkpoint& source,
                   std::unordered_map<std::string, CheckpointTensor> tensors)
      : tensors_(std::move(tensors)), digest_(source.digest()), bytes_(source.bytes()) {}

  CheckpointTensor tensor(const std::string& name,
                          const std::vector<std::int64_t>& extents) const override {
    const auto found = tensors_.find(name);
    if (found == tensors_.end() || found->second.extents != extents) {
      throw InputError("shared weights: no tensor '" + name + "' of this shape");
    }
    return found->second;
  }
  bool contains(const std::string& name) const override { return tensors_.count(name) > 0; }
  DType dtype(const std::string& name) const override { return tensors_.at(name).dtype; }
  bool made_in_memory() const override { return true; }
  std::string digest() const override { return digest_; }
  std::int64_t bytes() const override { return bytes_; }

 private:
  std::unordered_map<std::string, CheckpointTensor> tensors_;
  std::string digest_;
  std::int64_t bytes_;
};

}  // namespace

bool needs_copies(const Checkpoint& checkpoint, const ModelConfig& config, DType compute) {
  if (checkpoint.made_in_memory()) return true;
  for (const auto& [name, extents] : expected_tensors(config)) {
    const DType stored = checkpoint.dtype(name);
    if (stored != target_type(stored, compute)) return true;
  }
  return false;
}

std::shared_ptr<const Checkpoint> share_checkpoint(std::shared_ptr<const Checkpoint> source,
                                                   const ModelConfig& config, DType compute,
                                                   Communicator& world) {
  std::vector<Placement> placements;
  std::vector<double> costs;
  std::size_t total = 0;
  for (const auto& [name, extents] : expected_tensors(config)) {
    Placement placement;
    const DType target = target_type(source->dtype(name), compute);
    placement.tensor = {name, target, extents, nullptr};
    placement.offset = total;
    placement.bytes = static_cast<std::size_t>(element_count(extents)) * bytes_of(target);
    total += (placement.bytes + tensor_alignment - 1) / tensor_alignment * tensor_alignment;
    costs.push_back(static_cast<double>(placement.bytes) + 1.0);
    placements.push_back(std::move(placement));
  }

  std::byte* memory = world.host_memory(total).data();
  std::exception_ptr error;
  const auto mine =
      balance(costs, world.local_size())[static_cast<std::size_t>(world.local_rank())];
  for (const std::int64_t i : mine) {
    const Placement& placement = placements[static_cast<std::size_t>(i)];
    try {
      fill(*source, placement.tensor, memory + placement.offset);
    } catch (...) {  // the others wait at the barrier
      error = std::current_exception();
      break;
    }
  }
  world.barrier();
  if (error) std::rethrow_exception(error);

  std::unordered_map<std::string, CheckpointTensor> tensors;
  for (Placement& placement : placements) {
    placement.tensor.data = memory + placement.offset;
    tensors.emplace(placement.tensor.name, placement.tensor);
  }
  return std::make_shared<SharedCheckpoint>(*source, std::move(tensors));
}

}  // namespace chunkstate
