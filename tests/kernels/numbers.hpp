// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"
#include "tests/catch.hpp"

namespace chunkstate::test {

using Extents = std::vector<std::int64_t>;

/// An owned array of any storage type and rank. `gap` elements lie between its outermost rows, as
/// if it were a slice of wider ones; they are filled with NaN, and must stay so.
class Numbers {
 public:
  Numbers() = default;
  Numbers(DType dtype, Extents extent, std::int64_t gap = 0)
      : dtype_(dtype), extent_(std::move(extent)), gap_(gap) {
    inner_ = 1;
    for (std::size_t d = 1; d < extent_.size(); ++d) inner_ *= extent_[d];
    const std::int64_t elements = extent_[0] * (inner_ + gap_);
    bytes_.resize(static_cast<std::size_t>(elements) * bytes_of(dtype_));
    const BasicAnyView<std::byte, 1> all(bytes_.data(), dtype_, {elements});
    for (std::int64_t i = 0; i < elements; ++i) {
      all.store(i % (inner_ + gap_) < inner_ ? 0.0F : std::nanf(""), i);
    }
  }

  /// Normally distributed with this spread around `mean`.
  static Numbers random(std::mt19937& rng, DType dtype, Extents extent, float spread = 1.0F,
                        float mean = 0.0F, std::int64_t gap = 0) {
    Numbers numbers(dtype, std::move(extent), gap);
    std::normal_distribution<float> normal(mean, spread);
    numbers.for_each(
        [&](auto& view, std::int64_t r, std::int64_t i) { view.store(normal(rng), r, i); });
    return numbers;
  }

  static Numbers of(Extents extent, const std::vector<float>& values, DType dtype = DType::fp32) {
    Numbers numbers(dtype, std::move(extent));
    std::size_t next = 0;
    numbers.for_each(
        [&](auto& view, std::int64_t r, std::int64_t i) { view.store(values.at(next++), r, i); });
    return numbers;
  }

  template <int Rank>
  AnyView<Rank> view() {
    REQUIRE(extent_.size() == Rank);
    AnyView<Rank> result;
    result.data = bytes_.data();
    result.dtype = dtype_;
    std::copy_n(extent_.begin(), Rank, result.extent.begin());
    result.stride = packed_stride<Rank>(result.extent);
    result.stride[0] += gap_;
    return result;
  }

  View<float, 1> floats() { return view<1>().as<float>(); }

  DType dtype() const { return dtype_; }
  const std::vector<std::byte>& bytes() const { return bytes_; }

  std::vector<float> values() const {
    std::vector<float> result;
    Numbers& self = const_cast<Numbers&>(*this);
    self.for_each(
        [&](auto& view, std::int64_t r, std::int64_t i) { result.push_back(view.load(r, i)); });
    return result;
  }

 private:
  template <class Body>
  void for_each(Body&& body) {
    const AnyView<2> view(bytes_.data(), dtype_, {extent_[0], inner_}, {inner_ + gap_, 1});
    for (std::int64_t r = 0; r < extent_[0]; ++r) {
      for (std::int64_t i = 0; i < inner_; ++i) body(view, r, i);
    }
  }

  DType dtype_ = DType::fp32;
  Extents extent_;
  std::int64_t gap_ = 0;
  std::int64_t inner_ = 1;
  std::vector<std::byte> bytes_;
};

/// The largest difference relative to the largest expected magnitude; infinity if a value that
/// should be finite is not.
inline double relative_error(const std::vector<float>& expected, const std::vector<float>& found) {
  REQUIRE(expected.size() == found.size());
  double difference = 0.0;
  double largest = 0.0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(found[i])) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::fabs(static_cast<double>(expected[i]) - found[i]));
    largest = std::max(largest, std::fabs(static_cast<double>(expected[i])));
  }
  return largest > 0.0 ? difference / largest : difference;
}

inline double relative_error(const Numbers& expected, const Numbers& found) {
  return relative_error(expected.values(), found.values());
}

/// Two results that differ by rounding in fp32 may round to neighbours of the storage type.
inline double storage_step(DType dtype) {
  return dtype == DType::bf16 ? 0x1p-8 : dtype == DType::fp16 ? 0x1p-11 : 0.0;
}

inline Executor reference_executor() { return {.backend = Backend::reference}; }
inline Executor cpu_executor(int threads) { return {.backend = Backend::cpu, .threads = threads}; }

/// Runs `Case::run(const Executor&)` on copies of `prototype` and compares `Case::outputs()`:
/// the CPU backend with the reference, and itself bit for bit on 1, 2 and 3 threads.
template <class Case>
void compare_backends(const Case& prototype, double tolerance = 1e-5) {
  Case expected = prototype;
  expected.run(reference_executor());
  Case single = prototype;
  single.run(cpu_executor(1));
  const auto wanted = expected.outputs();
  const auto found = single.outputs();
  for (std::size_t o = 0; o < wanted.size(); ++o) {
    CAPTURE(o, name_of(wanted[o]->dtype()));
    CHECK(relative_error(*wanted[o], *found[o]) <= tolerance + storage_step(wanted[o]->dtype()));
  }
  for (const int threads : {2, 3}) {
    Case several = prototype;
    several.run(cpu_executor(threads));
    CAPTURE(threads);
    for (std::size_t o = 0; o < wanted.size(); ++o) {
      CHECK((several.outputs()[o]->bytes() == found[o]->bytes()));
    }
  }
}

/// Chooses shapes and storage types; reports its seed when a check fails.
struct Dice {
  unsigned seed;
  std::mt19937 rng;

  explicit Dice(unsigned seed_) : seed(seed_), rng(seed_) {}

  std::int64_t between(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(rng);
  }
  bool coin() { return between(0, 1) == 1; }
  DType dtype() { return static_cast<DType>(between(0, 2)); }
  std::int64_t gap() { return coin() ? 0 : between(1, 40); }
};

}  // namespace chunkstate::test
