// SPDX-License-Identifier: Apache-2.0
#include "experiments/cli/bench.hpp"

#include <fmt/format.h>

#include "experiments/analysis/table.hpp"

namespace chunkstate {

std::string share_of_peak(double value, double peak) {
  return peak > 0 ? fmt::format("{:.0f} %", 100.0 * value / peak) : "-";
}

void print_peaks(const MachinePeaks& peaks) {
  fmt::print("measured in this run: matrix product {} GFLOP/s, copy {} GB/s",
             format_number(peaks.gemm_flops / 1e9), format_number(peaks.copy_bytes / 1e9));
  if (peaks.read_bytes > 0) fmt::print(", read {} GB/s", format_number(peaks.read_bytes / 1e9));
  if (peaks.ceiling_flops > 0) {
    fmt::print(", innermost loop {} GFLOP/s", format_number(peaks.ceiling_flops / 1e9));
  }
  fmt::print("\n\n");
}

nlohmann::json to_json(const MachinePeaks& peaks) {
  return {{"gemm_flops", peaks.gemm_flops},
          {"copy_bytes_per_second", peaks.copy_bytes},
          {"read_bytes_per_second", peaks.read_bytes},
          {"ceiling_flops", peaks.ceiling_flops}};
}

nlohmann::json to_json(const Timing& timing) {
  return {{"median", timing.median()},
          {"fastest", timing.fastest()},
          {"slowest", timing.slowest()},
          {"seconds", timing.seconds}};
}

void add_bench(CLI::App& app, VerbAction& action) {
  CLI::App* bench = app.add_subcommand("bench",
                                       "Operator and engine benchmarks: time, GFLOP/s, GB/s, "
                                       "shares of what this machine reaches in the same run");
  bench->require_subcommand(1);
  add_bench_ssd(*bench, action);
  add_bench_selective_scan(*bench, action);
  add_bench_products(*bench, action);
  add_bench_engine(*bench, action, false);
  add_bench_engine(*bench, action, true);
  add_bench_comm(*bench, action);
  add_bench_tokenizer(*bench, action);
}

}  // namespace chunkstate
