// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention/attention.hpp"
#include "kernels/attention/flash.cuh"
#include "kernels/conv1d/conv1d.hpp"
#include "kernels/gated_rms_norm/gated_rms_norm.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/selective_scan/selective_scan.hpp"
#include "kernels/silu_mul/silu_mul.hpp"
#include "kernels/ssd/ssd.hpp"

// Times the operators at Bamba-9B's shapes on one GPU, in two regimes: sustained (calls back to
// back, the clocks where the power limit leaves them) and burst (two calls after 30 ms of rest).
// Buffers rotate through more memory than the L2. The copy ceiling is measured in the same run.
//
//   kernels_cuda_bench [part of an operator's name; for ssd of "ssd VARIANT TOKENS"]
namespace chunkstate {
namespace {

void require(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

constexpr std::int64_t heads = 128, head_dim = 64, state_dim = 128, inner = heads * head_dim;
constexpr std::int64_t conv_channels = inner + 2 * state_dim;
constexpr std::int64_t rotated_bytes = 400 << 20;  // several times an H200's L2

/// Device memory that frees itself.
class Buffer {
 public:
  explicit Buffer(std::int64_t bytes) : bytes_(bytes) {
    require(cudaMalloc(&data_, static_cast<std::size_t>(bytes)));
  }
  ~Buffer() { cudaFree(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::int64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::int64_t bytes_;
};

/// Normal bf16 numbers: zeros and constants would run at higher clocks than real data.
class RandomNumbers {
 public:
  RandomNumbers() : seed_block_(block) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<bf16> values(block / 2);
    for (bf16& value : values) value = from_float<bf16>(normal(random));
    require(cudaMemcpy(seed_block_.data(), values.data(), block, cudaMemcpyHostToDevice));
  }
  std::unique_ptr<Buffer> make(std::int64_t bytes) const {
    auto buffer = std::make_unique<Buffer>(bytes);
    for (std::int64_t at = 0; at < bytes; at += block) {
      const auto part = static_cast<std::size_t>(std::min(block, bytes - at));
      require(cudaMemcpy(buffer->data() + at, seed_block_.data(), part, cudaMemcpyDeviceToDevice));
    }
    return buffer;
  }

 private:
  static constexpr std::int64_t block = (8 << 20) + 2 * 4099;  // its period divides no row
  Buffer seed_block_;
};

std::unique_ptr<Buffer> upload(const std::vector<float>& values) {
  auto buffer = std::make_unique<Buffer>(static_cast<std::int64_t>(values.size() * 4));
  require(cudaMemcpy(buffer->data(), values.data(), values.size() * 4, cudaMemcpyHostToDevice));
  return buffer;
}

using Call = std::function<void(int set, const Executor& exec)>;

/// Median microseconds per call of a graph of `calls` calls.
double time_graph(const Call& call, int sets, int calls, int replays, int rest_us) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaStreamCreate(&stream));
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  const Executor exec{Backend::cuda, 1, stream};
  call(0, exec);  // what is made on first use
  require(cudaStreamSynchronize(stream));
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) call(i % sets, exec);
  require(cudaStreamEndCapture(stream, &graph));
  require(cudaGraphInstantiate(&executable, graph, 0));
  std::vector<double> times;
  for (int i = 0; i < replays + 2; ++i) {
    if (rest_us > 0) usleep(static_cast<useconds_t>(rest_us));
    require(cudaEventRecord(begin, stream));
    require(cudaGraphLaunch(executable, stream));
    require(cudaEventRecord(end, stream));
    require(cudaStreamSynchronize(stream));
    float milliseconds = 0.0F;
    require(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 2) times.push_back(milliseconds * 1000.0 / calls);
  }
  require(cudaGraphExecDestroy(executable));
  require(cudaGraphDestroy(graph));
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
  require(cudaStreamDestroy(stream));
  std::nth_element(times.begin(), times.begin() + static_cast<long>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

/// The best of several copies, counting bytes read and written. Not in a graph: its copies are
/// slower.
double copy_ceiling() {
  constexpr std::int64_t bytes = std::int64_t{2} << 30;
  const Buffer from(bytes), to(bytes);
  cudaEvent_t begin = nullptr, end = nullptr;
  require(cudaEventCreate(&begin));
  require(cudaEventCreate(&end));
  float best = 1e9F;
  for (int i = 0; i < 8; ++i) {
    require(cudaEventRecord(begin));
    require(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice));
    require(cudaEventRecord(end));
    require(cudaDeviceSynchronize());
    float milliseconds = 0.0F;
    require(cudaEventElapsedTime(&milliseconds, begin, end));
    best = std::min(best, milliseconds);
  }
  require(cudaEventDestroy(begin));
  require(cudaEventDestroy(end));
  return 2.0 * bytes / best * 1e-6;
}

class Bench {
 public:
  explicit Bench(std::string filter) : filter_(std::move(filter)), ceiling_(copy_ceiling()) {
    cudaDeviceProp device{};
    require(cudaGetDeviceProperties(&device, 0));
    std::printf("%s, copy ceiling %.0f GB/s\n", device.name, ceiling_);
    std::printf("%-26s %-22s %11s %9s %8s %7s %9s\n", "operator", "shape", "sustained", "burst",
                "GB/s", "share", "TFLOP/s");
  }

  bool wants(const std::string& name) const { return name.find(filter_) != std::string::npos; }

  /// `bytes` and `flops` are the least that the operator must move and do.
  void row(const std::string& name, const std::string& shape, double bytes, double flops, int sets,
           const Call& call) {
    const double once = time_graph(call, sets, 2, 1, 0);
    const int calls = std::clamp(static_cast<int>(30'000.0 / once), sets < 4 ? 4 : sets, 64);
    const double sustained = time_graph(call, sets, calls, once > 20'000.0 ? 3 : 11, 0);
    const double burst = time_graph(call, sets, 2, once > 20'000.0 ? 3 : 7, 30'000);
    const double rate = bytes / sustained * 1e-3;
    std::printf("%-26s %-22s %8.1f us %6.1f us %8.0f %6.1f%% %9.1f\n", name.c_str(), shape.c_str(),
                sustained, burst, rate, 100.0 * rate / ceiling_, flops / sustained * 1e-6);
    std::fflush(stdout);
  }

  RandomNumbers random;

 private:
  std::string filter_;
  double ceiling_;
};

int sets_for(double bytes) {
  return static_cast<int>(std::clamp(rotated_bytes / bytes + 1.0, 2.0, 64.0));
}

void bench_ssd(Bench& bench, const SsdVariant& variant, std::int64_t tokens) {
  const std::string name = "ssd " + std::string(variant.name);
  if (variant.cuda == nullptr || !bench.wants(name + " " + std::to_string(tokens))) return;
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform;
  std::vector<float> A(heads), D(heads), bias(heads);
  for (std::int64_t h = 0; h < heads; ++h) {
    A[h] = -std::exp(std::log(0.05F) + uniform(random) * std::log(16.0F / 0.05F));
    D[h] = 0.5F + uniform(random);
    const float delta = std::exp(std::log(1e-3F) + uniform(random) * std::log(100.0F));
    bias[h] = delta + std::log(-std::expm1(-delta));
  }
  const auto a = upload(A), d = upload(D), b = upload(bias);
  const double row_bytes = 2.0 * (conv_channels + heads + inner);
  struct Set {
    std::unique_ptr<Buffer> xbc, dt, y, state;
  };
  std::vector<Set> sets(static_cast<std::size_t>(sets_for(row_bytes * tokens)));
  for (Set& set : sets) {
    set.xbc = bench.random.make(tokens * conv_channels * 2);
    set.dt = bench.random.make(tokens * heads * 2);
    set.y = std::make_unique<Buffer>(tokens * inner * 2);
    set.state = std::make_unique<Buffer>(state_slots(variant, 1) * inner * state_dim * 4);
    require(cudaMemset(set.state->data(), 0, static_cast<std::size_t>(set.state->bytes())));
  }
  const auto call = [&](int index, const Executor& exec) {
    const Set& set = sets[static_cast<std::size_t>(index)];
    const auto vector = [](const std::unique_ptr<Buffer>& buffer) {
      return View<const float, 1>(reinterpret_cast<const float*>(buffer->data()), {heads});
    };
    SsdArgs args;
    args.x = {
        set.xbc->data(), DType::bf16, {tokens, heads, head_dim}, {conv_channels, head_dim, 1}};
    args.B = {set.xbc->data() + inner * 2,
              DType::bf16,
              {tokens, 1, state_dim},
              {conv_channels, state_dim, 1}};
    args.C = {set.xbc->data() + (inner + state_dim) * 2,
              DType::bf16,
              {tokens, 1, state_dim},
              {conv_channels, state_dim, 1}};
    args.dt = {set.dt->data(), DType::bf16, {tokens, heads}};
    args.A = vector(a), args.D = vector(d), args.dt_bias = vector(b);
    args.y = {set.y->data(), DType::bf16, {tokens, heads, head_dim}};
    args.state = {
        set.state->data(), DType::fp32, {state_slots(variant, 1), heads, head_dim, state_dim}};
    args.lookback = 1;
    ssd_scan(exec, variant, args);
  };
  const double flops = 5.26e6 * static_cast<double>(tokens);  // exact semantics, blocks of 64
  bench.row(name, std::to_string(tokens) + " tokens", row_bytes * tokens, flops,
            static_cast<int>(sets.size()), call);
}

/// The Mamba-1 scan of the fusion study: 1,024 channels, states of 16.
void bench_selective_scan(Bench& bench, const SelectiveScanVariant& variant, DType dtype,
                          std::int64_t batch, std::int64_t tokens) {
  const std::string name =
      "selective_scan " + std::string(variant.name) + " " + std::string(name_of(dtype));
  if (variant.cuda == nullptr || !bench.wants(name + " " + std::to_string(tokens))) return;
  constexpr std::int64_t channels = 1024, states = 16;
  const auto size = static_cast<std::int64_t>(bytes_of(dtype));
  const std::int64_t wide = batch * tokens * channels, narrow = batch * tokens * states;
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform;
  std::vector<float> A(channels * states), D(channels), bias(channels);
  for (float& rate : A) rate = -1.0F - 15.0F * uniform(random);
  for (std::int64_t d = 0; d < channels; ++d) {
    D[static_cast<std::size_t>(d)] = 0.5F + uniform(random);
    bias[static_cast<std::size_t>(d)] = -7.0F + 5.0F * uniform(random);
  }
  const auto rates = upload(A), skip = upload(D), shift = upload(bias);
  const double bytes = static_cast<double>(4 * wide + 2 * narrow) * static_cast<double>(size);
  // Normal numbers are made as bf16; as fp32 their pairs are normal enough.
  struct Set {
    std::unique_ptr<Buffer> x, dt, z, BC, y;
  };
  std::vector<Set> sets(static_cast<std::size_t>(sets_for(bytes)));
  for (Set& set : sets) {
    set.x = bench.random.make(wide * size);
    set.dt = bench.random.make(wide * size);
    set.z = bench.random.make(wide * size);
    set.BC = bench.random.make(2 * narrow * size);
    set.y = std::make_unique<Buffer>(wide * size);
  }
  const auto call = [&](int index, const Executor& exec) {
    const Set& set = sets[static_cast<std::size_t>(index)];
    const auto view = [&](std::byte* data, std::int64_t columns) {
      return AnyView<3>(data, dtype, {batch, tokens, columns});
    };
    SelectiveScanArgs args;
    args.x = view(set.x->data(), channels);
    args.dt = view(set.dt->data(), channels);
    args.z = view(set.z->data(), channels);
    args.B = view(set.BC->data(), states);
    args.C = view(set.BC->data() + narrow * size, states);
    args.A = {reinterpret_cast<const float*>(rates->data()), {channels, states}};
    args.D = {reinterpret_cast<const float*>(skip->data()), {channels}};
    args.dt_bias = {reinterpret_cast<const float*>(shift->data()), {channels}};
    args.y = view(set.y->data(), channels);
    selective_scan(exec, variant, args);
  };
  // Per state element and token three products, two sums and an exponential.
  bench.row(name, std::to_string(batch) + " x " + std::to_string(tokens) + " tokens", bytes,
            6.0 * static_cast<double>(wide * states), static_cast<int>(sets.size()), call);
}

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
  for (const char* name : {"default_optimized", "independent"}) {
    for (const std::int64_t tokens : {1024, 4096, 16384, 65536}) {
      bench_ssd(bench, *find_ssd_variant(name), tokens);
    }
  }
  for (const char* name : {"sequential", "default", "lookback", "own_end_state"}) {
    bench_ssd(bench, *find_ssd_variant(name), 4096);
  }
  for (const DType dtype : {DType::fp32, DType::bf16}) {
    for (const char* name : {"fused", "fused_block", "chunked"}) {
      for (const auto& [batch, tokens] :
           {std::pair<std::int64_t, std::int64_t>(1, 512), {1, 4096}, {16, 512}, {16, 4096}}) {
        bench_selective_scan(bench, *find_selective_scan_variant(name), dtype, batch, tokens);
      }
    }
  }
  bench_selective_scan(bench, *find_selective_scan_variant("eager"), DType::fp32, 1, 512);
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
}  // namespace chunkstate

int main(int argc, char** argv) {
  try {
    return chunkstate::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernels_cuda_bench: %s\n", error.what());
    return 1;
  }
}
