// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "core/bench/operator_bench.hpp"
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "parallel/partition.hpp"
#include "parallel/rank_group.hpp"

namespace chunkstate {
namespace {

struct PlanFlags {
  std::string file;
  std::vector<std::string> overrides;
  std::string out;
  int ranks = 0;  // 0: those of one group
};

/// Rank 0 of a group that will be: models are sized for it, nothing is sent.
class PlannedGroup final : public RankGroup {
 public:
  explicit PlannedGroup(int size) : size_(size) {}
  int rank() const override { return 0; }
  int size() const override { return size_; }
  void post(std::span<const std::byte>, int) override { no_messages(); }
  void receive(std::span<std::byte>, int) override { no_messages(); }
  void flush() override { no_messages(); }
  void all_reduce_sum(std::span<float>) override { no_messages(); }

 private:
  [[noreturn]] static void no_messages() { throw std::logic_error("plan: runs nothing"); }
  int size_;
};

// Whole-model rates stay below the matrix product's: attention, norms and decode are in the way.
// The estimate says "about" for that reason.
double estimated_seconds(const ExperimentSetup& setup, const std::vector<bool>& open, int groups,
                         const MachinePeaks& peaks) {
  std::vector<double> costs;
  for (std::size_t i = 0; i < setup.plan.size(); ++i) {
    if (open[i]) costs.push_back(std::max(setup.plan[i].cost, 1.0));
  }
  double longest = 0;
  const auto parts = balance(costs, groups);
  for (const auto& part : parts) {
    double flops = 0;
    for (const std::int64_t i : part) flops += costs[static_cast<std::size_t>(i)];
    longest = std::max(longest, flops);
  }
  return longest * groups / peaks.gemm_flops;
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
    const bool shared = setup.spec.parallel.mode == "sequence";
    const int ranks = shared ? static_cast<int>(setup.spec.parallel.ranks_per_group) : 1;
    const std::int64_t piece = settings.prefill_tokens;
    const std::size_t requests =
        settings.scenario == "offline"
            ? model.slots_bytes(ssd, settings.scenario_batch, prefilled, piece, total)
            : model.request_bytes(ssd, settings.batch, prefilled, piece, total, ranks);
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
  const auto world = make_local_communicator();
  const ExperimentSpec spec = read_experiment(*world, flags.file, flags.overrides);
  PlannedGroup group(static_cast<int>(spec.parallel.ranks_per_group));
  const int ranks = flags.ranks > 0 ? flags.ranks : group.size();
  if (ranks % group.size() != 0) {
    throw UsageError(
        fmt::format("plan: --ranks: found {}, expected a multiple of {}, "
                    "parallel.ranks_per_group",
                    ranks, group.size()));
  }
  const int groups = ranks / group.size();
  EnginePool engines(std::max(1, resolve_threads(0) / ranks));
  const ExperimentSetup setup = set_up_experiment(*world, engines, spec);
  if (spec.parallel.mode == "tensor") engines.set_tensor_groups({&group, &group});
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
  fmt::print("\n{}, {} done already in {}", counted(setup.plan.size(), "item"),
             setup.plan.size() - static_cast<std::size_t>(left), directory);
  if (ranks > 1) {
    fmt::print(", about {} per {} on {} ranks", (left + groups - 1) / groups,
               group.size() > 1 ? fmt::format("group of {}", group.size()) : "rank", ranks);
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
             format_seconds(estimated_seconds(setup, open, groups, peaks)));
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
  verb->add_option("--ranks", flags->ranks,
                   "ranks to plan for; default: parallel.ranks_per_group, which is 1 in mode data")
      ->check(CLI::Range(1, 1 << 20));
  verb->callback([flags, &action] { action = [flags] { return plan_verb(*flags); }; });
}

}  // namespace chunkstate
