// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run_experiment.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/tensor_share.hpp"
#include "core/trace.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/doctor/rank_facts.hpp"
#include "experiments/record/directory_lock.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/record/merge.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/run/clock.hpp"
#include "experiments/run/data_work.hpp"
#include "experiments/run/evaluation_work.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/experiment_setup.hpp"
#include "experiments/run/finalise.hpp"
#include "experiments/run/group_work.hpp"
#include "experiments/run/item_probe.hpp"
#include "experiments/run/job.hpp"
#include "experiments/run/progress.hpp"
#include "experiments/run/rank_groups.hpp"
#include "experiments/run/rank_place.hpp"
#include "experiments/run/run_directory.hpp"
#include "experiments/run/run_trace.hpp"
#include "experiments/run/stop_signal.hpp"
#include "experiments/run/write_outcome.hpp"
#include "parallel/partition.hpp"

namespace chunkstate {
namespace {

/// One job's run of an experiment.
class Run {
 public:
  Run(Communicator& world, const RunOptions& options)
      : world_(world), options_(options), run_start_(monotonic_seconds()) {}

  int execute() {
    const int code = traced_part();
    if (trace_ && todo_.find_first_not_of('0') != std::string::npos) {
      const Shard& shard = options_.shard;
      trace_->write(directory_ + "/" + trace_file_name(shard.index, shard.count), setup_.spec.name,
                    run_provenance_.run_id);
    }
    return code;
  }

 private:
  int traced_part() {
    prepare();
    if (!options_.probe.empty()) {
      run_probed_item(options_.probe, setup_, *engines_, directory_, run_start_);
      return exit_ok;
    }
    const TraceRegion region("run");
    open_directory();
    show_ranks();
    int code = work();
    if (setup_.evaluation.any() && agree_after_wait(code) == exit_ok) code = evaluate();
    return finish(agree_after_wait(end_journal(code)));
  }

  // Waiting ranks sleep in the barrier; in a collective they would spin.
  int agree_after_wait(int mine) {
    {
      const TraceRegion waiting("wait for ranks");
      world_.barrier();
    }
    return agree_on_code(mine);
  }

  bool first() const { return world_.rank() == 0; }

  bool is_mine(std::size_t item) const {
    return shard_of_.empty() || shard_of_[item] == options_.shard.index;
  }

  std::vector<std::size_t> my_items() const {
    std::vector<std::size_t> items;
    for (std::size_t i = 0; i < setup_.plan.size(); ++i) {
      if (is_mine(i)) items.push_back(i);
    }
    return items;
  }

  Job job() { return {world_, setup_, *engines_, options_, directory_, todo_, run_start_}; }

  void prepare();
  void join_group();
  void open_directory();
  void show_ranks() const;
  std::vector<std::int64_t> items_of_this_host() const;
  int work();
  int evaluate();
  int end_journal(int code);
  int agree_on_code(int mine);
  int finish(int code);

  Communicator& world_;
  const RunOptions& options_;
  double run_start_;
  std::optional<EnginePool> engines_;
  ExperimentSetup setup_;
  std::optional<RankGroups> groups_;  // parallel.mode is not data
  RankProvenance provenance_;
  RunProvenance run_provenance_;  // rank 0
  std::string directory_;
  std::unique_ptr<DirectoryLock> lock_;  // rank 0
  std::vector<int> shard_of_;            // per item of the plan; empty without an array
  std::string todo_;  // per item: '1' to run, 'p' to probe first, '0' done or another shard's
  std::unique_ptr<JournalWriter> journal_;
  std::string end_reason_;           // of the journal; empty if it failed
  std::unique_ptr<RunTrace> trace_;  // profile.trace
};

void Run::prepare() {
  const ExperimentSpec spec = read_experiment(world_, options_.file, options_.overrides);
  const bool device = std::ranges::any_of(spec.points, [](const SweepPoint& point) {
    return point.settings.backend == "auto" || point.settings.backend == "cuda";
  });
  if (device) take_gpu(world_.local_rank());
  if (spec.parallel.mode != "data" && options_.probe.empty()) {
    groups_.emplace(world_, spec.parallel);
    install_stop_signals();
  }
  if (spec.trace && options_.probe.empty()) {
    trace_ = std::make_unique<RunTrace>(world_, device);
  }
  const TraceRegion region("set up");
  const BusyRank loading(world_);
  engines_.emplace(threads_per_rank(world_, spec.parallel.threads));
  setup_ = set_up_experiment(world_, *engines_, spec);
  if (!options_.shard.whole()) shard_of_ = shard_of_items(setup_.plan, options_.shard.count);
  if (groups_) join_group();
  directory_ = options_.out.empty() ? setup_.spec.output.dir : options_.out;

  run_provenance_ = collect_run_provenance(options_.argv, mpi_library_version());
  provenance_ = place_in_run(world_, setup_.spec, engines_->threads(), run_provenance_);
  world_.broadcast(run_provenance_.run_id, 0);
}

// Models are opened, every rank knows what it computes on.
void Run::join_group() {
  const std::string& mode = setup_.spec.parallel.mode;
  const bool device = std::ranges::any_of(setup_.spec.points, [](const SweepPoint& point) {
    return backend_from_name(point.settings.backend) == Backend::cuda;
  });
  agree(world_, [&] {
    if (device) groups_->connect_devices(world_, mode);
    if (mode != "tensor") return;
    for (const SweepPoint& point : setup_.spec.points) {
      tensor_share(engines_->files(point.settings).config, groups_->group().rank(),
                   groups_->group().size());
    }
    engines_->set_tensor_groups(groups_->engine_groups());
  });
}

void Run::open_directory() {
  const BusyRank opening(world_);
  RunStart start = identity_of(setup_);
  start.run_id = run_provenance_.run_id;
  start.provenance = provenance_;

  RunDirectory opened;  // rank 0
  agree(world_, [&] {
    if (!first()) return;
    opened = open_run_directory(directory_, setup_, start, shard_of_, options_);
    lock_ = std::move(opened.lock);
    todo_ = opened.todo;
    if (opened.lacks_manifest) {
      JournalContents none;
      write_results(directory_ + "/" + manifest_name,
                    gather_results(setup_, *engines_, none, run_provenance_));
    }
    if (!lock_->taken_over_from().empty() && !options_.quiet) {
      fmt::print(stderr, "{}: taking over from {}\n", directory_, lock_->taken_over_from());
    }
  });
  world_.broadcast(todo_, 0);
  std::string to_evaluate = opened.unevaluated ? "1" : "0";
  world_.broadcast(to_evaluate, 0);
  agree(world_, [&] {
    if (todo_.find_first_not_of('0') == std::string::npos && to_evaluate == "0") return;
    journal_ = std::make_unique<JournalWriter>(directory_, start,
                                               durability_named(setup_.spec.output.durability));
  });
}

void Run::show_ranks() const {
  const std::vector<std::string> all = world_.all_gather(to_json(provenance_));
  if (!first() || options_.quiet) return;
  const auto open = std::count_if(todo_.begin(), todo_.end(), [](char c) { return c != '0'; });
  fmt::print("{}: {} x {} x {} = {}, {} to run{}\n", setup_.spec.name,
             counted(setup_.spec.points.size(), "point"),
             counted(setup_.prompts.prompts.size(), "prompt"),
             counted(setup_.spec.measure.repeats, "repeat"), counted(todo_.size(), "item"), open,
             options_.shard.whole() ? "" : " in shard " + to_string(options_.shard));
  std::vector<RankProvenance> ranks;
  for (const std::string& json : all) ranks.push_back(rank_provenance_from_json(json));
  fmt::print("{}\n", binding_table(ranks));
  std::fflush(stdout);
}

// Between hosts the work is dealt by cost before the run: a claim must not wait until a rank of
// another host enters MPI. Within a host ranks draw the next item from a shared counter.
std::vector<std::int64_t> Run::items_of_this_host() const {
  std::vector<std::int64_t> open;
  std::vector<double> costs;
  for (std::size_t i = 0; i < todo_.size(); ++i) {
    if (todo_[i] == '0') continue;
    open.push_back(static_cast<std::int64_t>(i));
    costs.push_back(std::max(setup_.plan[i].cost, 1.0));
  }
  std::vector<std::int64_t> mine;
  const int hosts = groups_ ? groups_->claiming_hosts() : world_.hosts();
  const int host = groups_ ? groups_->claiming_host() : world_.host();
  const auto parts = balance(costs, hosts);
  for (const std::int64_t index : parts[static_cast<std::size_t>(host)]) {
    mine.push_back(open[static_cast<std::size_t>(index)]);
  }
  std::sort(mine.begin(), mine.end());  // the plan's order: interleaved or blocked, longest first
  return mine;
}

int Run::work() {
  const std::vector<std::int64_t> items = items_of_this_host();
  const auto counter = make_shared_counter(world_);
  install_stop_signals();
  Progress progress(static_cast<std::int64_t>(items.size()), first() && !options_.quiet);
  const int code = groups_
                       ? GroupWork(job(), *groups_, journal_.get(), progress).run(items, *counter)
                       : DataWork(job(), journal_.get(), progress).run(items, *counter);
  end_reason_ = code == exit_ok              ? "done"
                : code == exit_stopped_early ? "signal"
                : code == exit_items_failed  ? "max_failures"
                                             : "";
  return code;
}

// Evaluations are work of a run like its items: claimed, journaled, resumed.
int Run::evaluate() {
  const BusyRank evaluating(world_);  // the others wait, however long it takes
  engines_->set_tensor_groups({});    // each rank takes outputs of its own
  const int code = evaluate_outputs(job(), my_items(), journal_.get());
  if (code != exit_ok) end_reason_ = code == exit_stopped_early ? "signal" : "";
  return code;
}

// Without an end line the journal is that of a process that died.
int Run::end_journal(int code) {
  if (!journal_ || end_reason_.empty()) return code;
  const BusyRank writing(world_);
  try {
    journal_->end(end_reason_);
    return code;
  } catch (...) {
    return report_failure(world_.rank());
  }
}

// The most serious of what the ranks ended with.
int Run::agree_on_code(int mine) {
  int worst = exit_ok;
  for (const std::string& code : world_.all_gather(std::to_string(mine))) {
    const int value = std::stoi(code);
    if (value == exit_error || worst == exit_ok) worst = value == exit_ok ? worst : value;
  }
  return worst;
}

int Run::finish(int code) {
  if (code == exit_error) return code;
  agree(world_, [&] {
    if (!first()) return;
    const BusyRank writing(world_);
    const TraceRegion region("results");
    code = write_outcome(job(), my_items(), run_provenance_, code);
  });
  std::string agreed = std::to_string(code);
  world_.broadcast(agreed, 0);
  return std::stoi(agreed);
}

}  // namespace

int run_experiment(Communicator& world, const RunOptions& options) {
  return Run(world, options).execute();
}

}  // namespace chunkstate
