// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <cmath>

#include "kernels/attention/attention.hpp"
#include "kernels/attention/flash.cuh"
#include "kernels/conv1d/conv1d.hpp"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/silu_mul/silu_mul.hpp"
#include "tests/kernels/gpu_bench.hpp"

// Times the operators at Bamba-9B's shapes on one GPU, in two regimes: sustained (calls back to
// back, the clocks where the power limit leaves them) and burst (two calls after 30 ms of rest).
// Buffers rotate through more memory than the L2. The copy ceiling is measured in the same run.
//
//   kernels_cuda_bench [part of an operator's name; for ssd of "ssd VARIANT TOKENS"]
namespace chunkstate::test {
namespace {

// With `tuned`, by the algorithm that a search takes; products with 4096 outputs add to the
// residual.
void bench_linear(Bench& bench, std::int64_t tokens, std::int64_t out, std::int64_t in,
                  bool tuned) {
  const std::string name = std::string(tuned ? "tuned linear " : "linear ") + std::to_string(out) +
                           "x" + std::to_string(in);
  if (!bench.wants(name)) return;
  const bool accumulate = out == 4096;
  const double bytes = 2.0 * (out * in + tokens * (in + out * (accumulate ? 2 : 1)));
  std::vector<std::unique_ptr<Buffer>> weights;
  for (int i = 0; i < sets_for(bytes); ++i) weights.push_back(bench.random.make(out * in * 2));
  const auto x = bench.random.make(tokens * in * 2);
  const auto y = bench.random.make(tokens * out * 2);
  bench.row(name, std::to_string(tokens) + " tokens", bytes, 2.0 * tokens * in * out,
            static_cast<int>(weights.size()), [&](int set, const Executor& exec) {
              Executor searching = exec;
              searching.autotune = tuned;
              linear(searching,
                     {{x->data(), DType::bf16, {tokens, in}},
                      {weights[static_cast<std::size_t>(set)]->data(), DType::bf16, {out, in}},
                      {},
                      {y->data(), DType::bf16, {tokens, out}},
                      accumulate});
            });
}

// The last `tokens` of `keys`, by whoever attention() takes and by our own kernel.
void bench_attention(Bench& bench, std::int64_t tokens, std::int64_t keys) {
  if (!bench.wants("attention")) return;
  constexpr std::int64_t q_heads = 32, kv_heads = 8, width = 128;
  const auto q = bench.random.make(tokens * q_heads * width * 2);
  const auto k = bench.random.make(keys * kv_heads * width * 2);
  const auto v = bench.random.make(keys * kv_heads * width * 2);
  const Buffer y(tokens * q_heads * width * 2);
  const AttentionArgs args{{q->data(), DType::bf16, {tokens, q_heads, width}},
                           {k->data(), DType::bf16, {keys, kv_heads, width}},
                           {v->data(), DType::bf16, {keys, kv_heads, width}},
                           0.08838834764831845F,
                           {y.data(), DType::bf16, {tokens, q_heads, width}}};
  const std::string shape = std::to_string(tokens) + " of " + std::to_string(keys);
  const double bytes = 4.0 * (tokens * q_heads + keys * kv_heads) * width;
  const double flops = 2.0 * tokens * (2 * keys - tokens + 1) * q_heads * width;
  const Executor exec{Backend::cuda, 1, nullptr};
  const auto begin = std::chrono::steady_clock::now();
  attention(exec, args);
  require(cudaDeviceSynchronize());
  const double first =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("attention of %s tokens by %s, first call %.1f ms\n", shape.c_str(),
              attention_provider(exec, args).c_str(), first * 1e3);
  bench.row("attention", shape, bytes, flops, 1,
            [&](int, const Executor& on) { attention(on, args); });
  bench.row("attention, own kernel", shape, bytes, flops, 1,
            [&](int, const Executor& on) { cuda::flash_attention(args, on.stream); });
}

// A step of `batch` sequences of `keys` keys, the new one appended on the way.
void bench_attention_step(Bench& bench, const std::string& model, std::int64_t q_heads,
                          std::int64_t kv_heads, DType dtype, std::int64_t batch,
                          std::int64_t keys) {
  const std::string name = "attention_step " + model;
  if (!bench.wants(name)) return;
  constexpr std::int64_t width = 128;
  const double bytes = 4.0 * batch * width * (keys * kv_heads + q_heads + kv_heads);
  struct Set {
    std::unique_ptr<Buffer> k, v;
  };
  std::vector<Set> sets(static_cast<std::size_t>(sets_for(bytes)));
  for (Set& set : sets) {
    set.k = bench.random.make(batch * keys * kv_heads * width * 2);
    set.v = bench.random.make(batch * keys * kv_heads * width * 2);
  }
  const auto q = bench.random.make(batch * q_heads * width * 2);
  const auto new_rows = bench.random.make(batch * kv_heads * width * 2);
  const Buffer y(batch * q_heads * width * 2), lengths(batch * 8);
  const std::vector<std::int64_t> length(static_cast<std::size_t>(batch), keys);
  require(cudaMemcpy(lengths.data(), length.data(), length.size() * 8, cudaMemcpyHostToDevice));
  std::vector<float> frequency;
  for (int i = 0; i < width / 2; ++i) frequency.push_back(std::pow(10'000.0F, -i / 64.0F));
  const auto inverse_frequency = upload(frequency);
  AttentionAppendStepArgs args;
  args.step.q = {q->data(), dtype, {batch, q_heads, width}};
  args.step.y = {y.data(), dtype, {batch, q_heads, width}};
  args.step.lengths = {reinterpret_cast<const std::int64_t*>(lengths.data()), {batch}};
  args.step.scale = 0.08838834764831845F;
  args.new_k = {new_rows->data(), dtype, {batch, kv_heads, width}};
  args.new_v = args.new_k;
  args.inverse_frequency = {reinterpret_cast<const float*>(inverse_frequency->data()), {width / 2}};
  const auto with_cache = [&](int index) {
    const Set& set = sets[static_cast<std::size_t>(index)];
    AttentionAppendStepArgs made = args;
    made.k = {set.k->data(), dtype, {batch, keys, kv_heads, width}};
    made.v = {set.v->data(), dtype, {batch, keys, kv_heads, width}};
    made.step.k = made.k, made.step.v = made.v;
    return made;
  };
  const std::int64_t floats = attention_step_partials(with_cache(0).step);
  const Buffer partials(floats * 4);
  bench.row(name, std::to_string(batch) + " x " + std::to_string(keys) + " keys", bytes, 0,
            static_cast<int>(sets.size()), [&](int index, const Executor& exec) {
              AttentionAppendStepArgs call = with_cache(index);
              call.partials = {reinterpret_cast<float*>(partials.data()), {floats}};
              attention_append_step(exec, call);
            });
}

void bench_rows(Bench& bench, std::int64_t tokens) {
  const std::string shape = std::to_string(tokens) + " tokens";
  const auto matrix = [&](const std::unique_ptr<Buffer>& buffer, std::int64_t channels) {
    return AnyView<2>(buffer->data(), DType::bf16, {tokens, channels});
  };
  constexpr std::int64_t hidden = 4096, mlp = 14336;
  const double largest = 2.0 * tokens * mlp;
  const int sets = sets_for(2.0 * largest);
  std::vector<std::unique_ptr<Buffer>> in, second;
  for (int i = 0; i < sets; ++i) {
    in.push_back(bench.random.make(static_cast<std::int64_t>(largest)));
    second.push_back(bench.random.make(static_cast<std::int64_t>(largest)));
  }
  const auto out = std::make_unique<Buffer>(static_cast<std::int64_t>(largest));
  const auto weight = bench.random.make(4 * mlp * 2);
  const ConstAnyView<1> per_channel(weight->data(), DType::bf16, {mlp});
  const auto at = [](const auto& buffers, int set) -> const std::unique_ptr<Buffer>& {
    return buffers[static_cast<std::size_t>(set)];
  };
  if (bench.wants("rms_norm")) {
    bench.row("rms_norm 4096", shape, 4.0 * tokens * hidden, 0, sets,
              [&](int set, const Executor& exec) {
                rms_norm(exec, {matrix(at(in, set), hidden), per_channel.slice(0, 0, hidden), 1e-5F,
                                matrix(out, hidden)});
              });
    bench.row("gated_rms_norm 8192", shape, 6.0 * tokens * inner, 0, sets,
              [&](int set, const Executor& exec) {
                gated_rms_norm(exec, {matrix(at(in, set), inner), matrix(at(second, set), inner),
                                      per_channel.slice(0, 0, inner), 1e-5F, matrix(out, inner)});
              });
  }
  if (bench.wants("silu_mul")) {
    bench.row(
        "silu_mul 14336", shape, 6.0 * tokens * mlp, 0, sets, [&](int set, const Executor& exec) {
          silu_mul(exec,
                   {matrix(at(in, set), mlp), matrix(at(second, set), mlp), matrix(out, mlp)});
        });
  }
  if (bench.wants("conv1d")) {
    const Buffer window(3 * conv_channels * 2);
    require(cudaMemset(window.data(), 0, static_cast<std::size_t>(window.bytes())));
    bench.row("conv1d 8448", shape, 4.0 * tokens * conv_channels, 0, sets,
              [&](int set, const Executor& exec) {
                conv1d(exec, {matrix(at(in, set), conv_channels),
                              {weight->data(), DType::bf16, {conv_channels, 4}},
                              per_channel.slice(0, 0, conv_channels),
                              {window.data(), DType::bf16, {3, conv_channels}},
                              matrix(out, conv_channels)});
              });
  }
}

int run(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device\n");
    return 77;
  }
  Bench bench(argc > 1 ? argv[1] : "");
  bench_scans(bench);
  constexpr std::int64_t shapes[][2] = {
      {16768, 4096}, {4096, 8192}, {28672, 4096}, {4096, 14336}, {128256, 4096}};
  for (const auto& shape : shapes) {
    for (const std::int64_t tokens : {1, 8}) bench_linear(bench, tokens, shape[0], shape[1], false);
  }
  for (int i = 0; i < 4; ++i) {
    for (const bool tuned : {false, true}) {
      bench_linear(bench, 4096, shapes[i][0], shapes[i][1], tuned);
    }
  }
  for (const std::int64_t tokens : {1024, 4096, 16384}) bench_attention(bench, tokens, tokens);
  bench_attention(bench, 4096, 16384);
  for (const std::int64_t batch : {1, 8}) {
    for (const std::int64_t keys : {256, 4096}) {
      bench_attention_step(bench, "bamba-9b", 32, 8, DType::bf16, batch, keys);
    }
    bench_attention_step(bench, "llama-2-7b", 32, 32, DType::fp16, batch, 1024);
  }
  bench_rows(bench, 4096);
  return 0;
}

}  // namespace
}  // namespace chunkstate::test

int main(int argc, char** argv) {
  try {
    return chunkstate::test::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernels_cuda_bench: %s\n", error.what());
    return 1;
  }
}
