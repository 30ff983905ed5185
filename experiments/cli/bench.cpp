// SPDX-License-Identifier: Apache-2.0
#include "experiments/cli/bench.hpp"

#include <fmt/format.h>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "experiments/analysis/table.hpp"

namespace chunkstate {

void OperatorFlags::add_to(CLI::App& verb) {
  verb.add_option("--backend", backend, "auto, cpu, cuda or reference")->capture_default_str();
  verb.add_option("--dtype", dtype, "fp32, bf16 or fp16")->capture_default_str();
  verb.add_option("--threads", threads, "CPU threads; 0: all this process may use")
      ->capture_default_str();
  verb.add_option("--repeats", repeats, "timed runs")->capture_default_str();
  verb.add_flag("--json", json, "print as JSON");
}

Executor OperatorFlags::executor() const {
  return {backend_from_name(backend), resolve_threads(threads)};
}

void check_bench(const std::string& verb, const std::vector<std::int64_t>& sizes, int repeats) {
  for (const std::int64_t size : sizes) {
    if (size < 1 || size > (std::int64_t{1} << 24)) {
      throw UsageError("bench " + verb + ": sizes must be 1 to 2^24");
    }
  }
  if (repeats < 1) throw UsageError("bench " + verb + ": --repeats must be at least 1");
}

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

void print_json(const MachinePeaks& peaks, const std::string& name, const nlohmann::json& rows) {
  const nlohmann::json measured{{"gemm_flops", peaks.gemm_flops},
                                {"copy_bytes_per_second", peaks.copy_bytes},
                                {"read_bytes_per_second", peaks.read_bytes},
                                {"ceiling_flops", peaks.ceiling_flops}};
  fmt::print("{}\n", nlohmann::json{{"peaks", measured}, {name, rows}}.dump(2));
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
