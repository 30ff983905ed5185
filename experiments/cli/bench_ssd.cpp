// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/variant_names.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/bench.hpp"
#include "experiments/spec/key_table.hpp"

namespace chunkstate {
namespace {

struct SsdFlags : OperatorFlags {
  SsdBenchCase shape;
  std::vector<std::string> variants;
};

void check(const SsdFlags& flags) {
  const SsdBenchCase& c = flags.shape;
  check_bench("ssd", {c.tokens, c.heads, c.head_dim, c.state_dim, c.groups, c.chunk_size},
              flags.repeats);
  if (c.lookback < 0) throw UsageError("bench ssd: --lookback must be 0 or more");
  if (c.heads % c.groups != 0)
    throw UsageError("bench ssd: --heads must be a multiple of --groups");
  const std::vector<std::string> known = ssd_variant_names();
  for (const std::string& name : flags.variants) {
    if (std::ranges::find(known, name) != known.end()) continue;
    throw UsageError("bench ssd: unknown variant " + with_suggestion(name, known));
  }
}

void print_ssd(const SsdFlags& flags, const std::vector<SsdBenchResult>& results,
               const MachinePeaks& peaks, int threads) {
  const SsdBenchCase& c = flags.shape;
  fmt::print("SSD: {} tokens, {} heads x {}, state {}, groups {}, chunk {}, {}, {} threads\n",
             c.tokens, c.heads, c.head_dim, c.state_dim, c.groups, c.chunk_size, flags.dtype,
             threads);
  print_peaks(peaks);
  const auto baseline = std::find_if(results.begin(), results.end(),
                                     [](const auto& r) { return r.variant == "default"; });
  Table table({"variant", "median", "fastest", "GFLOP/s", "of peak", "GB/s", "of copy",
               "vs default", "error"});
  for (const SsdBenchResult& r : results) {
    const double seconds = r.timing.median();
    table.add(
        {r.variant, format_seconds(seconds), format_seconds(r.timing.fastest()),
         format_number(r.flops / seconds / 1e9), share_of_peak(r.flops / seconds, peaks.gemm_flops),
         format_number(r.bytes / seconds / 1e9), share_of_peak(r.bytes / seconds, peaks.copy_bytes),
         baseline == results.end()
             ? "-"
             : fmt::format("{}x", format_number(baseline->timing.median() / seconds)),
         format_number(r.relative_error)});
  }
  fmt::print("{}", table.text());
}

int bench_ssd_verb(SsdFlags flags) {
  check(flags);
  const Executor exec = flags.executor();
  flags.shape.dtype = dtype_from_name(flags.dtype);
  if (flags.variants.empty()) flags.variants = ssd_variant_names();
  const MachinePeaks peaks = measure_peaks(exec, flags.shape.dtype);
  const auto results = bench_ssd(exec, flags.variants, flags.shape, flags.repeats);
  if (!flags.json) {
    print_ssd(flags, results, peaks, exec.threads);
    return exit_ok;
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const SsdBenchResult& r : results) {
    rows.push_back(figures_to_json(r));
    rows.back()["variant"] = r.variant;
  }
  print_json(peaks, "variants", rows);
  return exit_ok;
}

}  // namespace

void add_bench_ssd(CLI::App& bench, VerbAction& action) {
  auto flags = std::make_shared<SsdFlags>();
  CLI::App* verb = bench.add_subcommand("ssd", "The state-space scan, every variant in turn");
  SsdBenchCase& c = flags->shape;
  verb->add_option("--tokens", c.tokens, "tokens of the sequence")->capture_default_str();
  verb->add_option("--heads", c.heads, "heads")->capture_default_str();
  verb->add_option("--head-dim", c.head_dim, "channels of a head")->capture_default_str();
  verb->add_option("--state-dim", c.state_dim, "size of a channel's state")->capture_default_str();
  verb->add_option("--groups", c.groups, "groups of heads that share B and C")
      ->capture_default_str();
  verb->add_option("--chunk-size", c.chunk_size, "tokens of a chunk")->capture_default_str();
  verb->add_option("--lookback", c.lookback, "earlier chunks that variant lookback sees")
      ->capture_default_str();
  verb->add_option("--variant", flags->variants, "variants to run; default: all");
  flags->add_to(*verb);
  verb->callback([flags, &action] { action = [flags] { return bench_ssd_verb(*flags); }; });
}

}  // namespace chunkstate
