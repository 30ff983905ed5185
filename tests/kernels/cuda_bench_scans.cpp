// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/selective_scan/selective_scan.hpp"
#include "kernels/ssd/ssd.hpp"
#include "tests/kernels/gpu_bench.hpp"

namespace chunkstate::test {
namespace {

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

}  // namespace

void bench_scans(Bench& bench) {
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
}

}  // namespace chunkstate::test
