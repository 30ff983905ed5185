// SPDX-License-Identifier: Apache-2.0
// cpu_bench: what this machine's products reach, against the ceiling of the innermost loop.
//   cpu_bench [THREADS] [brief | full | ceiling]
// brief: two shapes; full: also other ways to cut the work; ceiling: that alone. Built with
// -DCHUNKSTATE_ONEDNN=ON it also times oneDNN's products, in turn with ours.
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/base/bf16_tiles.hpp"
#include "kernels/base/instruction_level.hpp"
#include "kernels/base/memory_probe.hpp"
#include "kernels/base/tile_probe.hpp"
#include "kernels/linear/tile_linear.hpp"
#include "tests/kernels/onednn_product.hpp"

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

/// What the machine can do at best. Others disturb it for seconds at a time, so it is measured
/// between the products again and again, and the best counts.
class Ceilings {
 public:
  explicit Ceilings(const Executor& exec)
      : exec_(exec), data_(static_cast<std::int64_t>(read_bytes / 2), 3) {}

  void measure() {
    for (const bool b_streams : {false, true}) {
      if (!has_bf16_tiles()) break;
      double work = 0;
      const double seconds = fastest(0.1, [&] { work = probe_tiles(exec_, b_streams); });
      flops = std::max(flops, work / seconds);
    }
    const auto* const from = reinterpret_cast<const std::byte*>(data_.data);
    const double seconds = fastest(0.1, [&] { probe_read(exec_, from, read_bytes); });
    read = std::max(read, static_cast<double>(read_bytes) / seconds);
  }

  double flops = 0;
  double read = 0;

 private:
  static constexpr std::size_t read_bytes = std::size_t{512} << 20;
  const Executor exec_;
  const Bf16Array data_;
};

struct Shape {
  const char* name;
  std::int64_t out, in;
};
constexpr Shape shapes[] = {{"in_proj", 16768, 4096},    {"out_proj", 4096, 8192},
                            {"gate, up", 14336, 4096},   {"down", 4096, 14336},
                            {"tiny in_proj", 1288, 256}, {"tiny out_proj", 256, 512},
                            {"tiny gate", 704, 256},     {"tiny down", 256, 704}};
constexpr std::int64_t token_counts[] = {1, 4, 16, 64, 256, 1024};

struct Row {
  const Shape* shape;
  std::vector<double> own, onednn;  // seconds for each of token_counts
};

void time_cuts(const Executor& exec, const LinearArgs& args, const Shape& shape) {
  constexpr std::int64_t cuts[][3] = {{512, 512, 384},  {512, 512, 512},  {512, 256, 640},
                                      {512, 256, 256},  {1024, 256, 256}, {1024, 256, 384},
                                      {1024, 128, 384}, {512, 1024, 384}};
  for (const auto& cut : cuts) {
    std::printf("%s cut into %4ld tokens x %4ld outputs x %4ld inputs, GFLOP/s:", shape.name,
                long{cut[0]}, long{cut[1]}, long{cut[2]});
    for (const std::int64_t tokens : {256, 1024}) {
      LinearArgs part = args;
      part.x = args.x.slice(0, 0, tokens);
      part.y = args.y.slice(0, 0, tokens);
      for (const bool turned : {false, true}) {
        const cpu::TileBlocking blocking{cut[0], cut[1], cut[2], turned};
        const double seconds = fastest(0.1, [&] { cpu::tile_linear(exec, {&part, 1}, blocking); });
        const double flops = 2.0 * static_cast<double>(shape.out * shape.in * tokens);
        std::printf("  %ld%s: %.0f", long{tokens}, turned ? " turned" : "", flops / seconds / 1e9);
      }
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

Row time_products(const Executor& exec, const Shape& shape, bool cuts) {
  Row row{&shape, {}, {}};
  const Bf16Array weight(shape.out * shape.in, 5);
  const std::int64_t most = *std::max_element(std::begin(token_counts), std::end(token_counts));
  const Bf16Array x(most * shape.in, 6);
  const Bf16Array y(most * shape.out, 7);
  LinearArgs args;
  args.weight = weight.matrix(shape.out, shape.in);
  for (const std::int64_t tokens : token_counts) {
    args.x = x.matrix(tokens, shape.in);
    args.y = {reinterpret_cast<std::byte*>(y.data), DType::bf16, {tokens, shape.out}};
    double own = 1e9, other = 1e9;
    const OnednnProduct onednn(args, exec.threads);
    for (int turn = 0; turn < 3; ++turn) {
      own = std::min(own, fastest(0.1, [&] { linear(exec, args); }));
      if (OnednnProduct::exists) other = std::min(other, fastest(0.1, [&] { onednn.run(); }));
    }
    row.own.push_back(own);
    row.onednn.push_back(other);
  }
  if (cuts && has_bf16_tiles()) time_cuts(exec, args, shape);
  return row;
}

void print(const Row& row, const Ceilings& ceilings) {
  const double work = 2.0 * static_cast<double>(row.shape->out * row.shape->in);
  std::printf("%-14s", row.shape->name);
  for (std::size_t i = 0; i < row.own.size(); ++i) {
    const std::int64_t tokens = token_counts[i];
    const double rate = work * static_cast<double>(tokens) / row.own[i];
    std::printf("  %ld: %.*f", static_cast<long>(tokens), tokens == 1 ? 1 : 0, rate / 1e9);
    if (tokens == 1) std::printf(" (%.0f %%)", 100 * rate / ceilings.read);
    if (ceilings.flops > 0 && tokens > 16) std::printf(" (%.0f %%)", 100 * rate / ceilings.flops);
    if (OnednnProduct::exists) std::printf(" [%.2f]", row.onednn[i] / row.own[i]);
  }
  std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : omp_get_max_threads();
  const auto mode = [&](const char* name) { return argc > 2 && std::strcmp(argv[2], name) == 0; };
  if (threads == 1) clock_id = CLOCK_PROCESS_CPUTIME_ID;
  const Executor exec{.backend = Backend::cpu, .threads = threads};
  Ceilings ceilings(exec);
  ceilings.measure();
  if (mode("ceiling")) {
    std::printf("%.0f GFLOP/s, %.1f GB/s\n", ceilings.flops / 1e9, ceilings.read / 1e9);
    return 0;
  }
  std::vector<Row> rows;
  for (const Shape& shape : shapes) {
    if (mode("brief") && &shape != &shapes[0] && &shape != &shapes[4]) continue;
    rows.push_back(time_products(exec, shape, mode("full")));
    ceilings.measure();
  }
  const std::string level(name_of(instruction_level()));
  std::printf("instructions: %s, %d threads; best of %zu measurements between the products:\n",
              level.c_str(), threads, rows.size() + 1);
  if (ceilings.flops > 0) {
    std::printf("ceiling (innermost loop on the first cache): %.0f GFLOP/s\n",
                ceilings.flops / 1e9);
  }
  std::printf("read bandwidth: %.1f GB/s\n\n", ceilings.read / 1e9);
  std::printf("%-14s  1 token: GB/s (of read); more: GFLOP/s (of ceiling)%s\n", "linear, bf16",
              OnednnProduct::exists ? " [times oneDNN's speed]" : "");
  for (const Row& row : rows) print(row, ceilings);
  return 0;
}
