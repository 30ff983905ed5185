// SPDX-License-Identifier: Apache-2.0
#include "core/tensor_share.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "core/tensor.hpp"
#include "kernels/base/memory.hpp"

namespace chunkstate {
namespace {

[[noreturn]] void refuse(int ranks, const std::string& what) {
  throw UsageError("tensor split over " + std::to_string(ranks) + " ranks: " + what);
}

struct HeadShare {
  Range heads;
  Range groups;
};

// `groups` may be those of B and C or the heads of keys and values: each serves as many heads.
HeadShare share_heads(const std::string& names, std::int64_t heads, std::int64_t groups, int rank,
                      int ranks) {
  if (heads == 0) return {};
  const std::int64_t ratio = heads / groups;
  if (groups >= ranks) {
    const Range own = partition(groups, rank, ranks);
    return {{own.begin * ratio, own.end * ratio}, own};
  }
  const std::int64_t sharers = ranks / groups;
  if (ranks % groups != 0 || ratio < sharers) {
    const std::string g = std::to_string(groups);
    refuse(ranks, "the model has " + std::to_string(heads) + " " + names + " " + g +
                      ", expected at most " + g + " ranks, or a multiple of " + g + " up to " +
                      std::to_string(heads));
  }
  const std::int64_t group = rank / sharers;
  const Range own = partition(ratio, static_cast<int>(rank % sharers), static_cast<int>(sharers));
  return {{group * ratio + own.begin, group * ratio + own.end}, {group, group + 1}};
}

// In blocks that keep rows aligned for vector loads where there are enough of them.
Range share_channels(const std::string& name, std::int64_t channels, int rank, int ranks) {
  for (std::int64_t block = 64; block > 0; block /= 2) {
    if (channels % block != 0 || channels / block < ranks) continue;
    const Range own = partition(channels / block, rank, ranks);
    return {own.begin * block, own.end * block};
  }
  refuse(ranks, name + " is " + std::to_string(channels) + ", too few to share out");
}

// The part of a tensor along one dimension; no ranges: all of it.
struct Slice {
  int dimension = 0;
  std::int64_t whole = 0;
  std::vector<Range> ranges;
  bool zero = false;  // another rank has it
};

class ShareCheckpoint final : public Checkpoint {
 public:
  ShareCheckpoint(std::shared_ptr<const Checkpoint> whole, const ModelConfig& config,
                  const TensorShare& share)
      : whole_(std::move(whole)), config_(config), share_(share) {}

  CheckpointTensor tensor(const std::string& name,
                          const std::vector<std::int64_t>& extents) const override {
    const Slice slice = slice_of(name);
    if (slice.ranges.empty() && !slice.zero) return whole_->tensor(name, extents);
    CheckpointTensor part = whole_->tensor(name, whole_extents(slice, extents));
    const std::size_t element = bytes_of(part.dtype);
    if (slice.dimension == 0 && slice.ranges.size() == 1) {
      part.data += static_cast<std::size_t>(slice.ranges[0].begin) * row_bytes(extents, element);
    } else {
      const std::lock_guard lock(mutex_);
      std::vector<std::byte>& copy = copies_[name];
      if (copy.empty()) copy = gather(slice, part.data, extents, element);  // no ranges: zeros
      part.data = copy.data();
    }
    part.extents = extents;
    return part;
  }

  bool make_on_device(const std::string& name, const std::vector<std::int64_t>& extents,
                      const Executor& exec, std::byte* target) const override {
    const Slice slice = slice_of(name);
    if (slice.ranges.empty())
      return !slice.zero && whole_->make_on_device(name, extents, exec, target);
    const std::vector<std::int64_t> all = whole_extents(slice, extents);
    const DType stored = whole_->dtype(name);
    const std::size_t element = bytes_of(stored);
    Tensor whole(exec.backend, stored, all);
    if (whole_->make_on_device(name, all, exec, whole.data())) {
      gather_there(exec, slice, whole.data(), extents, element, target);
    } else {
      whole = Tensor();
      const CheckpointTensor source = whole_->tensor(name, all);
      const std::vector<std::byte> part = gather(slice, source.data, extents, element);
      copy_to_backend(exec, target, part.data(), part.size());
    }
    synchronize(exec);  // the sources end here
    return true;
  }

  bool contains(const std::string& name) const override { return whole_->contains(name); }
  DType dtype(const std::string& name) const override { return whole_->dtype(name); }
  bool made_in_memory() const override { return whole_->made_in_memory(); }
  std::string digest() const override { return whole_->digest(); }
  std::int64_t bytes() const override { return whole_->bytes(); }

 private:
  static std::size_t row_bytes(const std::vector<std::int64_t>& extents, std::size_t element) {
    return static_cast<std::size_t>(element_count({extents.begin() + 1, extents.end()})) * element;
  }

  static std::vector<std::int64_t> whole_extents(const Slice& slice,
                                                 std::vector<std::int64_t> extents) {
    std::int64_t size = 0;
    for (const Range& range : slice.ranges) size += range.size();
    std::int64_t& extent = extents[static_cast<std::size_t>(slice.dimension)];
    if (slice.zero) return extents;
    if (size != extent) throw std::logic_error("tensor share: parts do not fit the shape");
    extent = slice.whole;
    return extents;
  }

  // Calls copy(target offset, source offset, bytes, rows, target pitch, source pitch).
  template <class Copy>
  static void for_each_piece(const Slice& slice, const std::vector<std::int64_t>& extents,
                             std::size_t element, const Copy& copy) {
    std::size_t done = 0;
    for (const Range& range : slice.ranges) {
      const auto begin = static_cast<std::size_t>(range.begin);
      const auto size = static_cast<std::size_t>(range.size());
      if (slice.dimension == 0) {
        const std::size_t row = row_bytes(extents, element);
        copy(done, begin * row, size * row, std::size_t{1}, size * row, size * row);
        done += size * row;
      } else {
        copy(done, begin * element, size * element, static_cast<std::size_t>(extents[0]),
             static_cast<std::size_t>(extents[1]) * element,
             static_cast<std::size_t>(slice.whole) * element);
        done += size * element;
      }
    }
  }

  static std::vector<std::byte> gather(const Slice& slice, const std::byte* source,
                                       const std::vector<std::int64_t>& extents,
                                       std::size_t element) {
    std::vector<std::byte> part(static_cast<std::size_t>(element_count(extents)) * element);
    gather_there(Executor{Backend::cpu}, slice, source, extents, element, part.data());
    return part;
  }

  static void gather_there(const Executor& exec, const Slice& slice, const std::byte* source,
                           const std::vector<std::int64_t>& extents, std::size_t element,
                           std::byte* target) {
    for_each_piece(slice, extents, element,
                   [&](std::size_t to, std::size_t from, std::size_t bytes, std::size_t rows,
                       std::size_t target_pitch, std::size_t source_pitch) {
                     copy_rows(exec, target + to, target_pitch, source + from, source_pitch, bytes,
                               rows);
                   });
  }

  Slice rows(std::int64_t whole, std::vector<Range> ranges) const {
    return {0, whole, std::move(ranges)};
  }
  Slice columns(std::int64_t whole, const Range& range) const { return {1, whole, {range}}; }
  static Range scaled(const Range& range, std::int64_t factor, std::int64_t offset = 0) {
    return {offset + range.begin * factor, offset + range.end * factor};
  }

  Slice slice_of(const std::string& name) const {
    const auto is = [&](std::string_view end) { return name.ends_with(end); };
    const ModelConfig& c = config_;
    const Range inner = scaled(share_.mamba_heads, c.mamba_head_dim);
    const std::int64_t all_inner = c.inner_size();
    const std::int64_t all_groups = c.groups * c.state_dim;
    if (is(".in_proj.weight") || is(".in_proj.bias")) {  // z | x | B | C | dt
      const auto after = [&](const Range& range, std::int64_t offset) {
        return scaled(range, 1, offset);
      };
      const Range groups = scaled(share_.groups, c.state_dim);
      return rows(c.in_proj_size(), {inner, after(inner, all_inner), after(groups, 2 * all_inner),
                                     after(groups, 2 * all_inner + all_groups),
                                     after(share_.mamba_heads, 2 * all_inner + 2 * all_groups)});
    }
    if (is(".conv1d.weight") || is(".conv1d.bias")) {  // x | B | C
      return rows(c.conv_channels(), {inner, scaled(share_.groups, c.state_dim, all_inner),
                                      scaled(share_.groups, c.state_dim, all_inner + all_groups)});
    }
    if (is(".A_log") || is(".D") || is(".dt_bias")) {
      return rows(c.mamba_heads, {share_.mamba_heads});
    }
    if (is("mamba.norm.weight") || is("mixer.norm.weight")) return rows(all_inner, {inner});
    if (is(".out_proj.weight")) return columns(all_inner, inner);
    if (is(".out_proj.bias")) return {0, 0, {}, share_.rank != 0};
    const std::int64_t head_dim = c.attention_head_dim;
    if (is(".q_proj.weight")) {
      return rows(c.attention_heads * head_dim, {scaled(share_.attention_heads, head_dim)});
    }
    if (is(".k_proj.weight") || is(".v_proj.weight")) {
      return rows(c.kv_heads * head_dim, {scaled(share_.kv_heads, head_dim)});
    }
    if (is(".o_proj.weight")) {
      return columns(c.attention_heads * head_dim, scaled(share_.attention_heads, head_dim));
    }
    if (is(".input_linear.weight")) {  // gate | up
      return rows(2 * c.intermediate_size,
                  {share_.channels, scaled(share_.channels, 1, c.intermediate_size)});
    }
    if (is(".gate_proj.weight") || is(".up_proj.weight")) {
      return rows(c.intermediate_size, {share_.channels});
    }
    if (is(".down_proj.weight") || is(".output_linear.weight"))
      return columns(c.intermediate_size, share_.channels);
    if (is("lm_head.weight")) return rows(c.vocab_size, {share_.vocab});
    return {};
  }

  std::shared_ptr<const Checkpoint> whole_;
  ModelConfig config_;
  TensorShare share_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::vector<std::byte>> copies_;
};

}  // namespace

TensorShare tensor_share(const ModelConfig& config, int rank, int ranks) {
  if (config.family == "mamba1")
    refuse(ranks, "mamba-1 layers are not shared out, expected 1 rank");
  TensorShare share;
  share.rank = rank;
  share.ranks = ranks;
  share.config = config;
  share.inner_channels = config.inner_size();
  share.splits_norm = config.norm_groups == 1;
  if (!share.splits_norm && config.groups < ranks) {
    refuse(ranks, "the norm of each of the model's " + std::to_string(config.groups) +
                      " groups is one rank's, expected at most " + std::to_string(config.groups) +
                      " ranks");
  }
  const HeadShare mamba =
      share_heads("mamba heads, groups:", config.mamba_heads, config.groups, rank, ranks);
  const HeadShare attention = share_heads("attention heads, kv heads:", config.attention_heads,
                                          config.kv_heads, rank, ranks);
  share.mamba_heads = mamba.heads;
  share.groups = mamba.groups;
  share.attention_heads = attention.heads;
  share.kv_heads = attention.groups;
  if (config.has_mlp())
    share.channels = share_channels("intermediate_size", config.intermediate_size, rank, ranks);
  share.vocab = share_channels("vocab_size", config.vocab_size, rank, ranks);
  share.config.mamba_heads = share.mamba_heads.size();
  share.config.groups = share.groups.size();
  if (!share.splits_norm) share.config.norm_groups = share.groups.size();
  share.config.attention_heads = share.attention_heads.size();
  share.config.kv_heads = share.kv_heads.size();
  share.config.intermediate_size = share.channels.size();
  return share;
}

std::shared_ptr<const Checkpoint> share_of_checkpoint(std::shared_ptr<const Checkpoint> whole,
                                                      const ModelConfig& config,
                                                      const TensorShare& share) {
  return std::make_shared<ShareCheckpoint>(std::move(whole), config, share);
}

PeerBlocks peer_blocks(const RankGroup& group) {
  static_assert(PeerBlocks::most == PeerMemory::most);
  PeerBlocks blocks;
  const PeerMemory* const memory = group.peer_memory();
  if (memory == nullptr) return blocks;
  blocks.block = memory->block;
  blocks.peers = group.size();
  blocks.own = group.rank();
  blocks.bytes = static_cast<std::int64_t>(memory->bytes);
  blocks.ended = memory->ended;
  return blocks;
}

void TensorSplit::sum(const Executor& exec, const AnyView<2>& values) const {
  if (values.dtype != DType::fp32 || values.stride[0] != values.extent[1]) {
    throw std::logic_error("tensor split: sums are of fp32 rows without gaps");
  }
  const std::int64_t count = values.extent[0] * values.extent[1];
  sum(exec, View<float, 1>(reinterpret_cast<float*>(values.data), {count}));
}

void TensorSplit::sum(const Executor& exec, const View<float, 1>& values) const {
  const std::int64_t count = values.extent[0];
  PeerSumArgs args;
  args.peers = peer_blocks(group);
  if (count > most_peer_sum_floats || !peer_sum_fits(args.peers, 1, count)) {
    return group.all_reduce_sum({values.data, static_cast<std::size_t>(count)});
  }
  const View<float, 2> row(values.data, {1, count});
  args.part = row;
  args.y = row;
  peer_sum(exec, args);
  group.launched_sum();
}

bool TensorSplit::all_agree(bool mine) const {
  float votes = mine ? 1.0F : 0.0F;
  group.host_group().all_reduce_sum({&votes, 1});
  return votes == static_cast<float>(group.size());
}

PeerGatherArgs TensorSplit::logits_gather(const View<float, 2>& logits) const {
  PeerGatherArgs args;
  args.peers = peer_blocks(group);
  args.y = logits;
  for (int r = 0; r < args.peers.peers; ++r) {
    args.first[static_cast<std::size_t>(r) + 1] =
        share_channels("vocab_size", logits.extent[1], r, args.peers.peers).end;
  }
  return args;
}

}  // namespace chunkstate
