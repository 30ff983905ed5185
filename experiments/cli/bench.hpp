// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/bench/operator_bench.hpp"
#include "experiments/cli/verb.hpp"

namespace chunkstate {

// The subcommands of `bench`.
void add_bench_ssd(CLI::App& bench, VerbAction& action);
void add_bench_comm(CLI::App& bench, VerbAction& action);
void add_bench_tokenizer(CLI::App& bench, VerbAction& action);
void add_bench_products(CLI::App& bench, VerbAction& action);
void add_bench_selective_scan(CLI::App& bench, VerbAction& action);
void add_bench_engine(CLI::App& bench, VerbAction& action, bool decode);

/// The flags that the operators' benchmarks share.
struct OperatorFlags {
  std::string backend = "auto";
  std::string dtype = "fp32";
  int threads = 0;
  int repeats = 7;
  bool json = false;

  void add_to(CLI::App& verb);
  Executor executor() const;
};
/// Throws UsageError in the name of `bench verb` for a size below 1 or above 2^24, and for repeats
/// below 1.
void check_bench(const std::string& verb, const std::vector<std::int64_t>& sizes, int repeats = 1);

/// "87 %", or "-" if the peak is unknown.
std::string share_of_peak(double value, double peak);
void print_peaks(const MachinePeaks& peaks);
nlohmann::json to_json(const Timing& timing);
/// The document of --json: peaks, and the results as member `name`.
void print_json(const MachinePeaks& peaks, const std::string& name, const nlohmann::json& rows);

/// What the results of all operators have.
template <class Result>
nlohmann::json figures_to_json(const Result& result) {
  nlohmann::json json{{"timing", to_json(result.timing)},
                      {"bytes", result.bytes},
                      {"bytes_per_second", result.bytes / result.timing.median()},
                      {"relative_error", result.relative_error}};
  if constexpr (requires { result.flops; }) {
    json["flops"] = result.flops;
    json["flops_per_second"] = result.flops / result.timing.median();
  }
  return json;
}

}  // namespace chunkstate
