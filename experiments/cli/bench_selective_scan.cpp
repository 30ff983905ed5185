// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "core/bench/selective_scan_bench.hpp"
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/variant_names.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/bench.hpp"

namespace chunkstate {
namespace {

struct SelectiveScanFlags : OperatorFlags {
  SelectiveScanBenchCase shape;
  std::vector<std::int64_t> batches = {1};
  std::vector<std::int64_t> tokens = {512};
  std::vector<std::string> variants;
};

constexpr double largest_states = 1e10;  // of the states that eager keeps: 80 GB in all

void check(const SelectiveScanFlags& flags) {
  const SelectiveScanBenchCase& c = flags.shape;
  std::vector<std::int64_t> sizes = {c.channels, c.state_dim, c.chunk_size};
  sizes.insert(sizes.end(), flags.batches.begin(), flags.batches.end());
  sizes.insert(sizes.end(), flags.tokens.begin(), flags.tokens.end());
  check_bench("selective_scan", sizes, flags.repeats);
  for (const std::int64_t batch : flags.batches) {
    for (const std::int64_t tokens : flags.tokens) {
      const double elements = static_cast<double>(batch) * static_cast<double>(tokens) *
                              static_cast<double>(c.channels) * static_cast<double>(c.state_dim);
      if (elements > largest_states) {
        throw UsageError("bench selective_scan: states of more than 10^10 elements");
      }
    }
  }
}

double eager_seconds(const std::vector<SelectiveScanBenchResult>& results) {
  const auto eager = std::find_if(results.begin(), results.end(),
                                  [](const auto& r) { return r.variant == "eager"; });
  return eager == results.end() ? 0.0 : eager->timing.median();
}

int bench_selective_scan_verb(SelectiveScanFlags flags) {
  check(flags);
  const Executor exec = flags.executor();
  flags.shape.dtype = dtype_from_name(flags.dtype);
  if (flags.variants.empty()) flags.variants = selective_scan_variant_names();
  const MachinePeaks peaks = measure_peaks(exec, flags.shape.dtype);
  Table table({"batch", "tokens", "variant", "median", "fastest", "GB/s", "of copy", "times eager",
               "launches", "error"});
  nlohmann::json rows = nlohmann::json::array();
  for (const std::int64_t batch : flags.batches) {
    for (const std::int64_t tokens : flags.tokens) {
      SelectiveScanBenchCase shape = flags.shape;
      shape.batch = batch;
      shape.tokens = tokens;
      const auto results = bench_selective_scan(exec, flags.variants, shape, flags.repeats);
      const double eager = eager_seconds(results);
      for (const SelectiveScanBenchResult& r : results) {
        const double seconds = r.timing.median();
        table.add({std::to_string(batch), std::to_string(tokens), r.variant,
                   format_seconds(seconds), format_seconds(r.timing.fastest()),
                   format_number(r.bytes / seconds / 1e9),
                   share_of_peak(r.bytes / seconds, peaks.copy_bytes),
                   eager > 0 ? fmt::format("{}x", format_number(eager / seconds)) : "-",
                   std::to_string(r.launches), format_number(r.relative_error)});
        rows.push_back(figures_to_json(r));
        rows.back().update({{"batch", batch},
                            {"tokens", tokens},
                            {"variant", r.variant},
                            {"launches", r.launches}});
      }
    }
  }
  if (flags.json) {
    print_json(peaks, "variants", rows);
    return exit_ok;
  }
  fmt::print("selective scan: {} channels, state {}, {}, {} threads\n", flags.shape.channels,
             flags.shape.state_dim, flags.dtype, exec.threads);
  print_peaks(peaks);
  fmt::print("{}", table.text());
  return exit_ok;
}

}  // namespace

void add_bench_selective_scan(CLI::App& bench, VerbAction& action) {
  auto flags = std::make_shared<SelectiveScanFlags>();
  CLI::App* verb = bench.add_subcommand(
      "selective_scan", "The Mamba-1 scan with step sizes, skip and gate, every variant in turn");
  SelectiveScanBenchCase& c = flags->shape;
  verb->add_option("--batch", flags->batches, "comma-separated")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--tokens", flags->tokens, "comma-separated")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--channels", c.channels, "channels")->capture_default_str();
  verb->add_option("--state-dim", c.state_dim, "size of a channel's state")->capture_default_str();
  verb->add_option("--chunk-size", c.chunk_size, "of variant chunked")->capture_default_str();
  verb->add_option("--variant", flags->variants, "variants to run; default: all");
  flags->add_to(*verb);
  verb->callback(
      [flags, &action] { action = [flags] { return bench_selective_scan_verb(*flags); }; });
}

}  // namespace chunkstate
