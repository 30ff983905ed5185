// SPDX-License-Identifier: Apache-2.0
// Runs on every rank at once, so it checks with CHECK only: a REQUIRE that fails on one rank would
// leave the others waiting in the next collective.
#define CATCH_CONFIG_RUNNER
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iostream>
#include <random>
#include <thread>

#include "parallel/clock_offset.hpp"
#include "parallel/communicator.hpp"
#include "tests/catch.hpp"

using namespace chunkstate;

namespace {
Communicator* world = nullptr;
constexpr std::size_t message_bytes = 1000;  // so small that most tests cross it

std::string bytes_of_rank(int rank, std::size_t length) {
  std::string bytes(length, '\0');
  std::mt19937 random(static_cast<unsigned>(rank) + 1);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}
}  // namespace

TEST_CASE("ranks are numbered, and all of this test share a host") {
  CHECK(world->rank() >= 0);
  CHECK(world->rank() < world->size());
  CHECK(world->local_rank() == world->rank());
  CHECK(world->local_size() == world->size());
  CHECK(world->host() == 0);
  CHECK(world->hosts() == 1);
}

TEST_CASE("all_reduce_sum adds in rank order at any length") {
  for (const std::size_t length : {0, 1, 3, 249, 250, 251, 1000, 5003}) {
    CAPTURE(length);
    std::vector<std::vector<float>> values(static_cast<std::size_t>(world->size()));
    std::vector<double> sums(length);
    for (int rank = 0; rank < world->size(); ++rank) {
      std::mt19937 random(static_cast<unsigned>(rank) + 7);
      auto& mine = values[static_cast<std::size_t>(rank)];
      for (std::size_t i = 0; i < length; ++i) {
        mine.push_back(
            std::ldexp(static_cast<float>(random() % 1000), static_cast<int>(i % 60) - 30));
        sums[i] += static_cast<double>(mine[i]);
      }
    }
    std::vector<float> expected(sums.begin(), sums.end());
    auto& mine = values[static_cast<std::size_t>(world->rank())];
    world->all_reduce_sum(mine);
    CHECK((mine == expected));
  }
}

TEST_CASE("broadcast replaces the bytes of every other rank") {
  for (const std::size_t length : {0, 1, 999, 1000, 1001, 12345}) {
    for (int root = 0; root < world->size(); ++root) {
      CAPTURE(length, root);
      std::string bytes =
          world->rank() == root ? bytes_of_rank(root, length) : std::string(length / 2 + 7, 'x');
      world->broadcast(bytes, root);
      CHECK((bytes == bytes_of_rank(root, length)));
    }
  }
}

TEST_CASE("all_gather returns every rank's bytes in rank order") {
  for (const std::size_t step : {0, 1, 13, 400, 3001}) {
    CAPTURE(step);
    const auto length = [&](int rank) { return static_cast<std::size_t>(rank) * step; };
    const auto all = world->all_gather(bytes_of_rank(world->rank(), length(world->rank())));
    CHECK(all.size() == static_cast<std::size_t>(world->size()));
    for (int rank = 0; rank < static_cast<int>(all.size()); ++rank) {
      CHECK((all[static_cast<std::size_t>(rank)] == bytes_of_rank(rank, length(rank))));
    }
  }
}

TEST_CASE("send and receive move blocks around the ring") {
  if (world->size() == 1) return;
  const int to = (world->rank() + 1) % world->size();
  const int from = (world->rank() + world->size() - 1) % world->size();
  const std::string mine = bytes_of_rank(world->rank(), 4321);
  std::string theirs(4321, '\0');
  const auto send = [&] { world->post(std::as_bytes(std::span(mine)), to); };
  const auto receive = [&] { world->receive(std::as_writable_bytes(std::span(theirs)), from); };
  if (world->rank() % 2 == 0) {
    send();
    receive();
  } else {
    receive();
    send();
  }
  CHECK((theirs == bytes_of_rank(from, 4321)));
}

TEST_CASE("an MPI error becomes an exception with MPI's words") {
  std::string message;
  try {
    world->post(std::as_bytes(std::span("x")), world->size() + 5);
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK(message.find("MPI_Isend: ") == 0);
  // Open MPI: "MPI_ERR_RANK: invalid rank"; MPICH: "Invalid rank, error stack: ...".
  CHECK(message.find("nvalid rank") != std::string::npos);
  world->barrier();
}

TEST_CASE("the shared counter gives every number once") {
  constexpr int draws = 20000;
  const auto counter = make_shared_counter(*world);
  std::vector<std::int64_t> mine(draws);
  world->barrier();
  for (std::int64_t& number : mine) number = counter->next();
  CHECK(std::is_sorted(mine.begin(), mine.end()));

  const std::string bytes(reinterpret_cast<const char*>(mine.data()),
                          mine.size() * sizeof(mine[0]));
  std::vector<bool> seen(static_cast<std::size_t>(draws * world->size()));
  std::size_t distinct = 0;
  for (const std::string& part : world->all_gather(bytes)) {
    std::vector<std::int64_t> theirs(draws);
    std::memcpy(theirs.data(), part.data(), part.size());
    for (const std::int64_t number : theirs) {
      if (number < 0 || number >= static_cast<std::int64_t>(seen.size())) continue;
      if (!seen[static_cast<std::size_t>(number)]) ++distinct;
      seen[static_cast<std::size_t>(number)] = true;
    }
  }
  CHECK(distinct == seen.size());
}

TEST_CASE("drawing does not wait for a rank that computes") {
  const auto counter = make_shared_counter(*world);
  const auto finished = make_shared_counter(*world);
  world->barrier();
  if (world->rank() == 0) {
    // Stays out of MPI until the others have drawn, not for a time of which a busy machine may give
    // them nothing. Each look draws a number too.
    const auto begin = std::chrono::steady_clock::now();
    std::int64_t looks = 0;
    while (finished->next() - looks < world->size() - 1) {
      ++looks;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(60)) break;
    }
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(60));
  } else {
    for (int i = 0; i < 1000; ++i) counter->next();
    finished->next();
  }
  world->barrier();
}

TEST_CASE("counters made one after the other are independent") {
  const auto first = make_shared_counter(*world);
  const auto second = make_shared_counter(*world);
  first->next();
  world->barrier();
  if (world->rank() == 0) CHECK(second->next() == 0);
  world->barrier();
}

TEST_CASE("the exchange finds how far a clock is off, as closely as it says") {
  const Clock host = [] {
    return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  };
  for (const std::int64_t skew : {std::int64_t{0}, std::int64_t{5'000'000'000}}) {
    // Rank 0's clock is right; each next one is ahead by as much again.
    const ClockOffset found = measure_clock_offset(
        *world, [&] { return host() + skew * world->rank(); }, 20);
    INFO("offset " << found.offset_ns << " ns, uncertainty " << found.uncertainty_ns << " ns");
    CHECK(std::abs(found.offset_ns + skew * world->rank()) <= found.uncertainty_ns);
    CHECK(found.uncertainty_ns < 1'000'000'000);
    if (world->rank() == 0) CHECK(found.uncertainty_ns == 0);
  }
  world->barrier();
}

// One rank leaves by an exception while the others wait for it: nobody may be left hanging.
int throw_on_the_last_rank() {
  try {
    const auto owner = make_world();
    if (owner->rank() == owner->size() - 1) throw std::runtime_error("planted");
    owner->barrier();
  } catch (const std::runtime_error&) {
    return 7;  // not reached: the communicator's destructor has ended the job with exit code 1
  }
  return 0;
}

int main(int argc, char** argv) {
  if (argc == 2 && argv[1] == std::string("throw")) return throw_on_the_last_rank();
  const auto owner = make_world(message_bytes);
  world = owner.get();
  const int failed = Catch::Session().run(argc, argv);
  // A failure on any rank is a failure of all.
  const auto all = world->all_gather(std::to_string(failed));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank] == "0") continue;
    if (world->rank() == 0) std::cerr << "rank " << rank << ": " << all[rank] << " failed\n";
  }
  return std::any_of(all.begin(), all.end(), [](const auto& one) { return one != "0"; }) ? 1 : 0;
}

TEST_CASE("host_memory is the same memory for all ranks, and begins a cache line") {
  for (const std::size_t bytes : {1, 63, 64, 200}) {
    CAPTURE(bytes);
    const std::span<std::byte> memory = world->host_memory(bytes);
    CHECK(memory.size() == bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 == 0);
    if (world->rank() == world->size() - 1) memory.back() = std::byte{42};
    world->barrier();
    CHECK(memory.back() == std::byte{42});
    world->barrier();
  }
}
