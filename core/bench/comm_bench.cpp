// SPDX-License-Identifier: Apache-2.0
#include "core/bench/comm_bench.hpp"

#include <algorithm>
#include <array>

#include "core/bench/bench_tools.hpp"
#include "core/tensor.hpp"
#include "core/tensor_share.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"

namespace chunkstate {
namespace {

class CommBench {
 public:
  CommBench(RankGroup& messages, RankGroup& sums, Backend backend, int repeats)
      : messages_(messages),
        sums_(sums),
        stream_(backend),
        exec_{backend, 1, stream_.get()},
        repeats_(repeats),
        memory_(backend, DType::fp32, {most_bytes / 4}) {
    fill_zero(exec_, memory_.data(), memory_.bytes());
    synchronize(exec_);
    messages_.use_stream(exec_.stream);
    sums_.use_stream(exec_.stream);
  }

  void there_and_back(const std::string& what, std::int64_t bytes) {
    const double seconds = timed(messages_, repeats_, [&] {
      const std::span<std::byte> block = part(0, bytes);
      if (rank() > 1) return;
      if (rank() == 0) messages_.post(block, 1);
      messages_.receive(block, 1 - rank());
      if (rank() == 1) messages_.post(block, 0);
      if (exec_.backend != Backend::cuda) messages_.flush();
    });
    add(what, bytes, seconds / 2, 2.0 * static_cast<double>(bytes) / seconds);
  }

  // As in an attention layer: each rank's rows to all ranks to its right.
  void gather(const std::string& what, std::int64_t bytes) {
    const int ranks = messages_.size();
    const double seconds = timed(messages_, std::max(1, repeats_ / 4), [&] {
      for (int to = rank() + 1; to < ranks; ++to) messages_.post(part(rank(), bytes), to);
      for (int from = 0; from < rank(); ++from) messages_.receive(part(from, bytes), from);
      if (exec_.backend != Backend::cuda) messages_.flush();
    });
    add(what, bytes, seconds, static_cast<double>((ranks - 1) * bytes) / seconds);
  }

  void sum(const std::string& what, std::int64_t bytes, int repeats) {
    auto* const values = reinterpret_cast<float*>(memory_.data());
    const double seconds = timed(sums_, repeats, [&] {
      sums_.all_reduce_sum({values, static_cast<std::size_t>(bytes / 4)});
    });
    const double ranks = sums_.size();
    add(what, bytes, seconds, 2.0 * (ranks - 1) / ranks * static_cast<double>(bytes) / seconds);
  }

  // In a row from a recorded graph, as a decode step runs them: through the library, and where the
  // ranks have peer memory, through that.
  void recorded_sums(const std::string& what, std::int64_t rows_of_values, std::int64_t columns) {
    if (exec_.backend != Backend::cuda) return;
    const View<float, 2> values(reinterpret_cast<float*>(memory_.data()),
                                {rows_of_values, columns});
    const std::int64_t bytes = rows_of_values * columns * 4;
    recorded("recorded sum, " + what, bytes, [&] {
      sums_.all_reduce_sum({values.data, static_cast<std::size_t>(bytes / 4)});
    });
    PeerSumArgs args;
    args.peers = peer_blocks(sums_);
    args.part = values;
    args.y = values;
    if (!peer_sum_fits(args.peers, rows_of_values, columns)) return;
    recorded("recorded peer sum, " + what, bytes, [&] { peer_sum(exec_, args); });
  }

  static constexpr std::int64_t most_bytes = std::int64_t{1} << 28;
  std::vector<CommBenchRow> rows;

 private:
  int rank() const { return messages_.rank(); }

  std::span<std::byte> part(int index, std::int64_t bytes) {
    return {memory_.data() + index * bytes, static_cast<std::size_t>(bytes)};
  }

  // Seconds of one of `repeats`, after a third of them; the slowest rank's.
  template <class Body>
  double timed(RankGroup& group, int repeats, const Body& body) {
    double start = 0;
    for (int run = -(repeats / 3 + 1); run < repeats; ++run) {
      if (run == 0) {
        group.flush();
        start = monotonic_bench_seconds();
      }
      body();
    }
    group.flush();
    synchronize(exec_);
    const double mine = (monotonic_bench_seconds() - start) / repeats;
    // Ranks without a part in it were quick.
    std::array<float, 256> all{};
    all.at(static_cast<std::size_t>(rank())) = static_cast<float>(mine);
    group.host_group().all_reduce_sum(all);
    return *std::max_element(all.begin(), all.end());
  }

  template <class Launch>
  void recorded(const std::string& what, std::int64_t bytes, const Launch& launch) {
    constexpr int in_a_row = 64;
    launch();  // what it makes at its first call
    const Recording recording(exec_, [&] {
      for (int i = 0; i < in_a_row; ++i) launch();
    });
    const double seconds = timed(sums_, std::max(1, repeats_ / 8),
                                 [&] {
                                   recording.replay(exec_);
                                   sums_.launched_sum();
                                 }) /
                           in_a_row;
    const double ranks = sums_.size();
    add(what, bytes, seconds, 2.0 * (ranks - 1) / ranks * static_cast<double>(bytes) / seconds);
  }

  void add(const std::string& what, std::int64_t bytes, double seconds, double bus_bytes) {
    rows.push_back({what, bytes, seconds, bus_bytes});
  }

  RankGroup& messages_;
  RankGroup& sums_;
  LaunchStream stream_;
  Executor exec_;
  int repeats_;
  Tensor memory_;
};

}  // namespace

std::vector<CommBenchRow> bench_communication(RankGroup& messages, RankGroup& sums, Backend backend,
                                              int repeats) {
  CommBench bench(messages, sums, backend, repeats);
  constexpr std::int64_t mib = std::int64_t{1} << 20;
  bench.there_and_back("message, least", 8);
  bench.there_and_back("window of a mamba layer", 50'688);
  bench.there_and_back("state of a mamba layer", 4 * mib);
  bench.gather("keys of 1,024 tokens a rank", 2 * mib);
  bench.gather("keys of 8,192 tokens a rank", 16 * mib);
  const int few = std::max(1, repeats / 8);
  bench.sum("sum, one token's squares", 32, repeats);
  bench.sum("sum, one token's residual", 16'384, repeats);
  bench.sum("sum, eight tokens' residual", 131'072, repeats);
  bench.sum("sum, one token's logits", 513'024, repeats);
  bench.sum("sum, 1,024 tokens' residual", 16 * mib, few);
  bench.sum("sum, 8,192 tokens' residual", 128 * mib, few);
  bench.recorded_sums("one token's squares", 1, 8);
  bench.recorded_sums("one token's residual", 1, 4'096);
  bench.recorded_sums("eight tokens' residual", 8, 4'096);
  bench.recorded_sums("one token's logits", 1, 128'256);
  return bench.rows;
}

}  // namespace chunkstate
