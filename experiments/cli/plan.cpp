// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "core/bench/operator_bench.hpp"
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "parallel/partition.hpp"

namespace chunkstate {
namespace {

struct PlanFlags {
  std::string file;
  std::vector<std::string> overrides;
  std::string out;
  int ranks = 1;
};

// Whole-model rates stay below the matrix product's: attention, norms and decode are in the way.
// The estimate says "about" for that reason.
double estimated_seconds(const ExperimentSetup& setup, const std::vector<bool>& open, int ranks,
                         const MachinePeaks& peaks) {
  std::vector<double> costs;
  for (std::size_t i = 0; i < setup.plan.size(); ++i) {
    if (open[i]) costs.push_back(std::max(setup.plan[i].cost, 1.0));
  }
  double longest = 0;
  const auto parts = balance(costs, ranks);
  for (const auto& part : parts) {
    double flops = 0;
    for (const std::int64_t i : part) flops += costs[static_cast<std::size_t>(i)];
    longest = std::max(longest, flops);
  }
  return longest * ranks / peaks.gemm_flops;
}

// Weights count once per host, everything else once per rank.
struct Memory {
  double shared = 0;
  double per_rank = 0;
  bool on_device = false;
};

Memory estimated_memory(const ExperimentSetup& setup, EnginePool& engines) {
  Memory memory;
  for (const SweepPoint& point : setup.spec.points) {
    const OpenModel& files = engines.files(point.settings);
    Model& model = engines.model(point.settings);
    const SsdSettings ssd = ssd_settings(point.settings.variant, point.settings.chunk_size,
                                         point.settings.lookback, model.config());
    std::int64_t longest = 0;
    for (const Prompt& prompt : setup.prompts.prompts) {
      const std::int64_t tokens =
          !prompt.tokens.empty() ? static_cast<std::int64_t>(prompt.tokens.size())
                                 : static_cast<std::int64_t>(
                                       files.encode_prompt(prompt.text, prompt.token_len).size());
      longest = std::max(longest, tokens);
    }
    const std::int64_t total = longest + point.settings.max_new_tokens;
    const std::int64_t prefilled = point.settings.use_cache ? longest : total;
    const PointSettings& settings = point.settings;
    const std::size_t requests =
        settings.scenario == "offline"
            ? model.slots_bytes(ssd, settings.scenario_batch, prefilled, settings.prefill_tokens,
                                total)
            : model.request_bytes(ssd, settings.batch, prefilled, settings.prefill_tokens, total);
    const auto rank_bytes = static_cast<double>(model.weights().owned_bytes() + requests);
    memory.on_device = memory.on_device || model.options().backend == Backend::cuda;
    memory.per_rank = std::max(memory.per_rank, rank_bytes);
    memory.shared = std::max(memory.shared, static_cast<double>(files.checkpoint->bytes()));
  }
  return memory;
}

std::vector<bool> open_items(const ExperimentSetup& setup, const std::string& directory) {
  const JournalContents journals = read_journals(directory);
  check_same_experiment(directory, journals, identity_of(setup));
  std::vector<bool> open;
  for (const WorkItem& item : setup.plan) open.push_back(journals.find(item.id) == nullptr);
  return open;
}

int plan_verb(const PlanFlags& flags) {
  if (flags.ranks < 1) throw UsageError("plan: --ranks must be at least 1");
  const auto world = make_local_communicator();
  const int threads = std::max(1, resolve_threads(0) / flags.ranks);
  EnginePool engines(threads);
  const ExperimentSetup setup =
      set_up_experiment(*world, engines, read_experiment(*world, flags.file, flags.overrides));
  const std::string directory = flags.out.empty() ? setup.spec.output.dir : flags.out;
  const std::vector<bool> open = open_items(setup, directory);

  Table table({"point", "items", "to run", "share of work"});
  double total_cost = 0;
  for (const WorkItem& item : setup.plan) total_cost += item.cost;
  for (const SweepPoint& point : setup.spec.points) {
    std::int64_t items = 0, to_run = 0;
    double cost = 0;
    for (std::size_t i = 0; i < setup.plan.size(); ++i) {
      if (setup.plan[i].point != point.index) continue;
      ++items;
      to_run += open[i] ? 1 : 0;
      cost += setup.plan[i].cost;
    }
    table.add({fmt::format("{}  {}", point.index, point_name(point)), std::to_string(items),
               std::to_string(to_run), fmt::format("{:.1f} %", 100 * cost / total_cost)});
  }
  fmt::print("{}", table.text());

  const auto left = std::count(open.begin(), open.end(), true);
  const Memory memory = estimated_memory(setup, engines);
  fmt::print("\n{} items, {} done already in {}", setup.plan.size(),
             setup.plan.size() - static_cast<std::size_t>(left), directory);
  if (flags.ranks > 1) {
    fmt::print(", about {} per rank on {} ranks", (left + flags.ranks - 1) / flags.ranks,
               flags.ranks);
  }
  fmt::print("\n");
  if (memory.on_device) {
    const double others =
        static_cast<double>(device_memory_in_use()) - static_cast<double>(engines.held_bytes());
    fmt::print(
        "memory: {} of device memory per rank, weights included; the driver, libraries and "
        "other processes hold {} now\n",
        format_bytes(memory.per_rank), format_bytes(std::max(others, 0.0)));
  } else {
    fmt::print("memory: {} of weights once per host, {} more per rank\n",
               format_bytes(memory.shared), format_bytes(memory.per_rank));
  }
  if (left == 0) return exit_ok;
  std::fflush(stdout);  // the rate takes seconds to measure
  const PointSettings& base = setup.spec.points[0].settings;
  const MachinePeaks peaks = measure_peaks({backend_from_name(base.backend), resolve_threads(0)},
                                           dtype_from_name(base.model_dtype));
  fmt::print("time: at least {} at this machine's matrix rate\n",
             format_seconds(estimated_seconds(setup, open, flags.ranks, peaks)));
  return exit_ok;
}

}  // namespace

void add_plan(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* verb = app.add_subcommand("plan",
                                      "What `run` would do: points, items per rank, memory, least "
                                      "time, what is done; runs nothing");
  verb->add_option("experiment", flags->file, "experiment file (YAML)")->required();
  verb->add_option("-s,--set", flags->overrides, "key.path=value, in place of the file's value");
  verb->add_option("--out", flags->out, "results directory, in place of output.dir");
  verb->add_option("--ranks", flags->ranks, "ranks to plan for")->capture_default_str();
  verb->callback([flags, &action] { action = [flags] { return plan_verb(*flags); }; });
}

}  // namespace chunkstate
