// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/attention.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"
#include "kernels/conv1d/conv1d.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/linear_step.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/rope/rope.hpp"
#include "kernels/sampling/greedy_step.hpp"
#include "kernels/silu_mul/silu_mul.hpp"
#include "kernels/ssd/gated_step.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"

// The fused operators of a decode step against the references of the operators they stand for.
namespace chunkstate::test {
namespace {

template <int Rank>
View<float, Rank> floats(DeviceArray<Rank>& array) {
  return array.device().template as<float>();
}

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

TEST_CASE("ssd_gated_step is ssd_step and its gate") {
  for (const unsigned seed : seeds(500, 32)) {
    DeviceCase c(seed);
    const char* const names[] = {"default_optimized", "independent", "lookback"};
    const SsdVariant& variant = *find_ssd_variant(names[seed % 3]);
    const std::int64_t batch = c.pick({1, 3}), groups = c.pick({1, 2});
    const std::int64_t heads = groups * c.pick({1, 4}), head_dim = c.pick({8, 64, 64, 100});
    const std::int64_t state_dim = c.pick({16, 33, 128, 128, 200});
    const std::int64_t slots = state_slots(variant, c.pick({0, 2}));
    std::vector<std::int64_t> at;
    for (std::int64_t b = 0; b < batch; ++b) at.push_back(c.random() % 50);
    const DeviceVector<std::int64_t> positions(at);
    auto x = c.array<3>({batch, heads, head_dim}), z = c.array<3>({batch, heads, head_dim});
    auto B = c.array<3>({batch, groups, state_dim}), C = c.array<3>({batch, groups, state_dim});
    auto dt = c.array<2>({batch, heads});
    auto y = c.array<3>({batch, heads, head_dim});
    auto state = c.array<5>({batch, slots, heads, head_dim, state_dim});
    auto A = c.array<1>({heads}, DType::fp32, 0), D = c.array<1>({heads}, DType::fp32, 0);
    auto bias = c.array<1>({heads}, DType::fp32, 0);
    auto squares = c.array<2>({batch, heads}, DType::fp32, 0);
    c.fill(x, 1.0F), c.fill(z, 2.0F), c.fill(B, 1.0F), c.fill(C, 1.0F), c.fill(dt, 1.0F);
    c.fill(D, 1.0F), c.fill(bias, 1.0F), c.fill(state, 1.0F);
    A.fill([&] { return -0.1F - static_cast<float>(c.random() % 8); });
    CAPTURE(seed, variant.name, batch, heads, groups, head_dim, state_dim, slots);
    const auto args = [&](auto side, auto vector) {
      SsdStepArgs a;
      a.x = side(x), a.dt = side(dt), a.B = side(B), a.C = side(C), a.y = side(y);
      a.A = vector(A), a.D = vector(D), a.dt_bias = vector(bias);
      a.state = side(state), a.chunk_size = 10;
      return a;
    };
    c.check(
        [&] {
          SsdStepArgs a = args(on_device, [](auto& array) { return floats(array); });
          a.positions = positions.device();
          ssd_gated_step(device(), variant, {a, z.device(), floats(squares)});
        },
        [&] {
          SsdStepArgs a = args(on_host, [](auto& array) { return array.host(); });
          a.positions = positions.host();
          ssd_step(reference(), variant, a);
          for (std::int64_t b = 0; b < batch; ++b) {
            for (std::int64_t h = 0; h < heads; ++h) {
              float sum = 0.0F;
              for (std::int64_t p = 0; p < head_dim; ++p) {
                const float gate = z.host()(b, h, p);
                float& value = y.host()(b, h, p);
                value *= gate / (1.0F + std::exp(-gate));
                sum += value * value;
              }
              squares.host()(b, h) = sum;
            }
          }
        },
        y, state, squares);
  }
}

TEST_CASE("attention_append_step rotates, appends and attends") {
  for (const unsigned seed : seeds(600, 48)) {
    DeviceCase c(seed);
    const bool naive = seed % 2 == 1;
    const std::int64_t batch = c.pick({1, 3}), capacity = c.pick({1, 128, 129, 700});
    const std::int64_t kv_heads = c.pick({1, 2}), heads = kv_heads * c.pick({1, 4, 6});
    const std::int64_t head_dim = c.pick({64, 128, 16, 34});
    const std::int64_t pairs = c.pick({0, 1, head_dim / 4, head_dim / 2});
    std::vector<std::int64_t> length, at;
    for (std::int64_t b = 0; b < batch; ++b) length.push_back(1 + c.random() % capacity);
    for (const std::int64_t l : length) at.push_back(l - 1);
    const DeviceVector<std::int64_t> lengths(length), positions(at);
    std::vector<float> frequency;
    for (std::int64_t i = 0; i < pairs; ++i)
      frequency.push_back(std::pow(0.7F, static_cast<float>(i)));
    const DeviceVector<float> inverse_frequency(frequency);
    auto q = c.array<3>({batch, heads, head_dim}), y = c.array<3>({batch, heads, head_dim});
    auto new_k = c.array<3>({batch, kv_heads, head_dim}),
         new_v = c.array<3>({batch, kv_heads, head_dim});
    auto k = c.array<4>({batch, capacity, kv_heads, head_dim});
    auto v = c.array<4>({batch, capacity, kv_heads, head_dim});
    c.fill(q, 2.0F), c.fill(k, 1.0F), c.fill(v, 1.0F), c.fill(new_k, 1.0F), c.fill(new_v, 1.0F);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
    CAPTURE(seed, naive, batch, capacity, heads, kv_heads, head_dim, pairs);
    AttentionAppendStepArgs args;
    args.step = {q.device(), k.device(), v.device(), lengths.device(), scale, y.device()};
    if (naive) args.step.choice.method = AttentionMethod::naive;
    args.k = k.device(), args.v = v.device();
    args.new_k = new_k.device(), args.new_v = new_v.device();
    args.inverse_frequency = inverse_frequency.device();
    auto partials = c.array<1>({attention_step_partials(args.step)}, DType::fp32, 0);
    args.partials = floats(partials);
    c.check([&] { attention_append_step(device(), args); },
            [&] {
              rope(reference(), {q.host(), positions.host(), inverse_frequency.host()});
              rope(reference(), {new_k.host(), positions.host(), inverse_frequency.host()});
              for (std::int64_t b = 0; b < batch; ++b) {
                for (std::int64_t h = 0; h < kv_heads; ++h) {
                  for (std::int64_t d = 0; d < head_dim; ++d) {
                    k.host()(b, at[b], h, d) = new_k.host()(b, h, d);
                    v.host()(b, at[b], h, d) = new_v.host()(b, h, d);
                  }
                }
              }
              attention_step(reference(),
                             {q.host(), k.host(), v.host(), lengths.host(), scale, y.host()});
            },
            y, k, v);
  }
}

TEST_CASE("attention_step splits many keys by their sequence's length alone") {
  for (const unsigned seed : seeds(650, 6)) {
    DeviceCase c(seed);
    const std::int64_t capacity = 4500, kv_heads = 2, heads = kv_heads * c.pick({1, 4, 6});
    const std::int64_t head_dim = c.pick({64, 128, 34});
    const std::vector<std::int64_t> length = {capacity, 4097, c.pick({1, 63, 64, 65, 1000, 4096})};
    const std::int64_t batch = 3;
    const DeviceVector<std::int64_t> lengths(length);
    auto q = c.array<3>({batch, heads, head_dim}), y = c.array<3>({batch, heads, head_dim});
    auto k = c.array<4>({batch, capacity, kv_heads, head_dim});
    auto v = c.array<4>({batch, capacity, kv_heads, head_dim});
    c.fill(q, 2.0F), c.fill(k, 1.0F), c.fill(v, 1.0F);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
    CAPTURE(seed, heads, head_dim, length[2]);
    const AttentionStepArgs args{q.device(),       k.device(), v.device(),
                                 lengths.device(), scale,      y.device()};
    c.check([&] { attention_step(device(), args); },
            [&] {
              attention_step(reference(),
                             {q.host(), k.host(), v.host(), lengths.host(), scale, y.host()});
            },
            y);
    const auto together = y.download();
    y.upload();
    for (std::int64_t b = 0; b < batch; ++b) {
      const auto of = [b](const auto& view) { return view.slice(0, b, b + 1); };
      // In a cache that ends with the sequence.
      const auto cache = [&](const auto& view) { return of(view).slice(1, 0, lengths.host()(b)); };
      attention_step(device(), {of(args.q),
                                cache(args.k),
                                cache(args.v),
                                {args.lengths.data + b, {1}},
                                scale,
                                of(args.y)});
    }
    require_cuda(cudaDeviceSynchronize());
    CHECK(y.download() == together);
  }
}

TEST_CASE("greedy_step takes the token that sample takes, also replayed") {
  for (const unsigned seed : seeds(700, 8)) {
    DeviceCase c(seed);
    const std::int64_t batch = c.pick({1, 5}), vocab = c.pick({1, 7, 8192, 100'003});
    CAPTURE(seed, batch, vocab);
    auto logits = c.array<2>({batch, vocab}, DType::fp32, 0);
    c.fill(logits, 3.0F);
    const DeviceVector<std::int32_t> tokens(std::vector<std::int32_t>(batch, 9));
    const DeviceVector<std::int64_t> positions(std::vector<std::int64_t>(batch, 4));
    const DeviceVector<std::int64_t> lengths(std::vector<std::int64_t>(batch, 5));
    const DeviceVector<std::uint64_t> steps(std::vector<std::uint64_t>{0});
    const auto results = shared_with_device(static_cast<std::size_t>(2 * batch) * sizeof(Sampled));
    auto partials = c.array<1>({greedy_step_partials(batch)}, DType::fp32, 0);
    const auto writable = [](const auto& vector) {
      const auto view = vector.device();
      using T = std::remove_const_t<std::remove_reference_t<decltype(*view.data)>>;
      return View<T, 1>(const_cast<T*>(view.data), view.extent);
    };
    auto* const rows = reinterpret_cast<Sampled*>(results.get());
    const GreedyStepArgs args{floats(logits),    writable(tokens),   writable(positions),
                              writable(lengths), {rows, {2, batch}}, writable(steps),
                              floats(partials)};
    const LaunchStream stream(Backend::cuda);
    const Executor exec{Backend::cuda, 1, stream.get()};
    greedy_step(exec, args);
    synchronize(exec);
    const Recording recording(exec, [&] { greedy_step(exec, args); });
    recording.replay(exec);
    synchronize(exec);
    std::vector<std::int64_t> seen(static_cast<std::size_t>(batch));
    require_cuda(
        cudaMemcpy(seen.data(), positions.device().data, seen.size() * 8, cudaMemcpyDefault));
    for (std::int64_t b = 0; b < batch; ++b) {
      const Sampled expected = sample({&logits.host()(b, 0), {vocab}}, {}, 0, 0);
      for (const std::int64_t row : {b, batch + b}) {
        CHECK(rows[row].token == expected.token);
        CHECK(rows[row].logprob == Approx(expected.logprob).margin(1e-5));
      }
      CHECK(seen[static_cast<std::size_t>(b)] == 6);
    }
  }
}

TEST_CASE("greedy_step reports logits that cannot be sampled") {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    DeviceCase c(1);
    auto logits = c.array<2>({1, 1000}, DType::fp32, 0);
    std::int64_t next = 0;
    logits.fill([&] { return next++ == 777 ? bad : 1.0F; });
    const DeviceVector<std::int32_t> token(std::vector<std::int32_t>{1});
    const DeviceVector<std::int64_t> position(std::vector<std::int64_t>{1}),
        length(std::vector<std::int64_t>{2});
    const DeviceVector<std::uint64_t> steps(std::vector<std::uint64_t>{0});
    auto partials = c.array<1>({greedy_step_partials(1)}, DType::fp32, 0);
    const auto results = shared_with_device(sizeof(Sampled));
    auto* const row = reinterpret_cast<Sampled*>(results.get());
    greedy_step(device(), {floats(logits),
                           {const_cast<std::int32_t*>(token.device().data), {1}},
                           {const_cast<std::int64_t*>(position.device().data), {1}},
                           {const_cast<std::int64_t*>(length.device().data), {1}},
                           {row, {1, 1}},
                           {const_cast<std::uint64_t*>(steps.device().data), {1}},
                           floats(partials)});
    require_cuda(cudaDeviceSynchronize());
    CHECK(row->token == (std::isnan(bad) ? nan_logit : infinite_logit));
  }
}

}  // namespace
}  // namespace chunkstate::test
