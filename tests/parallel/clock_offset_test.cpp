// SPDX-License-Identifier: Apache-2.0
#include "parallel/clock_offset.hpp"

#include <cstdlib>

#include "parallel/communicator.hpp"
#include "tests/catch.hpp"

using namespace chunkstate;

TEST_CASE("a single rank has the reference clock") {
  const auto world = make_local_communicator();
  const ClockOffset offset = measure_clock_offset(*world, [] { return 42; });
  CHECK(offset.at_ns == 42);
  CHECK(offset.offset_ns == 0);
  CHECK(offset.uncertainty_ns == 0);
}

TEST_CASE("a drifting clock is corrected linearly, before, between and after the measurements") {
  // 1,000 ns behind at 10 s, 4,000 ns behind at 20 s: 300 ns more each second.
  const ClockCorrection correction({10'000'000'000, 1'000, 50}, {20'000'000'000, 4'000, 50});
  CHECK(correction.drift() == Approx(300));
  CHECK(correction.on_first_rank(10'000'000'000) == 10'000'001'000);
  CHECK(correction.on_first_rank(15'000'000'000) == 15'000'002'500);
  CHECK(correction.on_first_rank(20'000'000'000) == 20'000'004'000);
  CHECK(correction.on_first_rank(21'000'000'000) == 21'000'004'300);
  CHECK(correction.on_first_rank(9'000'000'000) == 9'000'000'700);
}

TEST_CASE("a correction keeps the order of times") {
  const ClockCorrection correction({0, -700, 0}, {1'000'000'000, -900, 0});
  for (std::int64_t t = -3; t < 5'000'000; t += 1'237) {
    CHECK(correction.on_first_rank(t) <= correction.on_first_rank(t + 1));
  }
}

TEST_CASE("two measurements at one moment leave no drift") {
  const ClockCorrection correction({5, 100, 1}, {5, 300, 1});
  CHECK(correction.drift() == 0);
  CHECK(correction.on_first_rank(1'000'000'000'000) == 1'000'000'000'100);
}
