// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <random>
#include <string>

#include "kernels/attention/attention.hpp"
#include "kernels/conv1d/conv1d.hpp"
#include "kernels/embedding/embedding.hpp"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rope/rope.hpp"
#include "kernels/silu_mul/silu_mul.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"

// Every operator on the device against its reference: random shapes, strides and storage types,
// fresh data, poisoned outputs, and every result twice, which must agree bit by bit.
namespace chunkstate::test {
namespace {

TEST_CASE("rms_norm on the device matches the reference") {
  for (const unsigned seed : seeds(0, 24)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 70}),
                       channels = c.pick({1, 33, 64, 1000, 4096, 20000});
    auto x = c.array<2>({tokens, channels}), y = c.array<2>({tokens, channels});
    auto weight = c.array<1>({channels});
    c.fill(x, 3.0F), c.fill(weight, 1.0F);
    CAPTURE(seed, tokens, channels);
    c.check(
        [&] {
          rms_norm(device(), {x.device(), weight.device(), 1e-5F, y.device()});
        },
        [&] {
          rms_norm(reference(), {x.host(), weight.host(), 1e-5F, y.host()});
        },
        y);
  }
}

TEST_CASE("gated_rms_norm on the device matches the reference") {
  for (const unsigned seed : seeds(0, 24)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 70}),
                       channels = c.pick({1, 33, 64, 1000, 8192, 20000});
    const std::int64_t groups = channels % 8 == 0 ? c.pick({1, 2, 8}) : 1;
    auto x = c.array<2>({tokens, channels}), z = c.array<2>({tokens, channels});
    auto y = c.array<2>({tokens, channels});
    auto weight = c.array<1>({channels});
    c.fill(x, 1.0F), c.fill(z, 4.0F), c.fill(weight, 1.0F);
    CAPTURE(seed, tokens, channels, groups);
    c.check(
        [&] {
          gated_rms_norm(device(),
                         {x.device(), z.device(), weight.device(), 1e-5F, y.device(), groups});
        },
        [&] {
          gated_rms_norm(reference(), {x.host(), z.host(), weight.host(), 1e-5F, y.host(), groups});
        },
        y);
  }
}

TEST_CASE("gated_squares and the norm with given squares on the device match the reference") {
  for (const unsigned seed : seeds(0, 24)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 70}), channels = c.pick({1, 33, 64, 1000, 2048});
    auto x = c.array<2>({tokens, channels}), z = c.array<2>({tokens, channels});
    auto y = c.array<2>({tokens, channels});
    auto weight = c.array<1>({channels});
    c.fill(x, 1.0F), c.fill(z, 4.0F), c.fill(weight, 1.0F);
    auto squares = c.array<1>({tokens}, DType::fp32, 0);
    const auto args = [&](auto side) {
      return GatedRmsNormArgs{side(x),
                              side(z),
                              side(weight),
                              1e-5F,
                              side(y),
                              1,
                              AnyView<1>(side(squares)).as<float>(),
                              3 * channels};
    };
    CAPTURE(seed, tokens, channels);
    c.check(
        [&] {
          gated_squares(device(), args(on_device));
          gated_rms_norm(device(), args(on_device));
        },
        [&] {
          gated_squares(reference(), args(on_host));
          gated_rms_norm(reference(), args(on_host));
        },
        y);
  }
}

TEST_CASE("silu_mul on the device matches the reference") {
  for (const unsigned seed : seeds(0, 24)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 70}), channels = c.pick({1, 33, 64, 1000});
    auto gate = c.array<2>({tokens, channels}), up = c.array<2>({tokens, channels});
    auto y = c.array<2>({tokens, channels});
    c.fill(gate, 4.0F), c.fill(up, 1.0F);
    CAPTURE(seed, tokens, channels);
    c.check(
        [&] {
          silu_mul(device(), {gate.device(), up.device(), y.device()});
        },
        [&] {
          silu_mul(reference(), {gate.host(), up.host(), y.host()});
        },
        y);
  }
}

TEST_CASE("embedding on the device matches the reference") {
  for (const unsigned seed : seeds(0, 12)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 70}), channels = c.pick({1, 33, 64, 1000});
    constexpr std::int32_t vocabulary = 50;
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokens));
    for (auto& id : ids) id = static_cast<std::int32_t>(c.random() % vocabulary);
    const DeviceVector<std::int32_t> token(ids);
    auto table = c.array<2>({vocabulary, channels}), y = c.array<2>({tokens, channels});
    const float scale = c.flip() ? 1.0F : 12.0F;
    c.fill(table, 1.0F);
    CAPTURE(seed, tokens, channels, scale);
    c.check(
        [&] {
          embedding(device(), {token.device(), table.device(), y.device(), scale});
        },
        [&] {
          embedding(reference(), {token.host(), table.host(), y.host(), scale});
        },
        y);
  }
}

TEST_CASE("rope on the device matches the reference") {
  for (const unsigned seed : seeds(0, 12)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 70}), heads = c.pick({1, 3, 8});
    const std::int64_t head_dim = c.pick({2, 10, 64, 128});
    const std::int64_t pairs = c.pick({1, head_dim / 2});
    std::vector<float> frequency;
    for (std::int64_t i = 0; i < pairs; ++i) {
      frequency.push_back(std::pow(10000.0F, -static_cast<float>(i) / static_cast<float>(pairs)));
    }
    std::vector<std::int64_t> at;
    for (std::int64_t t = 0; t < tokens; ++t) at.push_back(c.random() % 200'000);
    const DeviceVector<float> inverse_frequency(frequency);
    const DeviceVector<std::int64_t> positions(at);
    auto x = c.array<3>({tokens, heads, head_dim});
    c.fill(x, 1.0F);
    CAPTURE(seed, tokens, heads, head_dim, pairs);
    c.check(
        [&] {
          rope(device(), {x.device(), positions.device(), inverse_frequency.device()});
        },
        [&] {
          rope(reference(), {x.host(), positions.host(), inverse_frequency.host()});
        },
        x);
  }
}

TEST_CASE("conv1d on the device matches the reference") {
  for (const unsigned seed : seeds(0, 32)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 2, 3, 16, 17, 70}), taps = c.pick({4, 4, 4, 1, 2, 7});
    const std::int64_t channels = c.pick({1, 33, 64, 1088});
    const bool with_bias = c.flip(), with_window = c.flip();
    auto x = c.array<2>({tokens, channels}), y = c.array<2>({tokens, channels});
    auto weight = c.array<2>({channels, taps});
    auto bias = c.array<1>({channels});
    auto window = c.array<2>({taps - 1, channels});
    c.fill(x, 1.0F), c.fill(weight, 1.0F), c.fill(bias, 1.0F), c.fill(window, 1.0F);
    CAPTURE(seed, tokens, taps, channels, with_bias, with_window);
    const auto args = [&](auto side) {
      Conv1dArgs a{side(x), side(weight), {}, {}, side(y)};
      if (with_bias) a.bias = side(bias);
      if (with_window) a.window = side(window);
      return a;
    };
    c.check([&] { conv1d(device(), args(on_device)); }, [&] { conv1d(reference(), args(on_host)); },
            y, window);
  }
}

TEST_CASE("conv1d_step on the device continues conv1d") {
  for (const unsigned seed : seeds(0, 12)) {
    DeviceCase c(seed);
    const std::int64_t batch = c.pick({1, 3}), taps = c.pick({4, 4, 1, 2});
    const std::int64_t channels = c.pick({1, 33, 64, 1088});
    auto x = c.array<2>({batch, channels}), y = c.array<2>({batch, channels});
    auto weight = c.array<2>({channels, taps});
    auto bias = c.array<1>({channels});
    auto window = c.array<3>({batch, taps - 1, channels});
    c.fill(x, 1.0F), c.fill(weight, 1.0F), c.fill(bias, 1.0F), c.fill(window, 1.0F);
    CAPTURE(seed, batch, taps, channels);
    const auto args = [&](auto side) {
      return Conv1dStepArgs{side(x), side(weight), side(bias), side(window), side(y)};
    };
    c.check([&] { conv1d_step(device(), args(on_device)); },
            [&] { conv1d_step(reference(), args(on_host)); }, y, window);
  }
}

TEST_CASE("linear on the device matches the reference") {
  for (const unsigned seed : seeds(0, 80)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 2, 5, 8, 9, 64, 150});
    const std::int64_t in_features = c.pick({1, 8, 40, 136, 333, 1024});
    const std::int64_t out_features = c.pick({1, 8, 31, 128, 500});
    const bool with_bias = c.pick({0, 0, 1}) == 1, accumulate = c.flip();
    const float scale = c.flip() ? 1.0F : 0.22F;
    auto x = c.array<2>({tokens, in_features});
    auto weight = c.array<2>({out_features, in_features});
    auto bias = c.array<1>({out_features});
    auto y = c.array<2>({tokens, out_features});
    c.fill(x, 1.0F), c.fill(weight, 1.0F), c.fill(bias, 1.0F);
    if (accumulate) c.fill(y, 1.0F);
    CAPTURE(seed, tokens, in_features, out_features, with_bias, accumulate, scale);
    const auto args = [&](auto side) {
      LinearArgs a{side(x), side(weight), {}, side(y), accumulate, scale};
      if (with_bias) a.bias = side(bias);
      return a;
    };
    c.check([&] { linear(device(), args(on_device)); }, [&] { linear(reference(), args(on_host)); },
            y);
  }
}

TEST_CASE("attention on the device matches the reference, by every method") {
  for (const unsigned seed : seeds(0, 120)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 64, 65, 130});
    const std::int64_t keys = tokens + c.pick({0, 0, 1, 77});
    const std::int64_t kv_heads = c.pick({1, 2}), heads = kv_heads * c.pick({1, 4});
    const std::int64_t head_dim = c.pick({64, 128, 128, 16, 33, 256});
    auto q = c.array<3>({tokens, heads, head_dim}), y = c.array<3>({tokens, heads, head_dim});
    auto k = c.array<3>({keys, kv_heads, head_dim}), v = c.array<3>({keys, kv_heads, head_dim});
    c.fill(q, 2.0F), c.fill(k, 1.0F), c.fill(v, 1.0F);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
    AttentionChoice choice;
    const unsigned kind = seed / 3 % 3;  // seed % 3 decides on the types
    if (kind == 0) choice.method = AttentionMethod::naive;
    if (kind == 1) choice.block_keys = c.pick({32, 64, 128});
    const bool naive = choice.method == AttentionMethod::naive;
    CAPTURE(seed, tokens, keys, heads, kv_heads, head_dim, naive, choice.block_keys);
    AttentionArgs sizes{q.device(), k.device(), v.device(), scale, y.device(), choice};
    DeviceArray<1> scores({attention_scores(Backend::cuda, sizes) + 1}, DType::fp32);
    const auto args = [&](auto side) {
      AttentionArgs made{side(q), side(k), side(v), scale, side(y), choice};
      made.scores = scores.device().as<float>();
      return made;
    };
    c.check([&] { attention(device(), args(on_device)); },
            [&] { attention(reference(), args(on_host)); }, y);
  }
}

TEST_CASE("attention_step on the device matches the reference") {
  for (const unsigned seed : seeds(0, 24)) {
    DeviceCase c(seed);
    const std::int64_t batch = c.pick({1, 3}), capacity = c.pick({1, 128, 129, 700});
    const std::int64_t kv_heads = c.pick({1, 2}), heads = kv_heads * c.pick({1, 4, 6});
    const std::int64_t head_dim = c.pick({64, 128, 16, 33, 256});
    std::vector<std::int64_t> length;
    for (std::int64_t b = 0; b < batch; ++b) length.push_back(1 + c.random() % capacity);
    const DeviceVector<std::int64_t> lengths(length);
    auto q = c.array<3>({batch, heads, head_dim}), y = c.array<3>({batch, heads, head_dim});
    auto k = c.array<4>({batch, capacity, kv_heads, head_dim});
    auto v = c.array<4>({batch, capacity, kv_heads, head_dim});
    c.fill(q, 2.0F), c.fill(k, 1.0F), c.fill(v, 1.0F);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
    CAPTURE(seed, batch, capacity, heads, kv_heads, head_dim);
    c.check(
        [&] {
          attention_step(device(),
                         {q.device(), k.device(), v.device(), lengths.device(), scale, y.device()});
        },
        [&] {
          attention_step(reference(),
                         {q.host(), k.host(), v.host(), lengths.host(), scale, y.host()});
        },
        y);
  }
}

}  // namespace
}  // namespace chunkstate::test
