// SPDX-License-Identifier: Apache-2.0
// One sequence over several ranks against one rank. The ranks run one after the other in this
// process, which the left-to-right flow of all messages allows; tests/core/split_mpi_test.cpp does
// the same over MPI.
#include "core/sequence_split.hpp"

#include <random>

#include "core/model.hpp"
#include "core/open_model.hpp"
#include "parallel/mailbox_group.hpp"
#include "tests/catch.hpp"
#include "tests/core/split_case.hpp"

namespace chunkstate {
namespace {

// All ranks of a group, one after the other; what rank 0 to R - 1 give together.
SplitResult on_ranks(Model& model, const SplitCase& c, const std::vector<Range>& ranges) {
  MailboxGroup group(static_cast<int>(ranges.size()));
  SplitResult result;
  for (int rank = 0; rank < group.size(); ++rank) {
    append(result, run_split(model, c, group.rank(rank), ranges));
  }
  CHECK(group.pending() == 0);
  return result;
}

}  // namespace

TEST_CASE("an exact split gives what one rank gives, at random shapes and ranges") {
  double worst = 0;
  for (unsigned seed = 0; seed < 60; ++seed) {
    const SplitCase c = draw_split_case(seed);
    Model model = make_split_model(c);
    const auto ranges = random_ranges(c, seed);
    CAPTURE(seed, c.ssd.variant->name, c.ssd.chunk_size, c.ssd.lookback, c.tokens.size(), ranges);
    const Differences found = differences(on_ranks(model, c, ranges), run_alone(model, c));
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
      const auto ranges =
          split_ranges(model.config(), c.ssd, static_cast<std::int64_t>(c.tokens.size()), ranks);
      CAPTURE(seed, name_of(dtype), c.ssd.variant->name, c.ssd.chunk_size, c.ssd.lookback);
      CAPTURE(c.tokens.size(), ranges);
      CHECK(on_ranks(model, c, ranges) == expected);
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
      const auto ranges = split_ranges(model.config(), c.ssd, 9001, 3);
      CAPTURE(variant.name, chunk, ranges);
      CHECK(on_ranks(model, c, ranges) == expected);
    }
  }
}

TEST_CASE("split_ranges covers all tokens, gives the last rank some and balances attention") {
  const ModelConfig config = synthetic_model_config("bamba-9b");
  for (const std::string variant : {"default_optimized", "default", "independent", "lookback"}) {
    for (const std::int64_t chunk : {1, 7, 64, 100, 256, 5000}) {
      const SsdSettings ssd = ssd_settings(variant, chunk, 1, config);
      for (const std::int64_t tokens : {1, 63, 64, 65, 130, 1000, 4097, 131072}) {
        for (int ranks = 1; ranks <= 9; ++ranks) {
          CAPTURE(variant, chunk, tokens, ranks);
          const auto ranges = split_ranges(config, ssd, tokens, ranks);
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
        }
      }
    }
  }
  const auto ranges =
      split_ranges(config, ssd_settings("default_optimized", 256, 1, config), 131072, 4);
  CHECK(ranges[0].size() > ranges[3].size());  // late tokens attend to more
}

TEST_CASE("ranges that do not fit their group are refused") {
  MailboxGroup group(2);
  CHECK_THROWS_AS(SequenceSplit(group.rank(0), {{0, 3}}), std::invalid_argument);
  CHECK_THROWS_AS(SequenceSplit(group.rank(0), {{0, 3}, {4, 5}}), std::invalid_argument);
  CHECK_THROWS_AS(SequenceSplit(group.rank(0), {{0, 3}, {3, 2}}), std::invalid_argument);
  CHECK_THROWS_AS(SequenceSplit(group.rank(0), {{0, 0}, {0, 0}}), std::invalid_argument);
}

}  // namespace chunkstate
