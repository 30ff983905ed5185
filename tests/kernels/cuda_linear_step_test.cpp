// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "kernels/conv1d/conv1d.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/linear_step.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/silu_mul/silu_mul.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"

// linear_step against the references of the operators that it stands for.
namespace chunkstate::test {
namespace {

// A case of linear_step: its arrays, its arguments on the device, and the reference.
struct LinearStepCase {
  explicit LinearStepCase(unsigned seed) : c(seed) {
    tokens = 1 + static_cast<std::int64_t>(c.random() % 8);
    in = c.pick({64, 192, 256, 704, 4096, 4160, 8192, 14336});
    normed = c.flip();
    dtype = c.flip() ? DType::bf16 : DType::fp16;
  }
  DeviceArray<2> rows(std::int64_t columns, DType type) {
    return c.array<2>({tokens, columns}, type, 0);
  }

  DeviceCase c;
  std::int64_t tokens, in;
  bool normed;
  DType dtype;
};

// x and what precedes the product, on both sides.
struct Input {
  explicit Input(LinearStepCase& s)
      : x(s.rows(s.in, s.c.flip() ? DType::fp32 : s.dtype)),
        norm(s.c.array<1>({s.in}, s.dtype, 0)),
        squares(s.c.array<2>({s.tokens, 3}, DType::fp32, 0)),
        prepared(static_cast<std::size_t>(s.tokens * s.in)) {
    s.c.fill(x, 2.0F), s.c.fill(norm, 1.0F);
    const View<float, 2> host(prepared.data(), {s.tokens, s.in});
    if (s.normed) rms_norm(reference(), {x.host(), norm.host(), 1e-5F, host});
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      for (std::int64_t i = 0; i < s.in; ++i) {
        if (!s.normed) host(t, i) = x.host()(t, i);
      }
    }
    std::int64_t next = 0;
    squares.fill([&] {  // the parts of a row, of unequal size
      const std::int64_t t = next / 3, part = next++ % 3;
      const std::int64_t bounds[] = {0, s.in / 4, s.in / 2, s.in};
      float sum = 0.0F;
      for (std::int64_t i = bounds[part]; i < bounds[part + 1]; ++i)
        sum += x.host()(t, i) * x.host()(t, i);
      return sum;
    });
  }
  ConstAnyView<2> host(const LinearStepCase& s) const {
    return View<const float, 2>(prepared.data(), {s.tokens, s.in});
  }
  void give_to(LinearStepArgs& args, LinearStepCase& s) {
    args.x = x.device();
    args.epsilon = 1e-5F;
    if (!s.normed) return;
    args.norm = norm.device();
    if (s.c.flip()) args.squares = floats(squares);
  }

  DeviceArray<2> x;
  DeviceArray<1> norm;
  DeviceArray<2> squares;
  std::vector<float> prepared;
};

// Scratch of a call, and whether it was left as zeros.
struct Scratch {
  explicit Scratch(LinearStepArgs& args)
      : counters(std::vector<std::uint32_t>(static_cast<std::size_t>(linear_step_counters(args)))),
        partials({linear_step_partials(args) + 1}, DType::fp32) {
    args.counters = {const_cast<std::uint32_t*>(counters.device().data), counters.device().extent};
    args.partials = floats(partials);
  }
  bool is_clean() const {
    const auto bytes = counters.download();
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
  }
  DeviceVector<std::uint32_t> counters;
  DeviceArray<1> partials;
};

TEST_CASE("linear_step stores up to three products of a normalised input") {
  for (const unsigned seed : seeds(0, 24)) {
    LinearStepCase s(seed);
    Input input(s);
    const std::int64_t count = s.c.pick({1, 2, 3});
    const bool with_bias = s.c.flip();
    CAPTURE(seed, s.tokens, s.in, s.normed, count, with_bias);
    LinearStepArgs args;
    input.give_to(args, s);
    const std::int64_t out[] = {s.c.pick({1, 16, 500}), s.c.pick({17, 64}), s.c.pick({8, 100})};
    DeviceArray<2> w0 = s.c.array<2>({out[0], s.in}, s.dtype, s.c.pick({0, 8}));
    DeviceArray<2> w1 = s.c.array<2>({out[1], s.in}, s.dtype, 0);
    DeviceArray<2> w2 = s.c.array<2>({out[2], s.in}, s.dtype, 0);
    DeviceArray<2> y0 = s.rows(out[0], s.dtype), y1 = s.rows(out[1], DType::fp32),
                   y2 = s.rows(out[2], s.dtype);
    DeviceArray<1> bias = s.c.array<1>({out[0]}, s.dtype, 0);
    s.c.fill(w0, 1.0F), s.c.fill(w1, 1.0F), s.c.fill(w2, 1.0F), s.c.fill(bias, 5.0F);
    DeviceArray<2>* const weights[] = {&w0, &w1, &w2};
    DeviceArray<2>* const outputs[] = {&y0, &y1, &y2};
    for (std::int64_t i = 0; i < count; ++i) {
      args.products[i].weight = weights[i]->device();
      args.products[i].y = outputs[i]->device();
    }
    if (with_bias) args.products[0].bias = bias.device();
    REQUIRE(linear_step_applies(args));
    Scratch scratch(args);
    const auto on_reference = [&] {
      for (std::int64_t i = 0; i < count; ++i) {
        LinearArgs product{input.host(s), weights[i]->host(), {}, outputs[i]->host()};
        if (with_bias && i == 0) product.bias = bias.host();
        linear(reference(), product);
      }
    };
    const auto on_the_device = [&] { linear_step(device(), args); };
    if (count == 1) s.c.check(on_the_device, on_reference, y0);
    if (count == 2) s.c.check(on_the_device, on_reference, y0, y1);
    if (count == 3) s.c.check(on_the_device, on_reference, y0, y1, y2);
    CHECK(scratch.is_clean());
  }
}

TEST_CASE("linear_step adds to a residual and leaves its squares") {
  for (const unsigned seed : seeds(100, 24)) {
    LinearStepCase s(seed);
    Input input(s);
    const std::int64_t out = s.c.pick({1, 16, 100, 4096});
    const float scale = s.c.flip() ? 1.0F : 0.22F;
    CAPTURE(seed, s.tokens, s.in, s.normed, out, scale);
    auto weight = s.c.array<2>({out, s.in}, s.dtype, 0);
    auto y = s.rows(out, s.c.flip() ? DType::fp32 : s.dtype);
    auto squares = s.rows((out + 15) / 16, DType::fp32);
    s.c.fill(weight, 1.0F), s.c.fill(y, 30.0F);
    LinearStepArgs args;
    input.give_to(args, s);
    args.sink = StepSink::accumulate;
    args.scale = scale;
    args.products[0] = {weight.device(), {}, y.device()};
    args.squares_out = floats(squares);
    Scratch scratch(args);
    s.c.check([&] { linear_step(device(), args); },
              [&] {
                linear(reference(), {input.host(s), weight.host(), {}, y.host(), true, scale});
                for (std::int64_t t = 0; t < s.tokens; ++t) {
                  for (std::int64_t o = 0; o < out; ++o) {
                    const float value = y.host()(t, o);
                    float& sum = squares.host()(t, o / 16);
                    sum = o % 16 == 0 ? value * value : sum + value * value;
                  }
                }
              },
              y, squares);
    CHECK(scratch.is_clean());
  }
}

TEST_CASE("linear_step multiplies a gate and its factor") {
  for (const unsigned seed : seeds(200, 20)) {
    LinearStepCase s(seed);
    Input input(s);
    const std::int64_t out = s.c.pick({1, 8, 20, 704});
    CAPTURE(seed, s.tokens, s.in, s.normed, out);
    auto gate = s.c.array<2>({out, s.in}, s.dtype, 0), up = s.c.array<2>({out, s.in}, s.dtype, 0);
    auto y = s.rows(out, s.dtype), product = s.rows(out, DType::fp32);
    const float size = 1.0F / std::sqrt(static_cast<float>(s.in));
    s.c.fill(gate, size), s.c.fill(up, size);
    LinearStepArgs args;
    input.give_to(args, s);
    args.sink = StepSink::silu_mul;
    args.products[0] = {gate.device(), {}, y.device()};
    args.products[1].weight = up.device();
    Scratch scratch(args);
    s.c.check([&] { linear_step(device(), args); },
              [&] {
                linear(reference(), {input.host(s), gate.host(), {}, y.host()});
                linear(reference(), {input.host(s), up.host(), {}, product.host()});
                silu_mul(reference(), {y.host(), product.host(), y.host()});
              },
              y);
    CHECK(scratch.is_clean());
  }
}

TEST_CASE("linear_step passes some of its columns through the convolution") {
  for (const unsigned seed : seeds(300, 24)) {
    LinearStepCase s(seed);
    Input input(s);
    const std::int64_t out = s.c.pick({40, 100, 500}), first = s.c.pick({0, 3, 16});
    const std::int64_t channels = s.c.pick({1, 16, 24}), taps = s.c.pick({4, 4, 1, 2});
    CAPTURE(seed, s.tokens, s.in, s.normed, out, first, channels, taps);
    auto weight = s.c.array<2>({out, s.in}, s.dtype, 0);
    auto y = s.rows(out, s.dtype);
    auto filter = s.c.array<2>({channels, taps}, s.dtype, 0);
    auto bias = s.c.array<1>({channels}, s.dtype, 0);
    auto window = s.c.array<3>({s.tokens, taps - 1, channels}, s.dtype, 0);
    s.c.fill(weight, 1.0F / std::sqrt(static_cast<float>(s.in)));
    s.c.fill(filter, 1.0F), s.c.fill(bias, 1.0F), s.c.fill(window, 1.0F);
    LinearStepArgs args;
    input.give_to(args, s);
    args.sink = StepSink::convolve;
    args.products[0] = {weight.device(), {}, y.device()};
    args.convolution = {first, filter.device(), bias.device(), window.device()};
    Scratch scratch(args);
    s.c.check(
        [&] { linear_step(device(), args); },
        [&] {
          linear(reference(), {input.host(s), weight.host(), {}, y.host()});
          const AnyView<2> columns = AnyView<2>(y.host()).slice(1, first, first + channels);
          std::vector<float> result(static_cast<std::size_t>(s.tokens * channels));
          const View<float, 2> convolved(result.data(), {s.tokens, channels});
          conv1d_step(reference(), {columns, filter.host(), bias.host(), window.host(), convolved});
          for (std::int64_t t = 0; t < s.tokens; ++t) {
            for (std::int64_t k = 0; k < channels; ++k) columns.store(convolved(t, k), t, k);
          }
        },
        y, window);
    CHECK(scratch.is_clean());
  }
}

TEST_CASE("A token's linear_step does not depend on the tokens beside it") {
  for (const unsigned seed : seeds(400, 8)) {
    LinearStepCase s(seed);
    s.tokens = 8;
    Input input(s);
    const std::int64_t out = 300;
    CAPTURE(seed, s.in, s.normed);
    auto weight = s.c.array<2>({out, s.in}, s.dtype, 0);
    auto y = s.rows(out, DType::fp32);
    s.c.fill(weight, 1.0F);
    LinearStepArgs args;
    input.give_to(args, s);
    args.squares = {};
    args.products[0] = {weight.device(), {}, y.device()};
    Scratch scratch(args);
    linear_step(device(), args);
    require_cuda(cudaDeviceSynchronize());
    const auto together = y.download();
    const std::int64_t token = s.c.pick({0, 3, 7});
    y.upload();
    args.x = args.x.slice(0, token, token + 1);
    args.products[0].y = args.products[0].y.slice(0, token, token + 1);
    Scratch alone(args);
    linear_step(device(), args);
    require_cuda(cudaDeviceSynchronize());
    const auto bytes = y.download();
    const auto row = static_cast<std::size_t>(out) * 4;
    const auto begin = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(token) * row);
    CHECK(std::equal(bytes.begin() + begin,
                     bytes.begin() + begin + static_cast<std::ptrdiff_t>(row),
                     together.begin() + begin));
  }
}

}  // namespace
}  // namespace chunkstate::test
