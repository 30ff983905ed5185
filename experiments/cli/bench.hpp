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

/// "87 %", or "-" if the peak is unknown.
std::string share_of_peak(double value, double peak);
void print_peaks(const MachinePeaks& peaks);
nlohmann::json to_json(const MachinePeaks& peaks);
nlohmann::json to_json(const Timing& timing);

}  // namespace chunkstate
