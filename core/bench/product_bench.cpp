// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "core/bench/bench_tools.hpp"
#include "core/bench/operator_bench.hpp"
#include "kernels/attention/attention.hpp"
#include "kernels/base/memory_probe.hpp"
#include "kernels/linear/linear.hpp"

namespace chunkstate {
namespace {

constexpr double cache_bytes = 128e6;  // weights rotate through more than any cache
constexpr std::int64_t compared_rows = 2;
constexpr std::int64_t compared_outputs = 256;

/// `count` elements of `dtype` from the backend's memory.
Tensor on_host(const Executor& exec, const std::byte* data, DType dtype, std::int64_t count) {
  Tensor result(Backend::cpu, dtype, {count});
  copy_to_host(exec, result.data(), data, result.bytes());
  synchronize(exec);
  return result;
}

// The same numbers as the tested call has, in fp32 on the host.
struct ReferenceInput {
  Executor host{Backend::reference};
  std::mt19937 random;
  explicit ReferenceInput(unsigned seed) : random(seed) {}
  Tensor draw(DType dtype, std::vector<std::int64_t> extents) {
    return random_tensor(host, dtype, std::move(extents), random, -1, 1);
  }
};

double linear_error(const Executor& exec, const LinearBenchCase& c, DType dtype, unsigned seed,
                    const Tensor& y) {
  ReferenceInput input(seed);
  const Tensor x = input.draw(dtype, {c.tokens, c.in_features});
  const Tensor weight = input.draw(dtype, {c.out_features, c.in_features});
  const std::int64_t rows = std::min(c.tokens, compared_rows);
  const std::int64_t outputs = std::min(c.out_features, compared_outputs);
  Tensor expected(Backend::reference, DType::fp32, {rows, outputs});
  linear(input.host, {x.view<2>().slice(0, 0, rows),
                      weight.view<2>().slice(0, 0, outputs),
                      {},
                      expected.view<2>()});
  double error = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    const Tensor found = on_host(exec, y.view<2>().at(row, 0), dtype, outputs);
    const ConstAnyView<1> right = expected.view<2>()[row];
    const double of_row = relative_error(found.view<1>(), right);
    if (!(of_row <= error)) error = of_row;
  }
  return error;
}

double attention_error(const Executor& exec, const AttentionBenchCase& c, DType dtype,
                       unsigned seed, float scale, const Tensor& y) {
  ReferenceInput input(seed);
  const Tensor q = input.draw(dtype, {c.tokens, c.heads, c.head_dim});
  const Tensor k = input.draw(dtype, {c.tokens, c.kv_heads, c.head_dim});
  const Tensor v = input.draw(dtype, {c.tokens, c.kv_heads, c.head_dim});
  const std::int64_t rows = std::min(c.tokens, compared_rows), first = c.tokens - rows;
  const std::int64_t width = c.heads * c.head_dim;
  Tensor expected(Backend::reference, DType::fp32, {rows, c.heads, c.head_dim});
  attention(input.host, {q.view<3>().slice(0, first, c.tokens), k.view<3>(), v.view<3>(), scale,
                         expected.view<3>()});
  const Tensor found = on_host(exec, y.view<3>().at(first, 0, 0), dtype, rows * width);
  const ConstAnyView<1> right(expected.data(), DType::fp32, {rows * width});
  return relative_error(found.view<1>(), right);
}

// naive writes the scores, reads and writes them for the softmax and reads them for the values.
// flash reads the keys and values that a block of queries sees, for every block.
void describe_method(const Executor& exec, const AttentionBenchCase& c, DType dtype,
                     const AttentionArgs& args, ProductBenchResult& result) {
  const auto element = static_cast<double>(bytes_of(dtype));
  const auto tokens = static_cast<double>(c.tokens);
  if (c.choice.method == AttentionMethod::naive) {
    const double score = exec.backend == Backend::cuda ? element : 4.0;
    const double scores = static_cast<double>(c.heads) * tokens * tokens * score;
    result.method_flops = 4.0 * tokens * tokens * static_cast<double>(c.heads * c.head_dim);
    result.footprint = static_cast<std::int64_t>(scores);
    result.traffic = 4.0 * scores;
    result.scores_bytes = 4 * attention_scores(exec.backend, args);
    return;
  }
  const std::int64_t heads_per_kv = c.heads / c.kv_heads;
  const bool on_device = exec.backend == Backend::cuda;
  const auto queries =
      static_cast<double>(on_device ? 64 : std::max<std::int64_t>(256 / heads_per_kv, 16));
  const double readers = static_cast<double>(on_device ? c.heads : c.kv_heads);
  const double row = 2.0 * static_cast<double>(c.head_dim) * element;
  result.method_flops = result.flops;
  result.footprint = static_cast<std::int64_t>(tokens * static_cast<double>(c.kv_heads) * row);
  result.traffic = readers * row * tokens * (tokens / queries + 1.0) / 2.0;
}

}  // namespace

AttentionBound attention_bound(const ProductBenchResult& result, const MachinePeaks& peaks,
                               const std::vector<MemoryBenchResult>& levels) {
  AttentionBound bound{"arithmetic", result.method_flops / peaks.gemm_flops};
  const auto holds = [&](const MemoryBenchResult& level) {
    return level.footprint >= result.footprint;
  };
  if (!levels.empty()) {
    const auto found = std::find_if(levels.begin(), levels.end(), holds);
    const MemoryBenchResult& level = found == levels.end() ? levels.back() : *found;
    const double seconds = result.traffic / level.bytes_per_second;
    if (seconds > bound.share) bound = {level.level, seconds};
  }
  bound.share /= result.timing.median();
  return bound;
}

ProductBenchResult bench_linear(const Executor& exec, const LinearBenchCase& c, DType dtype,
                                int repeats) {
  ProductBenchResult result;
  result.shape = std::to_string(c.tokens) + " x " + std::to_string(c.out_features) + " x " +
                 std::to_string(c.in_features);
  const auto element = static_cast<double>(bytes_of(dtype));
  const auto weights_bytes = element * static_cast<double>(c.out_features * c.in_features);
  result.flops =
      2.0 * static_cast<double>(c.tokens) * static_cast<double>(c.out_features * c.in_features);
  result.bytes = weights_bytes + element * static_cast<double>(c.tokens) *
                                     static_cast<double>(c.in_features + c.out_features);
  constexpr unsigned seed = 11;
  std::mt19937 random(seed);
  const Tensor x = random_tensor(exec, dtype, {c.tokens, c.in_features}, random, -1, 1);
  std::vector<Tensor> weights;
  weights.push_back(random_tensor(exec, dtype, {c.out_features, c.in_features}, random, -1, 1));
  const auto sets = static_cast<int>(std::clamp(cache_bytes / weights_bytes + 1.0, 1.0, 32.0));
  for (int s = 1; s < sets; ++s) {
    Tensor copy(exec.backend, dtype, {c.out_features, c.in_features});
    probe_copy(exec, copy.data(), weights[0].data(), copy.bytes());
    weights.push_back(std::move(copy));
  }
  Tensor y(exec.backend, dtype, {c.tokens, c.out_features});
  const auto run = [&](const Tensor& weight) {
    linear(exec, {x.view<2>(), weight.view<2>(), {}, y.view<2>()});
  };
  const std::vector<std::uint8_t> poison(y.bytes(), 0xFF);  // NaN in every storage type
  copy_to_backend(exec, y.data(), poison.data(), poison.size());
  result.first_seconds = time_once(exec, [&] { run(weights[0]); });
  result.relative_error = linear_error(exec, c, dtype, seed, y);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const Tensor& weight = weights[static_cast<std::size_t>(repeat + 1) % weights.size()];
    result.timing.seconds.push_back(time_once(exec, [&] { run(weight); }));
  }
  return result;
}

ProductBenchResult bench_attention(const Executor& exec, const AttentionBenchCase& c, DType dtype,
                                   int repeats) {
  ProductBenchResult result;
  result.shape = std::to_string(c.tokens) + " tokens" +
                 (c.choice.method == AttentionMethod::naive ? ", naive" : ", flash") +
                 (c.choice.block_keys > 0 ? " " + std::to_string(c.choice.block_keys) : "");
  const auto tokens = static_cast<double>(c.tokens);
  result.flops = 2.0 * tokens * (tokens + 1) * static_cast<double>(c.heads * c.head_dim);
  result.bytes = 2.0 * static_cast<double>(bytes_of(dtype)) * tokens *
                 static_cast<double>((c.heads + c.kv_heads) * c.head_dim);
  constexpr unsigned seed = 13;
  std::mt19937 random(seed);
  const Tensor q = random_tensor(exec, dtype, {c.tokens, c.heads, c.head_dim}, random, -1, 1);
  const Tensor k = random_tensor(exec, dtype, {c.tokens, c.kv_heads, c.head_dim}, random, -1, 1);
  const Tensor v = random_tensor(exec, dtype, {c.tokens, c.kv_heads, c.head_dim}, random, -1, 1);
  Tensor y(exec.backend, dtype, {c.tokens, c.heads, c.head_dim});
  const float scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim));
  AttentionArgs args{q.view<3>(), k.view<3>(), v.view<3>(), scale, y.view<3>(), c.choice};
  Tensor scores(exec.backend, DType::fp32, {attention_scores(exec.backend, args)});
  args.scores = scores.view<1>().as<float>();
  describe_method(exec, c, dtype, args, result);
  const auto run = [&] { attention(exec, args); };
  const std::vector<std::uint8_t> poison(y.bytes(), 0xFF);
  copy_to_backend(exec, y.data(), poison.data(), poison.size());
  result.first_seconds = time_once(exec, run);
  result.provider = attention_provider(exec, args);
  result.relative_error = attention_error(exec, c, dtype, seed, scale, y);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    result.timing.seconds.push_back(time_once(exec, run));
  }
  return result;
}

std::vector<MemoryBenchResult> bench_memory(const Executor& exec) {
  std::vector<MemoryBenchResult> results;
  for (const MemoryLevel& level : memory_levels(exec)) {
    Tensor data(exec.backend, DType::fp32, {std::max<std::int64_t>(level.footprint / 4, 1)});
    fill_zero(exec, data.data(), data.bytes());
    double bytes = 0;
    const double seconds =
        fastest_of(exec, 5, [&] { bytes = probe_level(exec, level, data.data()); });
    results.push_back({level.name, level.footprint, bytes / seconds});
  }
  return results;
}

}  // namespace chunkstate
