// SPDX-License-Identifier: Apache-2.0
// cpu_bench: what this machine's products reach, against the ceiling of the innermost loop.
//   cpu_bench [THREADS] [brief | full]   brief: two shapes; full: also other ways to cut the work
#include <omp.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/instruction_level.hpp"
#include "kernels/base/memory_probe.hpp"
#include "kernels/linear/tile_linear.hpp"

using namespace chunkstate;

namespace {

struct Bf16Array {
  std::vector<bf16> memory;
  bf16* data;

  Bf16Array(std::int64_t count, unsigned seed) : memory(static_cast<std::size_t>(count) + 32) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    data = memory.data() + (64 - address % 64) % 64 / sizeof(bf16);
    std::uint32_t x = seed * 2654435761U + 1;
    for (std::int64_t i = 0; i < count; ++i) {
      x = x * 1664525U + 1013904223U;
      data[i] = from_float<bf16>(static_cast<float>(static_cast<std::int32_t>(x)) * 0x1p-31F);
    }
  }
  ConstAnyView<2> matrix(std::int64_t rows, std::int64_t columns) const {
    return {reinterpret_cast<const std::byte*>(data), DType::bf16, {rows, columns}};
  }
};

// One thread is timed by its processor time, which other processes do not disturb.
clockid_t clock_id = CLOCK_MONOTONIC;

double now() {
  timespec time{};
  clock_gettime(clock_id, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <class Body>
double fastest(double budget, const Body& body) {
  body();
  double best = 1e9;
  double total = 0;
  for (int repeat = 0; repeat < 2 || (total < budget && repeat < 1000); ++repeat) {
    const double start = now();
    body();
    const double seconds = now() - start;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

/// Panels that stay in the first cache, random numbers: zeros cost less power and run faster.
double ceiling(int threads) {
  constexpr std::int64_t depth = 256;
  constexpr int rounds = 2000;
  const double flops = 2.0 * panel_sums * depth * rounds * threads;
  return flops / fastest(0.5, [&] {
#pragma omp parallel num_threads(threads)
           {
             const Bf16Array a(panel_elements(depth), 1), b(panel_elements(depth), 2);
             alignas(64) float sums[panel_sums] = {};
             const TileScope scope;
             for (int round = 0; round < rounds; ++round) {
               multiply_panels({.a = a.data,
                                .b = b.data,
                                .depth_tiles = depth / tile_depth,
                                .sums = sums,
                                .accumulate = true});
             }
           }
         });
}

struct Shape {
  const char* name;
  std::int64_t out, in;
};

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : omp_get_max_threads();
  const bool brief = argc > 2 && std::strcmp(argv[2], "brief") == 0;
  if (threads == 1) clock_id = CLOCK_PROCESS_CPUTIME_ID;
  const bool full = argc > 2 && std::strcmp(argv[2], "full") == 0;
  const Executor exec{.backend = Backend::cpu, .threads = threads};
  const std::string level(name_of(instruction_level()));
  std::printf("instructions: %s, %d threads\n", level.c_str(), threads);
  double peak = 0;
  if (has_bf16_tiles()) {
    peak = ceiling(threads);
    std::printf("ceiling (innermost loop on the first cache): %.0f GFLOP/s, one thread %.0f\n",
                peak / 1e9, ceiling(1) / 1e9);
  }
  {
    const std::size_t bytes = std::size_t{512} << 20;
    const Bf16Array data(static_cast<std::int64_t>(bytes / 2), 3);
    const auto* const from = reinterpret_cast<const std::byte*>(data.data);
    std::printf("read bandwidth: %.1f GB/s\n\n", static_cast<double>(bytes) / fastest(0.3, [&] {
                                                   probe_read(exec, from, bytes);
                                                 }) / 1e9);
  }
  const Shape shapes[] = {{"in_proj", 16768, 4096},    {"out_proj", 4096, 8192},
                          {"gate, up", 14336, 4096},   {"down", 4096, 14336},
                          {"tiny in_proj", 1288, 256}, {"tiny out_proj", 256, 512},
                          {"tiny gate", 704, 256},     {"tiny down", 256, 704}};
  std::printf("%-14s %6s  GFLOP/s (share of ceiling); 1 token: GB/s\n", "linear, bf16", "");
  for (const Shape& shape : shapes) {
    if (brief && &shape != &shapes[0] && &shape != &shapes[4]) continue;
    const Bf16Array weight(shape.out * shape.in, 5);
    constexpr std::int64_t most = 1024;
    const Bf16Array x(most * shape.in, 6);
    std::vector<float> y(static_cast<std::size_t>(most * shape.out));
    const auto args = [&](std::int64_t tokens, DType dtype) {
      LinearArgs a;
      a.x = x.matrix(tokens, shape.in);
      a.weight = weight.matrix(shape.out, shape.in);
      a.y = {reinterpret_cast<std::byte*>(y.data()), dtype, {tokens, shape.out}};
      return a;
    };
    const double work = 2.0 * static_cast<double>(shape.out * shape.in);
    std::printf("%-14s", shape.name);
    for (const std::int64_t tokens : {1, 4, 16, 64, 256, 1024}) {
      const double seconds = fastest(0.25, [&] { linear(exec, args(tokens, DType::bf16)); });
      const double rate = work * static_cast<double>(tokens) / seconds;
      if (tokens == 1) {
        std::printf("  1: %.1f GB/s", work / seconds / 1e9);
      } else {
        std::printf("  %ld: %.0f", static_cast<long>(tokens), rate / 1e9);
        if (peak > 0 && tokens > 16) std::printf(" (%.0f %%)", 100 * rate / peak);
      }
      std::fflush(stdout);
    }
    std::printf("\n");
    if (!full || !has_bf16_tiles()) continue;
    constexpr std::int64_t cuts[][3] = {{512, 512, 384},  {512, 512, 512},  {512, 256, 640},
                                        {1024, 256, 256}, {1024, 256, 384}, {1024, 128, 384}};
    for (const auto& cut : cuts) {
      std::printf("  cut into %4ld tokens x %4ld outputs x %4ld inputs:", long{cut[0]},
                  long{cut[1]}, long{cut[2]});
      for (const std::int64_t tokens : {256, 1024}) {
        for (const bool turned : {false, true}) {
          const cpu::TileBlocking blocking{cut[0], cut[1], cut[2], turned};
          const LinearArgs one = args(tokens, DType::bf16);
          const double seconds = fastest(0.1, [&] { cpu::tile_linear(exec, {&one, 1}, blocking); });
          std::printf("  %ld%s: %.0f", long{tokens}, turned ? " turned" : "",
                      work * static_cast<double>(tokens) / seconds / 1e9);
        }
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
  return 0;
}
