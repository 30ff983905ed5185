// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "core/bench/reference_check.hpp"
#include "core/cost.hpp"
#include "core/errors.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/bench.hpp"
#include "experiments/cli/verb_group.hpp"
#include "experiments/run/clock.hpp"

namespace chunkstate {
namespace {

struct EngineFlags {
  ModelFlags model;
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> batches = {1};
  int repeats = 5;
  bool check = true;
  bool json = false;
};

struct EngineRow {
  std::int64_t tokens = 0;  // prompt (prefill), context (decode)
  std::int64_t batch = 1;
  Timing timing;
  // Of a prefill on a CPU, each run's share of the innermost loop's FLOP/s, which is measured
  // before and after it (the higher counts): on a shared machine both change fourfold within
  // seconds.
  std::vector<double> loop_shares;
  Cost cost;
  std::optional<double> error;  // of its logits
};

std::vector<std::int32_t> random_ids(std::int64_t count, std::int64_t vocab_size,
                                     std::uint64_t seed) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
  std::uint64_t x = seed;
  for (std::int32_t& id : ids) {
    x = x * 6364136223846793005ULL + 1442695040888963407ULL;
    id = static_cast<std::int32_t>((x >> 33) % static_cast<std::uint64_t>(vocab_size));
  }
  return ids;
}

EngineRow time_prefill(LoadedModel& loaded, const VerbGroup& group, const CostSizes& sizes,
                       std::int64_t tokens, int repeats) {
  EngineRow row;
  row.tokens = tokens;
  row.cost = forward_cost(loaded.model.config(), sizes, loaded.ssd, 0, tokens, 1);
  SequenceState state = loaded.model.make_state(loaded.ssd, 1, tokens);
  const auto ids = random_ids(tokens, loaded.files.config.vocab_size, 1);
  const GreedySink ignore = [](std::int64_t, const Sampled&) {};  // as generation takes it
  const Executor exec{loaded.model.options().backend, loaded.model.options().threads};
  const auto loop = [&] {
    return group.size() == 1 ? measure_tile_loop(exec, loaded.model.options().dtype, 2) : 0;
  };
  for (int repeat = -1; repeat < repeats; ++repeat) {  // -1: warm-up
    loaded.model.reset(state);
    const double loop_before = loop();
    group.barrier();
    const double start = monotonic_seconds();
    if (RankGroup* const ranks = group.sequence()) {
      SequenceSplit split(*ranks, split_ranges(loaded.ssd, tokens, group.size()));
      loaded.model.forward_split(ids, state, 0, split, LogitsRows::last, ignore);
    } else {
      loaded.model.prefill(ids, state, 0, 0, LogitsRows::last, ignore);
    }
    const double seconds = group.slowest(monotonic_seconds() - start);
    const double loop_flops = std::max(loop_before, loop());
    if (repeat < 0) continue;
    row.timing.seconds.push_back(seconds);
    if (loop_flops > 0) row.loop_shares.push_back(row.cost.flops / seconds / loop_flops);
  }
  return row;
}

// As generation runs them: steps are launched ahead of what the host has seen. A step's time is
// that between two results.
void time_steps_on_device(LoadedModel& loaded, SequenceState& state, std::int32_t token,
                          std::int64_t warm_up, std::int64_t repeats, Timing& timing) {
  Decoder& decoder = loaded.model.decoder(state);
  decoder.start(state, std::vector<std::int32_t>(static_cast<std::size_t>(state.batch()), token));
  std::int64_t launched = 0;
  double last = monotonic_seconds();
  for (std::int64_t step = -warm_up; step < repeats; ++step) {
    while (launched < warm_up + repeats && decoder.open_steps() < Decoder::max_ahead) {
      decoder.launch();
      ++launched;
    }
    decoder.collect();
    const double now = monotonic_seconds();
    if (step >= 0) timing.seconds.push_back(now - last);
    last = now;
  }
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
  constexpr std::int64_t warm_up = 6;
  SequenceState state = loaded.model.make_state(loaded.ssd, batch, context + warm_up + repeats);
  const auto ids = random_ids(context + 1, loaded.files.config.vocab_size, 2);
  const std::span<const std::int32_t> prompt(ids.data(), static_cast<std::size_t>(context));
  for (std::int64_t b = 0; b < batch && context > 0; ++b) {
    loaded.model.prefill(prompt, state, b, 0, LogitsRows::none);
  }
  if (loaded.model.has_decoder(state)) {
    time_steps_on_device(loaded, state, ids.back(), warm_up, repeats, row.timing);
    return row;
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

// Says what the errors are of.
std::string check_rows(const LoadedModel& loaded, bool decode, std::vector<EngineRow>& rows) {
  ReferenceCheck check(loaded.files.config, loaded.files.checkpoint, loaded.model.options(),
                       loaded.ssd);
  for (EngineRow& row : rows) {
    row.error = decode ? check.decode_error(row.batch) : check.prefill_error();
  }
  return fmt::format("error: of the logits after {} tokens and {} layers, against the reference\n",
                     check.tokens(), check.layers());
}

void print_engine(const EngineFlags& flags, const std::vector<EngineRow>& rows,
                  const MachinePeaks& peaks, const VerbGroup& group, bool decode) {
  print_peaks(peaks);
  const bool has_ceiling = peaks.ceiling_flops > 0;
  std::vector<std::string> head{decode ? "context" : "tokens",
                                "batch",
                                "median",
                                "fastest",
                                "tokens/s",
                                "GFLOP/s",
                                "of peak"};
  if (has_ceiling) head.push_back("of loop");
  head.insert(head.end(), {"GB/s", peaks.read_bytes > 0 ? "of read" : "of copy", "error"});
  Table table(head);
  for (const EngineRow& row : rows) {
    const double seconds = row.timing.median();
    const double tokens = static_cast<double>(decode ? row.batch : row.tokens);
    std::vector<std::string> cells{std::to_string(row.tokens),
                                   std::to_string(row.batch),
                                   format_seconds(seconds),
                                   format_seconds(row.timing.fastest()),
                                   format_number(tokens / seconds),
                                   format_number(row.cost.flops / seconds / 1e9),
                                   share_of_peak(row.cost.flops / seconds, peaks.gemm_flops)};
    if (has_ceiling) {
      cells.push_back(row.loop_shares.empty()
                          ? share_of_peak(row.cost.flops / seconds, peaks.ceiling_flops)
                          : share_of_peak(Timing{row.loop_shares}.median(), 1));
    }
    cells.push_back(format_number(row.cost.bytes / seconds / 1e9));
    cells.push_back(share_of_peak(row.cost.bytes / seconds,
                                  peaks.read_bytes > 0 ? peaks.read_bytes : peaks.copy_bytes));
    cells.push_back(row.error ? fmt::format("{:.1e}", *row.error) : "-");
    table.add(cells);
  }
  fmt::print("{} {}, {}, variant {}, mode {}, autotune {}, fusion {}{}\n{}", flags.model.model,
             decode ? "decode step" : "prefill", flags.model.dtype, flags.model.variant,
             flags.model.mode, flags.model.autotune, flags.model.fusion,
             group.size() == 1 ? ""
                               : fmt::format(", {} split over {} ranks (peaks and bytes: of one)",
                                             flags.model.split, group.size()),
             table.text());
}

int bench_engine_verb(EngineFlags flags, const VerbGroup& group, bool decode) {
  if (flags.tokens.empty()) flags.tokens = {decode ? 256 : 1024};
  if (flags.repeats < 1) throw UsageError("bench: --repeats must be at least 1");
  for (const std::int64_t tokens : flags.tokens) {
    if (tokens < (decode ? 0 : 1)) throw UsageError("bench: --tokens must be positive");
  }
  for (const std::int64_t batch : flags.batches) {
    if (batch < 1) throw UsageError("bench: --batch must be at least 1");
  }
  if (decode && group.sequence() != nullptr) {
    throw UsageError("bench decode: --split sequence: one rank decodes, expected tensor");
  }
  LoadedModel loaded(flags.model, group.tensor());
  const ModelOptions& options = loaded.model.options();
  const Executor exec{options.backend, options.threads};
  MachinePeaks peaks = measure_peaks(exec, options.dtype);
  CostSizes sizes;
  sizes.weight_bytes_per_pass = loaded.model.weights().streamed_bytes();
  sizes.activation = static_cast<std::int64_t>(bytes_of(options.dtype));
  sizes.state = static_cast<std::int64_t>(bytes_of(options.state_dtype));
  std::vector<EngineRow> rows;
  for (const std::int64_t tokens : flags.tokens) {
    if (!decode) {
      rows.push_back(time_prefill(loaded, group, sizes, tokens, flags.repeats));
      continue;
    }
    for (const std::int64_t batch : flags.batches) {
      rows.push_back(time_decode(loaded, sizes, tokens, batch, flags.repeats));
    }
  }
  if (options.backend == Backend::cpu) {
    peaks = best_of(peaks, measure_peaks(exec, options.dtype));
  }
  std::string checked;
  if (flags.check && group.size() == 1) checked = check_rows(loaded, decode, rows);
  if (!group.first()) return exit_ok;
  if (!flags.json) {
    print_engine(flags, rows, peaks, group, decode);
    fmt::print("{}", checked);
    return exit_ok;
  }
  nlohmann::json list = nlohmann::json::array();
  for (const EngineRow& row : rows) {
    list.push_back({{decode ? "context" : "tokens", row.tokens},
                    {"batch", row.batch},
                    {"timing", to_json(row.timing)},
                    {"flops", row.cost.flops},
                    {"bytes", row.cost.bytes}});
    if (!row.loop_shares.empty()) list.back()["shares_of_loop"] = row.loop_shares;
    if (row.error) list.back()["relative_error"] = *row.error;
  }
  print_json(peaks, "rows", list);
  return exit_ok;
}

}  // namespace

void add_bench_engine(CLI::App& bench, VerbAction& action, bool decode) {
  auto flags = std::make_shared<EngineFlags>();
  CLI::App* verb =
      decode ? bench.add_subcommand("decode", "One new token of each of a batch of sequences")
             : bench.add_subcommand("prefill", "A whole prompt to its last logits");
  flags->model.add_to(*verb);
  flags->model.add_split_to(*verb);
  verb->add_option("--tokens", flags->tokens,
                   decode ? "tokens before the step; several make rows" : "prompt lengths")
      ->delimiter(',');
  if (decode) {
    flags->repeats = 20;
    verb->add_option("--batch", flags->batches, "sequences per step; several make rows")
        ->delimiter(',');
  }
  verb->add_option("--repeats", flags->repeats, "timed runs")->capture_default_str();
  verb->add_flag("--check,!--no-check", flags->check,
                 "compare the first layers with the reference backend; on by default");
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, decode, &action] {
    action = [flags, decode] {
      return run_in_group(
          flags->model, [&](VerbGroup& group) { return bench_engine_verb(*flags, group, decode); });
    };
  });
}

}  // namespace chunkstate
