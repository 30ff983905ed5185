// SPDX-License-Identifier: Apache-2.0
#include "parallel/partition.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <random>

#include "tests/catch.hpp"

using namespace chunkstate;

TEST_CASE("partition covers every item once in rank order") {
  for (int ranks = 1; ranks <= 9; ++ranks) {
    for (std::int64_t items = 0; items <= 20; ++items) {
      CAPTURE(ranks, items);
      std::int64_t next = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Range part = partition(items, rank, ranks);
        CHECK(part.begin == next);
        CHECK(part.size() <= (items + ranks - 1) / ranks);
        CHECK(part.size() >= items / ranks);
        next = part.end;
      }
      CHECK(next == items);
    }
  }
}

TEST_CASE("partition refuses a rank that does not exist") {
  CHECK_THROWS_AS(partition(5, 3, 3), std::out_of_range);
  CHECK_THROWS_AS(partition(5, -1, 3), std::out_of_range);
  CHECK_THROWS_AS(partition(5, 0, 0), std::out_of_range);
}

TEST_CASE("balance deals the longest first to the least loaded part") {
  // 7 -> part 0, 6 -> 1, 5 -> 1 (11), 4 -> 0 (11), 3 -> 0: the lowest of equals.
  const std::vector<double> costs{3, 7, 5, 4, 6};
  const auto parts = balance(costs, 2);
  REQUIRE(parts.size() == 2);
  CHECK(parts[0] == std::vector<std::int64_t>{1, 3, 0});
  CHECK(parts[1] == std::vector<std::int64_t>{4, 2});
}

TEST_CASE("balance keeps the order of equal costs and leaves surplus parts empty") {
  const std::vector<double> costs{2, 2, 2};
  const auto parts = balance(costs, 5);
  REQUIRE(parts.size() == 5);
  for (std::size_t part = 0; part < 3; ++part) {
    CHECK(parts[part] == std::vector<std::int64_t>{static_cast<std::int64_t>(part)});
  }
  CHECK(parts[3].empty());
  CHECK(parts[4].empty());
  CHECK(balance({}, 2) == std::vector<std::vector<std::int64_t>>(2));
}

TEST_CASE("balance deals every item once, within Graham's bound of the ideal") {
  for (unsigned seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    const int parts = 1 + static_cast<int>(random() % 8);
    std::vector<double> costs(1 + random() % 60);
    for (double& cost : costs) cost = 1 + static_cast<double>(random() % 1000);
    CAPTURE(seed, parts, costs.size());

    std::vector<int> seen(costs.size());
    double largest_part = 0;
    for (const auto& part : balance(costs, parts)) {
      double load = 0;
      for (const std::int64_t item : part) {
        ++seen[static_cast<std::size_t>(item)];
        load += costs[static_cast<std::size_t>(item)];
      }
      largest_part = std::max(largest_part, load);
    }
    CHECK(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
    // The least loaded part got the last item of the largest one: load <= mean + longest * (1 -
    // 1/parts).
    const double mean = std::accumulate(costs.begin(), costs.end(), 0.0) / parts;
    const double longest = *std::max_element(costs.begin(), costs.end());
    CHECK(largest_part <= mean + longest * (1.0 - 1.0 / parts) + 1e-9);
  }
}

TEST_CASE("balance refuses costs that are no positive numbers") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -1.0, nan, infinity}) {
    const std::vector<double> costs{1, bad};
    CHECK_THROWS_AS(balance(costs, 2), std::out_of_range);
  }
  CHECK_THROWS_AS(balance({}, 0), std::out_of_range);
}
