// SPDX-License-Identifier: Apache-2.0
// One sequence over several ranks of this process against one rank; tests/core/split_mpi_test.cpp
// does the same over MPI.
#include "core/sequence_split.hpp"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>

#include "core/model.hpp"
#include "core/open_model.hpp"
#include "parallel/mailbox_group.hpp"
#include "tests/catch.hpp"
#include "tests/core/split_case.hpp"

namespace chunkstate {
namespace {

SplitResult on_ranks(const SplitCase& c, const std::vector<Range>& ranges,
                     DType dtype = DType::fp32) {
  return run_ranks([&] { return make_split_model(c, dtype); }, c, ranges);
}

}  // namespace

TEST_CASE("an exact split gives what one rank gives, at random shapes and ranges") {
  double worst = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    const SplitCase c = draw_split_case(seed);
    Model model = make_split_model(c);
    const auto ranges = random_ranges(c, seed);
    CAPTURE(seed, c.ssd.variant->name, c.ssd.chunk_size, c.ssd.lookback, c.tokens.size(), ranges);
    const Differences found = differences(on_ranks(c, ranges), run_alone(model, c));
    CHECK(found.largest() <= 1e-5);
    worst = std::max(worst, found.largest());
  }
  WARN("largest relative difference: " << worst);
}

TEST_CASE("ranges of split_ranges give every variant's results bit for bit, in every type") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    const SplitCase c = draw_split_case(seed);
    const DType dtype = seed < 40 ? DType::fp32 : seed < 50 ? DType::bf16 : DType::fp16;
    Model model = make_split_model(c, dtype);
    const SplitResult expected = run_alone(model, c);
    for (const int ranks : {1, 2, 3, 4, 7}) {
      const auto ranges = split_ranges(c.ssd, static_cast<std::int64_t>(c.tokens.size()), ranks);
      CAPTURE(seed, name_of(dtype), c.ssd.variant->name, c.ssd.chunk_size, c.ssd.lookback);
      CAPTURE(c.tokens.size(), ranges);
      CHECK(on_ranks(c, ranges, dtype) == expected);
    }
  }
}

TEST_CASE("that holds beyond the tokens of one pass of the scan, whatever the chunk size") {
  SplitCase c = draw_split_case(1);
  c.config.layers.resize(1);
  std::mt19937 random(1);
  c.tokens.resize(9001);
  for (std::int32_t& id : c.tokens) id = static_cast<std::int32_t>(random() % 61);
  Model model = make_split_model(c);
  for (const SsdVariant& variant : ssd_variants()) {
    for (const std::int64_t chunk : {300, 4100, 5000}) {
      if (variant.name == "default" && chunk > 300) continue;  // chunk_size^2 intermediates
      if (!variant.causal()) continue;
      c.ssd = ssd_settings(std::string(variant.name), chunk, 2, c.config);
      const SplitResult expected = run_alone(model, c);
      const auto ranges = split_ranges(c.ssd, 9001, 3);
      CAPTURE(variant.name, chunk, ranges);
      CHECK(on_ranks(c, ranges) == expected);
    }
  }
}

TEST_CASE("split_ranges covers all tokens evenly and gives the last rank some") {
  const ModelConfig config = synthetic_model_config("bamba-9b");
  for (const std::string variant : {"default_optimized", "default", "independent", "lookback"}) {
    for (const std::int64_t chunk : {1, 7, 64, 100, 256, 5000}) {
      const SsdSettings ssd = ssd_settings(variant, chunk, 1, config);
      for (const std::int64_t tokens : {1, 63, 64, 65, 130, 1000, 4097, 131072}) {
        for (int ranks = 1; ranks <= 9; ++ranks) {
          CAPTURE(variant, chunk, tokens, ranks);
          const auto ranges = split_ranges(ssd, tokens, ranks);
          std::int64_t next = 0;
          for (const Range& range : ranges) {
            CHECK(range.begin == next);
            CHECK(range.end >= range.begin);
            const bool first = range.begin == 0;
            CHECK((range.size() == 0 || range.size() >= std::min<std::int64_t>(tokens, 64)));
            if (variant != "default_optimized" && !first) CHECK(range.begin % chunk == 0);
            next = range.end;
          }
          CHECK(next == tokens);
          CHECK(ranges.back().size() > 0);
          const std::int64_t seam =
              variant == "default_optimized" ? 64 : (63 + chunk) / chunk * chunk;
          const auto shorter = [](const Range& a, const Range& b) { return a.size() < b.size(); };
          const auto [least, most] = std::ranges::minmax_element(ranges, shorter);
          CHECK(most->size() < least->size() + 2 * seam);
        }
      }
    }
  }
}

TEST_CASE("queries move so that all ranks' attention is equal") {
  // Four ranks of a unit each attend to 1, 3, 5 and 7 shares: 1.5 of the last one's and half of
  // the third's go back.
  const auto moved = balance_queries({{0, 4096}, {4096, 8192}, {8192, 12288}, {12288, 16384}});
  REQUIRE(moved.size() == 2);
  CHECK(moved[0].from == 3);
  CHECK(moved[0].to == 0);
  CHECK(moved[0].tokens == Range{12288, 12288 + 1856});  // to sqrt(9 + 3) x 4096 = 14189
  CHECK(moved[1].from == 2);
  CHECK(moved[1].to == 1);
  CHECK(moved[1].tokens == Range{8192, 8192 + 960});  // to sqrt(4 + 1) x 4096 = 9159

  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const int ranks = 1 + static_cast<int>(random() % 9);
    std::vector<Range> ranges;
    for (int rank = 0; rank < ranks; ++rank) {
      const std::int64_t begin = ranges.empty() ? 0 : ranges.back().end;
      ranges.push_back({begin, begin + static_cast<std::int64_t>(random() % 3) * 1000});
    }
    CAPTURE(ranges);
    const auto work = [](const Range& r) {
      return static_cast<double>(r.end) * r.end - static_cast<double>(r.begin) * r.begin;
    };
    std::vector<double> before, after;
    for (const Range& range : ranges) before.push_back(work(range));
    after = before;
    std::vector<int> times(ranges.size(), 0);
    for (const MovedQueries& m : balance_queries(ranges)) {
      const Range& giver = ranges[static_cast<std::size_t>(m.from)];
      CHECK(m.to < m.from);
      CHECK(m.tokens.begin == giver.begin);
      CHECK(m.tokens.size() % 64 == 0);
      CHECK(giver.size() - m.tokens.size() >= 64);
      after[static_cast<std::size_t>(m.from)] -= work(m.tokens);
      after[static_cast<std::size_t>(m.to)] += work(m.tokens);
      ++times[static_cast<std::size_t>(m.from)];
      ++times[static_cast<std::size_t>(m.to)];
    }
    CHECK(*std::ranges::max_element(times) <= 1);
    CHECK(*std::ranges::max_element(after) <= *std::ranges::max_element(before));
  }
}

TEST_CASE("what ranks hold of a shared prefill is what was said before, on the one with the most") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    const SplitCase c = draw_split_case(seed);
    const auto tokens = static_cast<std::int64_t>(c.tokens.size());
    for (const int ranks : {1, 2, 3, 5}) {
      std::size_t expected = 0, most = 0;
      MailboxGroup group(ranks);
      group.run([&](RankGroup& rank) {
        Model model = make_split_model(c);
        const std::size_t weights = model.owned_bytes();
        SequenceState state = model.make_state(c.ssd, 1, tokens);
        SequenceSplit split(rank, split_ranges(c.ssd, tokens, ranks));
        model.forward_split(c.tokens, state, 0, split, LogitsRows::last);
        const SequenceStateBytes one =
            sequence_state_bytes(c.config, DType::fp32, DType::fp32, c.ssd);
        const auto held = static_cast<std::size_t>(one.fixed + one.per_token * tokens);
        most = std::max(most, model.owned_bytes() - weights + held);
        expected = model.request_bytes(c.ssd, 1, tokens, 0, tokens, ranks);
      });
      CAPTURE(seed, ranks, tokens, c.ssd.variant->name);
      CHECK(most == expected);
    }
  }
}

namespace {

// What the README of parallel/ says, in bytes: per mamba layer the window and the state to the next
// rank; per attention layer keys and values to every later rank and to those that take queries
// which attend to them, and these queries and their outputs.
struct Sent {
  std::int64_t messages = 0;
  std::int64_t bytes = 0;
};

Sent expected_of_rank(const ModelConfig& c, const SsdSettings& ssd, DType dtype,
                      const std::vector<Range>& ranges, std::size_t rank) {
  const auto element = static_cast<std::int64_t>(bytes_of(dtype));
  std::int64_t later = 0;
  for (std::size_t r = rank + 1; r < ranges.size(); ++r) later += ranges[r].size() > 0 ? 1 : 0;
  Sent sent;
  if (ranges[rank].size() == 0) return sent;
  const auto attention = std::count(c.layers.begin(), c.layers.end(), LayerKind::attention);
  const auto send = [&](std::int64_t messages, std::int64_t tokens, std::int64_t heads) {
    sent.messages += attention * messages;
    sent.bytes += attention * tokens * heads * c.attention_head_dim * element;
  };
  send(2 * later, 2 * later * ranges[rank].size(), c.kv_heads);
  const int self = static_cast<int>(rank);
  for (const MovedQueries& moved : balance_queries(ranges)) {
    if (moved.to < self && self <= moved.from) {
      send(2, 2 * (self == moved.from ? moved.tokens : ranges[rank]).size(), c.kv_heads);
    }
    if (self == moved.to || self == moved.from) send(1, moved.tokens.size(), c.attention_heads);
  }
  if (later == 0) return sent;
  const SsdSemantics semantics = ssd.variant->semantics;
  const bool state =
      semantics == SsdSemantics::exact || semantics == SsdSemantics::lookback ||
      (semantics == SsdSemantics::independent && ranges[rank].end % ssd.chunk_size != 0);
  for (const LayerKind kind : c.layers) {
    if (kind == LayerKind::mamba) {
      sent.messages += state ? 2 : 1;
      sent.bytes += (c.conv_taps - 1) * c.conv_channels() * element;
      if (state) {
        sent.bytes += state_slots(*ssd.variant, ssd.lookback) * c.mamba_heads * c.mamba_head_dim *
                      c.state_dim * 4;
      }
    }
  }
  return sent;
}

}  // namespace

TEST_CASE("every rank sends the messages and bytes that are written down, up to 1,024 ranks") {
  for (unsigned seed = 0; seed < 24; ++seed) {
    SplitCase c = draw_split_case(seed);
    const DType dtype = seed % 2 == 0 ? DType::bf16 : DType::fp32;
    const int ranks = seed < 20 ? 2 + static_cast<int>(seed) : 1024;
    const auto ranges = random_ranges(c, seed, ranks);
    MailboxGroup group(ranks, false);
    const auto weights =
        std::shared_ptr<const Checkpoint>(make_synthetic_checkpoint(c.config, seed, DType::bf16));
    ModelOptions options;
    options.dtype = options.residual_dtype = dtype;
    group.run([&](RankGroup& rank) {
      Model model(c.config, weights, options);
      SequenceState state = state_for(model, c);
      SequenceSplit split(rank, ranges);
      model.forward_split(c.tokens, state, 0, split, LogitsRows::none);
    });
    for (int rank = 0; rank < ranks; ++rank) {
      const Sent expected =
          expected_of_rank(c.config, c.ssd, dtype, ranges, static_cast<std::size_t>(rank));
      CAPTURE(seed, ranks, rank, c.ssd.variant->name, c.tokens.size());
      CHECK(group.sent_by(rank).messages == expected.messages);
      CHECK(group.sent_by(rank).bytes == expected.bytes);
    }
    CHECK(group.pending() == 0);
  }
}

// core_model_test "[table]": the table in parallel/README.md.
TEST_CASE("bytes of a split of Bamba-9B", "[.][table]") {
  const ModelConfig config = synthetic_model_config("bamba-9b");
  std::printf(
      "ranks  tokens/rank  variant            state+window/rank  keys+values of rank 0  sum\n");
  for (const int ranks : {2, 4, 8, 16, 64, 256, 1024}) {
    for (const char* variant : {"default_optimized", "independent"}) {
      const SsdSettings ssd = ssd_settings(variant, 256, 1, config);
      const std::int64_t tokens = std::int64_t{1} << 20;
      const auto ranges = split_ranges(ssd, tokens, ranks);
      ModelConfig mamba = config;
      std::erase(mamba.layers, LayerKind::attention);
      const Sent chain = expected_of_rank(mamba, ssd, DType::bf16, ranges, 0);
      const Sent first = expected_of_rank(config, ssd, DType::bf16, ranges, 0);
      double total = 0;
      for (std::size_t r = 0; r < ranges.size(); ++r) {
        total += static_cast<double>(expected_of_rank(config, ssd, DType::bf16, ranges, r).bytes);
      }
      std::printf("%5d  %11lld  %-17s  %13.2f MB  %17.1f MB  %.1f GB, messages of rank 0: %lld\n",
                  ranks, static_cast<long long>(tokens / ranks), variant,
                  1e-6 * double(chain.bytes), 1e-6 * double(first.bytes - chain.bytes),
                  1e-9 * total, static_cast<long long>(first.messages));
    }
  }
}

TEST_CASE("ranges that do not fit their group are refused") {
  MailboxGroup group(2);
  group.run([](RankGroup& rank) {
    if (rank.rank() == 1) return;
    CHECK_THROWS_AS(SequenceSplit(rank, {{0, 3}}), std::invalid_argument);
    CHECK_THROWS_AS(SequenceSplit(rank, {{0, 3}, {4, 5}}), std::invalid_argument);
    CHECK_THROWS_AS(SequenceSplit(rank, {{0, 3}, {3, 2}}), std::invalid_argument);
    CHECK_THROWS_AS(SequenceSplit(rank, {{0, 0}, {0, 0}}), std::invalid_argument);
  });
}

}  // namespace chunkstate
