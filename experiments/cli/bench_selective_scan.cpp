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

struct Flags {
  SelectiveScanBenchCase shape;
  std::vector<std::int64_t> batches = {1};
  std::vector<std::int64_t> tokens = {512};
  std::vector<std::string> variants;
  std::string backend = "auto";
  std::string dtype = "fp32";
  int threads = 0;
  int repeats = 7;
  bool json = false;
};

constexpr std::int64_t largest_size = std::int64_t{1} << 24;
constexpr double largest_elements = 1e10;  // of the states that eager keeps: 80 GB in all

void check(const Flags& flags) {
  const SelectiveScanBenchCase& c = flags.shape;
  std::vector<std::int64_t> sizes = {c.channels, c.state_dim, c.chunk_size};
  sizes.insert(sizes.end(), flags.batches.begin(), flags.batches.end());
  sizes.insert(sizes.end(), flags.tokens.begin(), flags.tokens.end());
  for (const std::int64_t size : sizes) {
    if (size < 1 || size > largest_size) {
      throw UsageError("bench selective_scan: sizes must be 1 to 2^24");
    }
  }
  for (const std::int64_t batch : flags.batches) {
    for (const std::int64_t tokens : flags.tokens) {
      const double elements = static_cast<double>(batch) * static_cast<double>(tokens) *
                              static_cast<double>(c.channels) * static_cast<double>(c.state_dim);
      if (elements > largest_elements) {
        throw UsageError("bench selective_scan: states of more than 10^10 elements");
      }
    }
  }
  if (flags.repeats < 1) throw UsageError("bench selective_scan: --repeats must be at least 1");
}

double eager_seconds(const std::vector<SelectiveScanBenchResult>& results) {
  const auto eager = std::find_if(results.begin(), results.end(),
                                  [](const auto& r) { return r.variant == "eager"; });
  return eager == results.end() ? 0.0 : eager->timing.median();
}

int run(Flags flags) {
  check(flags);
  const Executor exec{backend_from_name(flags.backend), resolve_threads(flags.threads)};
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
        rows.push_back({{"batch", batch},
                        {"tokens", tokens},
                        {"variant", r.variant},
                        {"timing", to_json(r.timing)},
                        {"bytes", r.bytes},
                        {"bytes_per_second", r.bytes / seconds},
                        {"launches", r.launches},
                        {"relative_error", r.relative_error}});
      }
    }
  }
  if (flags.json) {
    fmt::print("{}\n", nlohmann::json{{"peaks", to_json(peaks)}, {"variants", rows}}.dump(2));
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
  auto flags = std::make_shared<Flags>();
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
  verb->add_option("--backend", flags->backend, "auto, cpu, cuda or reference")
      ->capture_default_str();
  verb->add_option("--dtype", flags->dtype, "fp32, bf16 or fp16")->capture_default_str();
  verb->add_option("--threads", flags->threads, "CPU threads; 0: all this process may use")
      ->capture_default_str();
  verb->add_option("--repeats", flags->repeats, "timed runs")->capture_default_str();
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace chunkstate
