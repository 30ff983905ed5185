// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "kernels/attention/attention.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"
#include "kernels/rope/rope.hpp"
#include "kernels/sampling/greedy_step.hpp"
#include "kernels/ssd/gated_step.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"

// The other fused operators of a decode step against the references of the operators they stand
// for.
namespace chunkstate::test {
namespace {

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
