// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/algorithm_cache.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

namespace chunkstate {
namespace {

const std::string owner = "NVIDIA H200, cublasLt 130000";

TunedAlgorithm algorithm(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  TunedAlgorithm result;
  for (auto& word : result.words) word = random();
  result.microseconds = static_cast<double>(random() % 1000) + 0.125;
  return result;
}

std::string text_of(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file, std::ios::binary) << text;
}

bool same(const std::optional<TunedAlgorithm>& found, const TunedAlgorithm& expected) {
  return found && found->words == expected.words && found->microseconds == expected.microseconds;
}

TEST_CASE("What one process found the next one reads") {
  const TemporaryFolder folder;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const AlgorithmCache cache(folder.path() / "new" / "folders", owner);
    CHECK_FALSE(cache.find("product " + std::to_string(i)));
    cache.add("product " + std::to_string(i), algorithm(i));
  }
  const AlgorithmCache cache(folder.path() / "new" / "folders", owner);
  for (std::uint64_t i = 0; i < 20; ++i) {
    CHECK(same(cache.find("product " + std::to_string(i)), algorithm(i)));
  }
  cache.add("product 3", algorithm(99));
  CHECK(same(cache.find("product 3"), algorithm(99)));
  const AlgorithmCache other(folder.path() / "new" / "folders", "NVIDIA H100, cublasLt 130000");
  CHECK_FALSE(other.find("product 3"));
}

TEST_CASE("Processes that search at once lose nothing") {
  const TemporaryFolder folder;
  constexpr std::uint64_t processes = 8, products = 6;
  for (std::uint64_t p = 0; p < processes; ++p) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child != 0) continue;
    const AlgorithmCache cache(folder.path(), owner);
    for (std::uint64_t i = 0; i < products; ++i) {
      const AlgorithmCache::Turn turn(cache);
      cache.add(std::to_string(p) + " " + std::to_string(i), algorithm(p * products + i));
    }
    ::_exit(0);
  }
  for (std::uint64_t p = 0; p < processes; ++p) ::wait(nullptr);
  const AlgorithmCache cache(folder.path(), owner);
  for (std::uint64_t p = 0; p < processes; ++p) {
    for (std::uint64_t i = 0; i < products; ++i) {
      CHECK(same(cache.find(std::to_string(p) + " " + std::to_string(i)),
                 algorithm(p * products + i)));
    }
  }
}

TEST_CASE("A damaged file counts as empty and is replaced") {
  const TemporaryFolder folder;
  const AlgorithmCache cache(folder.path(), owner);
  cache.add("one", algorithm(1));
  cache.add("two", algorithm(2));
  const std::string whole = text_of(cache.file());
  REQUIRE(whole.find("two") != std::string::npos);

  std::mt19937 random(5);
  for (int round = 0; round < 60; ++round) {
    std::string damaged = whole;
    const std::size_t at = random() % damaged.size();
    if (round % 3 == 0) {
      damaged.resize(at);
    } else {
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 7)));
    }
    CAPTURE(round, at);
    write(cache.file(), damaged);
    // Cut at the end of a line, a file is a shorter one.
    const auto found = cache.find("one");
    CHECK((!found || same(found, algorithm(1))));
    const auto second = cache.find("two");
    CHECK((!second || same(second, algorithm(2))));
  }
  cache.add("three", algorithm(3));
  CHECK(same(cache.find("three"), algorithm(3)));
  for (const std::string& foreign : {std::string("hello\n"), std::string(5 << 20, 'x')}) {
    write(cache.file(), foreign);
    CHECK_FALSE(cache.find("three"));
  }
  cache.add("four", algorithm(4));
  CHECK(same(cache.find("four"), algorithm(4)));
  CHECK_FALSE(cache.find("three"));
}

TEST_CASE("Without a folder to write to nothing is kept and nothing fails") {
  const TemporaryFolder folder;
  const std::string file = folder.write("file", "not a folder");
  const AlgorithmCache cache(std::filesystem::path(file), owner);
  const AlgorithmCache::Turn turn(cache);
  cache.add("one", algorithm(1));
  CHECK_FALSE(cache.find("one"));
  const AlgorithmCache nowhere(std::filesystem::path(), owner);
  const AlgorithmCache::Turn no_turn(nowhere);
  nowhere.add("one", algorithm(1));
  CHECK_FALSE(nowhere.find("one"));
}

}  // namespace
}  // namespace chunkstate
