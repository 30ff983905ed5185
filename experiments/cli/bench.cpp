// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/cost.hpp"
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/operator_bench.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/run/clock.hpp"

namespace chunkstate {
namespace {

std::string share(double value, double peak) {
  return peak > 0 ? fmt::format("{:.0f} %", 100.0 * value / peak) : "-";
}

void print_peaks(const MachinePeaks& peaks) {
  fmt::print("measured in this run: matrix product {} GFLOP/s, copy {} GB/s, read {} GB/s\n\n",
             format_number(peaks.gemm_flops / 1e9), format_number(peaks.copy_bytes / 1e9),
             format_number(peaks.read_bytes / 1e9));
}

nlohmann::json to_json(const MachinePeaks& peaks) {
  return {{"gemm_flops", peaks.gemm_flops},
          {"copy_bytes_per_second", peaks.copy_bytes},
          {"read_bytes_per_second", peaks.read_bytes}};
}

nlohmann::json to_json(const Timing& timing) {
  return {{"median", timing.median()},
          {"fastest", timing.fastest()},
          {"slowest", timing.slowest()},
          {"seconds", timing.seconds}};
}

// bench ssd

struct SsdFlags {
  SsdBenchCase shape;
  std::vector<std::string> variants;
  std::string backend = "auto";
  std::string dtype = "fp32";
  int threads = 0;
  int repeats = 7;
  bool json = false;
};

void check(const SsdFlags& flags) {
  const SsdBenchCase& c = flags.shape;
  for (const std::int64_t size : {c.tokens, c.heads, c.head_dim, c.state_dim, c.groups, c.chunk_size}) {
    if (size < 1 || size > (std::int64_t{1} << 24)) throw UsageError("bench ssd: sizes must be 1 to 2^24");
  }
  if (c.lookback < 0) throw UsageError("bench ssd: --lookback must be 0 or more");
  if (c.heads % c.groups != 0) throw UsageError("bench ssd: --heads must be a multiple of --groups");
  if (flags.repeats < 1) throw UsageError("bench ssd: --repeats must be at least 1");
}

void print_ssd(const SsdFlags& flags, const std::vector<SsdBenchResult>& results,
               const MachinePeaks& peaks, int threads) {
  const SsdBenchCase& c = flags.shape;
  fmt::print("SSD: {} tokens, {} heads x {}, state {}, groups {}, chunk {}, {}, {} threads\n",
             c.tokens, c.heads, c.head_dim, c.state_dim, c.groups, c.chunk_size, flags.dtype, threads);
  print_peaks(peaks);
  const auto baseline = std::find_if(results.begin(), results.end(),
                                     [](const auto& r) { return r.variant == "default"; });
  Table table({"variant", "median", "fastest", "GFLOP/s", "of peak", "GB/s", "of copy", "vs default",
               "error"});
  for (const SsdBenchResult& r : results) {
    const double seconds = r.timing.median();
    table.add({r.variant, format_seconds(seconds), format_seconds(r.timing.fastest()),
               format_number(r.flops / seconds / 1e9), share(r.flops / seconds, peaks.gemm_flops),
               format_number(r.bytes / seconds / 1e9), share(r.bytes / seconds, peaks.copy_bytes),
               baseline == results.end()
                   ? "-"
                   : fmt::format("{}x", format_number(baseline->timing.median() / seconds)),
               format_number(r.relative_error)});
  }
  fmt::print("{}", table.text());
}

int bench_ssd_verb(SsdFlags flags) {
  check(flags);
  const Executor exec{backend_from_name(flags.backend), resolve_threads(flags.threads)};
  flags.shape.dtype = dtype_from_name(flags.dtype);
  if (flags.variants.empty()) {
    for (const SsdVariant& row : ssd_variants()) flags.variants.emplace_back(row.name);
  }
  const MachinePeaks peaks = measure_peaks(exec, flags.shape.dtype);
  const auto results = bench_ssd(exec, flags.variants, flags.shape, flags.repeats);
  if (!flags.json) {
    print_ssd(flags, results, peaks, exec.threads);
    return exit_ok;
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const SsdBenchResult& r : results) {
    rows.push_back({{"variant", r.variant},
                    {"timing", to_json(r.timing)},
                    {"flops", r.flops},
                    {"bytes", r.bytes},
                    {"flops_per_second", r.flops / r.timing.median()},
                    {"bytes_per_second", r.bytes / r.timing.median()},
                    {"relative_error", r.relative_error}});
  }
  fmt::print("{}\n", nlohmann::json{{"peaks", to_json(peaks)}, {"variants", rows}}.dump(2));
  return exit_ok;
}

void add_bench_ssd(CLI::App& bench, VerbAction& action) {
  auto flags = std::make_shared<SsdFlags>();
  CLI::App* verb = bench.add_subcommand("ssd", "The state-space scan, every variant in turn");
  SsdBenchCase& c = flags->shape;
  verb->add_option("--tokens", c.tokens)->capture_default_str();
  verb->add_option("--heads", c.heads)->capture_default_str();
  verb->add_option("--head-dim", c.head_dim)->capture_default_str();
  verb->add_option("--state-dim", c.state_dim)->capture_default_str();
  verb->add_option("--groups", c.groups)->capture_default_str();
  verb->add_option("--chunk-size", c.chunk_size)->capture_default_str();
  verb->add_option("--lookback", c.lookback)->capture_default_str();
  verb->add_option("--variant", flags->variants, "variants to run; default: all");
  verb->add_option("--backend", flags->backend)->capture_default_str();
  verb->add_option("--dtype", flags->dtype)->capture_default_str();
  verb->add_option("--threads", flags->threads, "0: all")->capture_default_str();
  verb->add_option("--repeats", flags->repeats)->capture_default_str();
  verb->add_flag("--json", flags->json);
  verb->callback([flags, &action] { action = [flags] { return bench_ssd_verb(*flags); }; });
}

// bench prefill, bench decode

struct EngineFlags {
  ModelFlags model;
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> batches = {1};
  int repeats = 5;
  bool json = false;
};

struct EngineRow {
  std::int64_t tokens = 0;  // prompt (prefill), context (decode)
  std::int64_t batch = 1;
  Timing timing;
  Cost cost;
};

std::vector<std::int32_t> random_ids(std::int64_t count, std::int64_t vocab_size, std::uint64_t seed) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::uint64_t x = seed;
  for (std::int32_t& id : ids) {
    x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    id = static_cast<std::int32_t>((x >> 33) % static_cast<std::uint64_t>(vocab_size));
  }
  return ids;
}

EngineRow time_prefill(LoadedModel& loaded, const CostSizes& sizes, std::int64_t tokens, int repeats) {
  EngineRow row;
  row.tokens = tokens;
  row.cost = forward_cost(loaded.model.config(), sizes, loaded.ssd, 0, tokens, 1);
  SequenceState state = loaded.model.make_state(loaded.ssd, 1, tokens);
  const auto ids = random_ids(tokens, loaded.files.config.vocab_size, 1);
  const LogitsSink ignore = [](std::int64_t, std::int64_t, View<const float, 2>) {};
  for (int repeat = -1; repeat < repeats; ++repeat) {  // -1: warm-up
    loaded.model.reset(state);
    const double start = monotonic_seconds();
    loaded.model.prefill(ids, state, 0, 0, LogitsRows::last, ignore);
    if (repeat >= 0) row.timing.seconds.push_back(monotonic_seconds() - start);
  }
  return row;
}

EngineRow time_decode(LoadedModel& loaded, const CostSizes& sizes, std::int64_t context,
                      std::int64_t batch, int repeats) {
  EngineRow row;
  row.tokens = context;
  row.batch = batch;
  for (std::int64_t b = 0; b < batch; ++b) {
    Cost one = forward_cost(loaded.model.config(), sizes, loaded.ssd, context, 1, 1);
    if (b > 0) one.bytes -= sizes.weight_bytes_per_pass;  // the batch reads the weights once
    row.cost += one;
  }
  constexpr std::int64_t warm_up = 3;
  SequenceState state = loaded.model.make_state(loaded.ssd, batch, context + warm_up + repeats);
  const auto ids = random_ids(context + 1, loaded.files.config.vocab_size, 2);
  const std::span<const std::int32_t> prompt(ids.data(), static_cast<std::size_t>(context));
  for (std::int64_t b = 0; b < batch && context > 0; ++b) {
    loaded.model.prefill(prompt, state, b, 0, LogitsRows::none);
  }
  const std::vector<std::span<const std::int32_t>> step(static_cast<std::size_t>(batch),
                                                        std::span(ids).last(1));
  const LogitsSink ignore = [](std::int64_t, std::int64_t, View<const float, 2>) {};
  for (std::int64_t repeat = -warm_up; repeat < repeats; ++repeat) {
    const double start = monotonic_seconds();
    loaded.model.forward(step, state, LogitsRows::last, ignore);
    if (repeat >= 0) row.timing.seconds.push_back(monotonic_seconds() - start);
  }
  return row;
}

void print_engine(const EngineFlags& flags, const std::vector<EngineRow>& rows,
                  const MachinePeaks& peaks, bool decode) {
  print_peaks(peaks);
  Table table({decode ? "context" : "tokens", "batch", "median", "fastest", "tokens/s", "GFLOP/s",
               "of peak", "GB/s", "of read"});
  for (const EngineRow& row : rows) {
    const double seconds = row.timing.median();
    const double tokens = static_cast<double>(decode ? row.batch : row.tokens);
    table.add({std::to_string(row.tokens), std::to_string(row.batch), format_seconds(seconds),
               format_seconds(row.timing.fastest()), format_number(tokens / seconds),
               format_number(row.cost.flops / seconds / 1e9),
               share(row.cost.flops / seconds, peaks.gemm_flops),
               format_number(row.cost.bytes / seconds / 1e9),
               share(row.cost.bytes / seconds, peaks.read_bytes)});
  }
  fmt::print("{} {}, {}, variant {}\n{}", flags.model.model, decode ? "decode step" : "prefill",
             flags.model.dtype, flags.model.variant, table.text());
}

int bench_engine_verb(EngineFlags flags, bool decode) {
  if (flags.tokens.empty()) flags.tokens = {decode ? 256 : 1024};
  if (flags.repeats < 1) throw UsageError("bench: --repeats must be at least 1");
  for (const std::int64_t tokens : flags.tokens) {
    if (tokens < (decode ? 0 : 1)) throw UsageError("bench: --tokens must be positive");
  }
  for (const std::int64_t batch : flags.batches) {
    if (batch < 1) throw UsageError("bench: --batch must be at least 1");
  }
  LoadedModel loaded(flags.model);
  const ModelOptions& options = loaded.model.options();
  const MachinePeaks peaks = measure_peaks({options.backend, options.threads}, options.dtype);
  CostSizes sizes;
  sizes.weight_bytes_per_pass = loaded.model.weights().streamed_bytes();
  sizes.activation = static_cast<std::int64_t>(bytes_of(options.dtype));
  std::vector<EngineRow> rows;
  for (const std::int64_t tokens : flags.tokens) {
    if (!decode) {
      rows.push_back(time_prefill(loaded, sizes, tokens, flags.repeats));
      continue;
    }
    for (const std::int64_t batch : flags.batches) {
      rows.push_back(time_decode(loaded, sizes, tokens, batch, flags.repeats));
    }
  }
  if (!flags.json) {
    print_engine(flags, rows, peaks, decode);
    return exit_ok;
  }
  nlohmann::json list = nlohmann::json::array();
  for (const EngineRow& row : rows) {
    list.push_back({{decode ? "context" : "tokens", row.tokens},
                    {"batch", row.batch},
                    {"timing", to_json(row.timing)},
                    {"flops", row.cost.flops},
                    {"bytes", row.cost.bytes}});
  }
  fmt::print("{}\n", nlohmann::json{{"peaks", to_json(peaks)}, {"rows", list}}.dump(2));
  return exit_ok;
}

void add_bench_engine(CLI::App& bench, VerbAction& action, bool decode) {
  auto flags = std::make_shared<EngineFlags>();
  CLI::App* verb = decode ? bench.add_subcommand("decode", "One new token of each of a batch of sequences")
                          : bench.add_subcommand("prefill", "A whole prompt to its last logits");
  flags->model.add_to(*verb);
  verb->add_option("--tokens", flags->tokens,
                   decode ? "tokens before the step; several make rows" : "prompt lengths")
      ->delimiter(',');
  if (decode) {
    flags->repeats = 20;
    verb->add_option("--batch", flags->batches, "sequences per step; several make rows")->delimiter(',');
  }
  verb->add_option("--repeats", flags->repeats)->capture_default_str();
  verb->add_flag("--json", flags->json);
  verb->callback([flags, decode, &action] {
    action = [flags, decode] { return bench_engine_verb(*flags, decode); };
  });
}

}  // namespace

void add_bench(CLI::App& app, VerbAction& action) {
  CLI::App* bench = app.add_subcommand("bench", "Operator and engine benchmarks: time, GFLOP/s, GB/s, "
                                                "shares of what this machine reaches in the same run");
  bench->require_subcommand(1);
  add_bench_ssd(*bench, action);
  add_bench_engine(*bench, action, false);
  add_bench_engine(*bench, action, true);
}

}  // namespace chunkstate
