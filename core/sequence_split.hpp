// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "core/sequence_state.hpp"
#include "core/tensor.hpp"
#include "kernels/base/executor.hpp"
#include "parallel/partition.hpp"
#include "parallel/rank_group.hpp"
#include "parallel/rank_scan.hpp"

namespace chunkstate {

/// Queries whose attention an earlier rank computes for a later one: late tokens attend to more.
struct MovedQueries {
  int from = -1;
  int to = -1;
  Range tokens;
};

/// What makes the ranks' shares of causal attention equal: the rank with the least moves queries to
/// itself from the one with the most, and so on inwards. A rank gives or takes, not both.
std::vector<MovedQueries> balance_queries(const std::vector<Range>& ranges);
/// Of these, the one to `rank`; without tokens if there is none.
MovedQueries queries_to(int rank, const std::vector<MovedQueries>& moved);

/// How the ranks of a group share the tokens of one prefill, and what they send each other for it.
///
/// Rank r computes all layers for the tokens ranges[r]. A mamba layer needs of other ranks what
/// comes from its left neighbour, the convolution's last inputs and the SSD state; an attention
/// layer keys and values of all ranks before it. So the last rank with tokens, the owner, ends with
/// the state of the whole sequence. Only attention moves anything to the left: its queries are
/// shared out as balance_queries() says, and their outputs come back.
class SequenceSplit {
 public:
  /// `ranges`: one per rank, in order, without gaps, from 0 on; empty ones are allowed, not all of
  /// them. Throws std::invalid_argument.
  SequenceSplit(RankGroup& group, std::vector<Range> ranges);

  const Range& own() const { return ranges_[static_cast<std::size_t>(group_.rank())]; }
  std::int64_t tokens() const { return ranges_.back().end; }
  int owner() const { return owner_; }
  bool is_owner() const { return group_.rank() == owner_; }

  /// Makes `window` [taps - 1, channels] the inputs before this rank's `rows` [tokens, channels].
  void exchange_window(const Executor& exec, const AnyView<2>& rows, const AnyView<2>& window);

  /// Calls `scan_own_tokens` with `state` [slots, heads, head_dim, state_dim] as the ranks before
  /// left it. Where `crosses(position)` is false, no token beyond that border between two ranges
  /// uses the state before it, and nothing is sent.
  template <class Crosses, class Scan>
  void scan(const AnyView<4>& state, Crosses&& crosses, Scan&& scan_own_tokens) {
    RankNeighbours neighbours = neighbours_;
    if (!crosses(own().begin)) neighbours.left = -1;
    if (!crosses(own().end)) neighbours.right = -1;
    rank_scan(group_, neighbours, bytes_of_rows(state), scan_own_tokens);
  }

  /// Of this rank's tokens: how many of the first are left to another rank in attention.
  std::int64_t given_tokens() const { return given_.tokens.size(); }
  /// Tokens of another rank that this one takes over; empty if none.
  const Range& taken_tokens() const { return taken_.tokens; }

  /// Memory for the queries taken over and for their outputs, a row each, until flush().
  void lend(const AnyView<2>& queries, const AnyView<2>& outputs) {
    taken_queries_ = queries;
    taken_outputs_ = outputs;
  }
  const AnyView<2>& taken_queries() const { return taken_queries_; }
  const AnyView<2>& taken_outputs() const { return taken_outputs_; }

  /// Gives all ranks what they need for the attention of a layer. `keys` and `values` [capacity,
  /// kv_heads, head_dim] hold this rank's own rows already and get those of all tokens that its
  /// queries, taken ones too, attend to. `queries` [tokens, ...]: its own, all of them; the first
  /// given_tokens() must not change before exchange_outputs().
  void exchange_rows(const AnyView<3>& keys, const AnyView<3>& values, const AnyView<2>& queries);

  /// taken_outputs() go back; those of the queries given come into the first given_tokens() rows of
  /// `outputs` [tokens, ...].
  void exchange_outputs(const AnyView<2>& outputs);

  /// Orders everything that follows with the launches of this stream (RankGroup).
  void use_stream(CUstream_st* stream) { group_.use_stream(stream); }

  /// Tells the others that this rank computes: it may have no message for them for long.
  void beat() { group_.beat(); }

  /// Returns when the memory of everything sent may change.
  void flush();

 private:
  template <int Rank>
  static std::span<std::byte> bytes_of_rows(const AnyView<Rank>& view) {
    std::size_t bytes = bytes_of(view.dtype);
    for (const std::int64_t extent : view.extent) bytes *= static_cast<std::size_t>(extent);
    return {view.data, bytes};
  }

  // Of the tokens of `from`, those that queries at `to` attend to.
  Range attended_rows(int from, int to) const;

  AnyView<2> take_copy(const Executor& exec, DType dtype, std::int64_t rows, std::int64_t channels);

  RankGroup& group_;
  std::vector<Range> ranges_;
  std::vector<MovedQueries> moved_;
  MovedQueries given_;  // of moved_
  MovedQueries taken_;
  AnyView<2> taken_queries_;
  AnyView<2> taken_outputs_;
  int owner_ = 0;
  RankNeighbours neighbours_;
  std::deque<Tensor> outgoing_;   // copies of what changes before flush(), in blocks of several
  std::int64_t free_copies_ = 0;  // in the last block
};

/// Ranges of about equal size, cut where one rank alone has a seam too: at chunk borders where the
/// scan depends on them, and otherwise between its blocks. On Backend::cpu the results are then bit
/// for bit those of one rank. A short sequence stays whole, on the last rank.
std::vector<Range> split_ranges(const SsdSettings& ssd, std::int64_t tokens, int ranks);

}  // namespace chunkstate
