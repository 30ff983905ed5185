// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cstring>
#include <limits>

#include "kernels/base/check.hpp"
#include "kernels/base/product.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/base/vector_math.hpp"
#include "tests/kernels/numbers.hpp"

using namespace chunkstate;
using namespace chunkstate::test;

namespace {

/// Distance in units of the last place of the correctly rounded result.
double ulps(float found, double exact) {
  const auto rounded = static_cast<float>(exact);
  if (std::isinf(rounded) || rounded == 0.0F) return found == rounded ? 0.0 : 1e9;
  const float next = std::nextafter(std::fabs(rounded), std::numeric_limits<float>::infinity());
  return std::fabs(found - exact) / (static_cast<double>(next) - std::fabs(rounded));
}

}  // namespace

TEST_CASE("fast_exp stays within 2 ulp of exp over its whole range") {
  double worst = 0.0;
  for (double x = -87.3; x < 88.7; x += 0.00037) {
    const auto v = static_cast<float>(x);
    worst = std::max(worst, ulps(fast_exp(v), std::exp(static_cast<double>(v))));
  }
  CHECK(worst < 2.0);
  for (double x = -103.9; x < -87.3; x += 0.0037) {  // subnormal: one step is 2^-149
    const auto v = static_cast<float>(x);
    CHECK(std::fabs(fast_exp(v) - std::exp(static_cast<double>(v))) <= 1.1 * 0x1p-149);
  }
}

TEST_CASE("fast_exp handles zero, overflow, underflow and NaN") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK(fast_exp(0.0F) == 1.0F);
  CHECK(fast_exp(-0.0F) == 1.0F);
  CHECK(fast_exp(89.0F) == infinity);
  CHECK(fast_exp(infinity) == infinity);
  CHECK(fast_exp(-110.0F) == 0.0F);
  CHECK(fast_exp(-infinity) == 0.0F);
  CHECK(std::isnan(fast_exp(std::nanf(""))));
}

TEST_CASE("fast_softplus and fast_silu follow their definitions") {
  double softplus_error = 0.0;
  double silu_error = 0.0;
  for (double x = -80.0; x < 30.0; x += 0.00113) {
    const auto v = static_cast<float>(x);
    const double softplus = v > 20.0F ? v : std::log1p(std::exp(static_cast<double>(v)));
    softplus_error = std::max(softplus_error, std::fabs(fast_softplus(v) / softplus - 1.0));
    const double silu = v / (1.0 + std::exp(-static_cast<double>(v)));
    if (silu != 0.0) silu_error = std::max(silu_error, std::fabs(fast_silu(v) / silu - 1.0));
  }
  CHECK(softplus_error < 4e-7);
  CHECK(silu_error < 4e-7);
  CHECK(fast_softplus(25.0F) == 25.0F);
  CHECK(fast_softplus(-200.0F) == 0.0F);
  CHECK(std::isnan(fast_softplus(std::nanf(""))));
  CHECK(fast_silu(200.0F) == 200.0F);
  CHECK(fast_silu(-200.0F) == 0.0F);
}

TEST_CASE("Rows of every 16-bit pattern widen as to_float does") {
  std::vector<bf16> brains(65536);
  std::vector<fp16> halves(65536);
  for (std::uint32_t i = 0; i < 65536; ++i) {
    brains[i].bits = static_cast<std::uint16_t>(i);
    halves[i].bits = static_cast<std::uint16_t>(i);
  }
  std::vector<float> from_brains(65536);
  std::vector<float> from_halves(65536);
  copy_row(reinterpret_cast<const std::byte*>(brains.data()), DType::bf16, 65536,
           from_brains.data());
  copy_row(reinterpret_cast<const std::byte*>(halves.data()), DType::fp16, 65536,
           from_halves.data());
  int wrong = 0;
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto same = [](float a, float b) {
      return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b) ||
             (std::isnan(a) && std::isnan(b));
    };
    wrong += !same(from_brains[i], to_float(brains[i]));
    wrong += !same(from_halves[i], to_float(halves[i]));
  }
  CHECK(wrong == 0);
}

TEST_CASE("Rows of random bit patterns narrow as from_float does") {
  std::mt19937 rng(7);
  std::vector<float> values(1 << 18);
  for (float& v : values) v = std::bit_cast<float>(static_cast<std::uint32_t>(rng()));
  // fp16's own range is a small part of fp32's: cover it densely.
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const auto bits = static_cast<std::uint32_t>(rng());
    values[i] = std::bit_cast<float>((bits & 0x807FFFFFU) | ((100U + bits % 46U) << 23));
  }
  std::vector<bf16> brains(values.size());
  std::vector<fp16> halves(values.size());
  const auto count = static_cast<std::int64_t>(values.size());
  store_row(values.data(), count, reinterpret_cast<std::byte*>(brains.data()), DType::bf16);
  store_row(values.data(), count, reinterpret_cast<std::byte*>(halves.data()), DType::fp16);
  int wrong = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    wrong += brains[i].bits != from_float<bf16>(values[i]).bits;
    wrong += halves[i].bits != from_float<fp16>(values[i]).bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Rounding to 16 bits goes to the nearest, ties to even") {
  CHECK(from_float<bf16>(1.0F + 0x1p-8F).bits == from_float<bf16>(1.0F).bits);
  CHECK(to_float(from_float<bf16>(1.0F + 0x1.8p-7F)) == 1.0F + 0x1p-6F);
  CHECK(from_float<fp16>(65519.0F).bits == 0x7BFFU);
  CHECK(from_float<fp16>(65520.0F).bits == 0x7C00U);
  CHECK(to_float(from_float<fp16>(0x1p-24F)) == 0x1p-24F);
  CHECK(to_float(from_float<fp16>(0x1p-25F)) == 0.0F);
  CHECK(to_float(from_float<fp16>(-0x1.8p-24F)) == -0x1p-23F);
}

TEST_CASE("A product equals its definition at all shapes, factors and triangles") {
  for (unsigned seed = 0; seed < 60; ++seed) {
    Dice dice(seed);
    const std::int64_t rows = dice.between(1, 40);
    const std::int64_t columns = dice.between(1, 70);
    const std::int64_t depth = dice.between(0, 50);
    const bool turned = dice.coin();
    const bool triangle = dice.coin();
    const std::int64_t diagonal = triangle ? dice.between(0, 20) : 1000;
    const int factor = static_cast<int>(dice.between(0, 2));
    CAPTURE(seed, rows, columns, depth, turned, diagonal, factor);
    std::vector<float> a(static_cast<std::size_t>(rows * depth) + 1);
    std::vector<float> b(static_cast<std::size_t>(depth * padded(columns)) + 1);
    std::vector<float> c(static_cast<std::size_t>(rows * padded(columns)));
    std::vector<float> factors(static_cast<std::size_t>(rows));
    std::normal_distribution<float> normal;
    for (auto* values : {&a, &b, &c, &factors}) {
      for (float& v : *values) v = normal(dice.rng);
    }
    const auto place = [&](std::int64_t i, std::int64_t k) {
      return static_cast<std::size_t>(turned ? k * rows + i : i * depth + k);
    };
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t k = std::max<std::int64_t>(i + diagonal + 1, 0); k < depth; ++k) {
        a[place(i, k)] = 0.0F;
      }
    }
    std::vector<float> expected;
    std::vector<float> found;
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) {
        const double old = c[static_cast<std::size_t>(i * padded(columns) + j)];
        double sum = factor == 0 ? 0.0 : factors[factor == 1 ? 0 : i] * old;
        for (std::int64_t k = 0; k < depth; ++k) {
          sum += static_cast<double>(a[place(i, k)]) * b[k * padded(columns) + j];
        }
        expected.push_back(static_cast<float>(sum));
      }
    }
    multiply({.rows = rows,
              .columns = columns,
              .depth = depth,
              .a = a.data(),
              .a_row = turned ? 1 : depth,
              .a_depth = turned ? rows : 1,
              .b = b.data(),
              .b_row = padded(columns),
              .c = c.data(),
              .c_row = padded(columns),
              .c_factor = factor == 0 ? nullptr : factors.data(),
              .c_factor_row = factor == 2 ? 1 : 0,
              .diagonal = diagonal});
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < columns; ++j) found.push_back(c[i * padded(columns) + j]);
    }
    CHECK(relative_error(expected, found) < 2e-6);
  }
}

TEST_CASE("A transpose of any shape moves every element") {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {4, 4}, {5, 3}, {17, 30}, {64, 9}}) {
    CAPTURE(rows, columns);
    std::vector<float> source(static_cast<std::size_t>(rows * (columns + 3)));
    for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<float>(i);
    std::vector<float> target(static_cast<std::size_t>(columns * (rows + 2)), -1.0F);
    transpose(source.data(), columns + 3, rows, columns, target.data(), rows + 2);
    int wrong = 0;
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        wrong += target[j * (rows + 2) + i] != source[i * (columns + 3) + j];
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("check_shape names the operator, the argument, both shapes and the dimensions") {
  std::vector<float> memory(64);
  const View<float, 2> view(memory.data(), {4, 8});
  CHECK_NOTHROW(check_shape("linear", "x", view, {4, 8}, "tokens x in_features"));
  CHECK_THROWS_WITH(
      check_shape("linear", "weight", view, {4, 6}, "out_features x in_features"),
      "linear: weight has shape [4, 8], expected [4, 6] (out_features x in_features)");
  CHECK_THROWS_WITH(check_shape("linear", "x", View<float, 2>(), {4, 6}, "tokens x in_features"),
                    "linear: x is required");
  const View<float, 2> turned(memory.data(), {4, 8}, {1, 4});
  CHECK_THROWS_WITH(check_shape("linear", "x", turned, {4, 8}, "tokens x in_features"),
                    "linear: x needs a contiguous last dimension");
  CHECK_NOTHROW(check_shape("linear", "x", View<float, 2>(nullptr, {0, 6}), {0, 6}, "empty"));
}
