// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/scaling.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/errors.hpp"
#include "experiments/analysis/draw.hpp"
#include "experiments/analysis/summary.hpp"
#include "experiments/record/journal.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/record/trace_reader.hpp"

namespace chunkstate {
namespace {

constexpr std::size_t resamples = 1000;
constexpr double same_work = 1e-9;

double& at(std::array<double, run_times>& times, RunTime kind) {
  return times[static_cast<std::size_t>(kind)];
}

// Of one start of N ranks there are N processes.
void check_one_start(const std::string& file, const StoredResults& results) {
  const auto processes = static_cast<std::int64_t>(results.processes.size());
  std::int64_t ranks = processes;
  for (const RankProvenance& process : results.processes) ranks = process.ranks;
  if (processes == ranks && processes > 0) return;
  throw UsageError(
      fmt::format("{}: written by {} processes that were of {} ranks: scaling needs a run that was "
                  "started once",
                  file, processes, ranks));
}

void check_complete(const std::string& file, const StoredResults& results) {
  const std::size_t expected = results.spec.points.size() * results.prompts.prompts.size() *
                               static_cast<std::size_t>(results.spec.measure.repeats);
  const auto done =
      std::count_if(results.requests.begin(), results.requests.end(),
                    [](const RequestRecord& r) { return r.status == RequestStatus::done; });
  if (static_cast<std::size_t>(done) == expected) return;
  throw UsageError(
      fmt::format("{}: {} of {} requests are done: scaling needs all", file, done, expected));
}

// The end of a request, and of those before it on its rank, where the recorded times begin.
double end_of(const RequestRecord& request) { return request.t_start + request.e2e; }

// The times of one lane until its last token.
std::array<double, run_times> lane_times(std::vector<const RequestRecord*> requests) {
  std::sort(requests.begin(), requests.end(),
            [](const RequestRecord* a, const RequestRecord* b) { return a->t_start < b->t_start; });
  const auto warm_up = [](const RequestRecord& request) {
    return std::isnan(request.warmup_seconds) ? 0.0 : request.warmup_seconds;
  };
  std::array<double, run_times> times{};
  CoveredTime covered;  // the requests of a batch overlap
  for (const RequestRecord* request : requests) {
    covered.add(request->t_start, request->e2e);
    at(times, RunTime::warm_up) += warm_up(*request);
  }
  at(times, RunTime::requests) = covered.seconds();
  const double end = covered.end();
  at(times, RunTime::start_up) = requests.front()->t_start - warm_up(*requests.front());
  at(times, RunTime::between) = end - std::accumulate(times.begin(), times.end(), 0.0);
  return times;
}

// In parallel.mode sequence only the last rank of each group records. Groups are neighbours of one
// size, so it divides rank + 1 of all of them.
std::int64_t ranks_per_lane(const std::map<std::int64_t, std::vector<const RequestRecord*>>& lanes,
                            const StoredResults& results, std::int64_t ranks) {
  if (results.spec.yaml_resolved.find("mode: sequence") == std::string::npos) return 1;
  std::int64_t size = ranks;
  for (const auto& [rank, requests] : lanes) size = std::gcd(size, rank + 1);
  return size;
}

TracedTimes traced_times(const std::filesystem::path& file, const ScalingRun& run,
                         const std::string& experiment) {
  TracedTimes times;
  if (!std::filesystem::is_regular_file(file)) return times;
  const StoredTrace trace = read_trace(file);
  if (trace.experiment != experiment || trace.ranks != run.ranks) return times;
  const auto per_rank = [&](const std::set<std::string>& names) {
    double total = 0;
    for (const auto& [rank, spans] : trace.spans) total += time_within(spans, names);
    return 1e-6 * total / static_cast<double>(run.ranks);
  };
  times.load = per_rank({"open model", "share weights", "load model"});
  times.journal = per_rank({"journal"});
  times.communication = per_rank({"receive", "flush", "wait for group"});
  times.results = per_rank({"results"});
  return times;
}

double total_seconds(const ScalingRun& run) {
  double total = 0;
  for (const ScalingRun::Item& item : run.items) total += item.seconds;
  return total;
}

double total_work(const ScalingRun& run) {
  double total = 0;
  for (const ScalingRun::Item& item : run.items) total += item.work;
  return total;
}

/// A run whose items were drawn with replacement.
struct Drawn {
  double seconds;
  double work;
};
Drawn drawn(const ScalingRun& run, const std::vector<std::size_t>& items) {
  double seconds = -total_seconds(run);
  double work = 0;
  for (const std::size_t item : items) {
    seconds += run.items[item].seconds;
    work += run.items[item].work;
  }
  return {run.seconds + seconds / static_cast<double>(run.lanes), work};
}

bool same_items(const ScalingRun& a, const ScalingRun& b) {
  return std::ranges::equal(a.items, b.items, {}, &ScalingRun::Item::key, &ScalingRun::Item::key);
}

void add_interval(const ScalingRun& base, ScalingRow& row) {
  const ScalingRun& run = *row.run;
  if (base.items.size() < 2 || run.items.size() < 2) return;
  Draws draw(static_cast<std::uint64_t>(run.ranks));
  const bool paired = same_items(base, run);
  const double ranks = static_cast<double>(base.ranks) / static_cast<double>(run.ranks);
  std::vector<double> efficiencies;
  std::vector<std::size_t> of_base(base.items.size());
  std::vector<std::size_t> of_run(run.items.size());
  for (std::size_t sample = 0; sample < resamples; ++sample) {
    for (std::size_t& item : of_base) item = draw(base.items.size());
    for (std::size_t& item : of_run) item = draw(run.items.size());
    const Drawn first = drawn(base, of_base);
    const Drawn second = drawn(run, paired ? of_base : of_run);
    efficiencies.push_back(ranks * (second.work / first.work) * first.seconds / second.seconds);
  }
  std::sort(efficiencies.begin(), efficiencies.end());
  row.ci_low = quantile(efficiencies, 0.025);
  row.ci_high = quantile(efficiencies, 0.975);
}

}  // namespace

ScalingRun scaling_run(const std::string& file, const StoredResults& results,
                       const std::filesystem::path& trace) {
  check_one_start(file, results);
  check_complete(file, results);
  ScalingRun run;
  run.file = file;
  run.ranks = static_cast<std::int64_t>(results.processes.size());
  run.threads = results.processes.front().threads;
  for (const RankProvenance& process : results.processes) {
    if (process.threads != run.threads) run.threads = -1;
  }
  std::map<std::int64_t, std::vector<const RequestRecord*>> lanes;
  for (const RequestRecord& request : results.requests) {
    lanes[request.rank].push_back(&request);
    run.seconds = std::max(run.seconds, end_of(request));
    const Prompt& prompt = results.prompts.prompts[static_cast<std::size_t>(request.prompt)];
    run.items.push_back({fmt::format("{} {} {}", request.point, prompt.id, request.repeat),
                         request.e2e, request.flops});
  }
  std::sort(run.items.begin(), run.items.end(),
            [](const auto& a, const auto& b) { return a.key < b.key; });
  const std::int64_t size = ranks_per_lane(lanes, results, run.ranks);
  run.lanes = run.ranks / size;
  for (const auto& [rank, requests] : lanes) {
    const auto times = lane_times(requests);
    for (std::size_t i = 0; i < run_times; ++i) {
      run.rank_seconds[i] += static_cast<double>(size) * times[i];
    }
  }
  // What no rank spent otherwise: also the whole time of ranks that found nothing to do.
  at(run.rank_seconds, RunTime::idle) =
      static_cast<double>(run.ranks) * run.seconds -
      std::accumulate(run.rank_seconds.begin(), run.rank_seconds.end(), 0.0);
  run.traced = traced_times(trace, run, results.spec.name);
  return run;
}

std::vector<ScalingRow> scaling_rows(const std::vector<ScalingRun>& runs) {
  std::vector<const ScalingRun*> sorted;
  for (const ScalingRun& run : runs) sorted.push_back(&run);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const ScalingRun* a, const ScalingRun* b) { return a->ranks < b->ranks; });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i]->ranks != sorted[i - 1]->ranks) continue;
    throw UsageError(fmt::format("{} and {} are both of {} ranks", sorted[i - 1]->file,
                                 sorted[i]->file, sorted[i]->ranks));
  }
  const ScalingRun& base = *sorted.front();
  std::vector<ScalingRow> rows;
  for (const ScalingRun* run : sorted) {
    ScalingRow row;
    row.run = run;
    const double rank_seconds = static_cast<double>(run->ranks) * run->seconds;
    row.work = total_work(*run) / total_work(base);
    row.speedup = row.work * base.seconds / run->seconds;
    row.efficiency =
        row.speedup * static_cast<double>(base.ranks) / static_cast<double>(run->ranks);
    for (std::size_t i = 0; i < run_times; ++i) {
      row.lost[i] = (run->rank_seconds[i] - row.work * base.rank_seconds[i]) / rank_seconds;
    }
    if (run != &base) add_interval(base, row);
    rows.push_back(row);
  }
  return rows;
}

std::string scaling_kind(const std::vector<ScalingRow>& rows) {
  const auto all = [&](const auto& expected) {
    return std::ranges::all_of(rows, [&](const ScalingRow& row) {
      return std::abs(row.work / expected(row) - 1) < same_work;
    });
  };
  const double base = static_cast<double>(rows.front().run->ranks);
  if (all([](const ScalingRow&) { return 1.0; })) return "strong";
  const auto by_ranks = [&](const ScalingRow& row) {
    return static_cast<double>(row.run->ranks) / base;
  };
  return all(by_ranks) ? "weak" : "mixed";
}

void check_comparable(const std::string& file, const StoredResults& first,
                      const std::string& other_file, const StoredResults& other) {
  std::vector<std::string> wrong;
  bool other_prompts = false;
  for (const std::string& line :
       yaml_differences(first.spec.yaml_resolved, other.spec.yaml_resolved)) {
    if (line.starts_with("prompts.synthetic.count:") || line.starts_with("prompts.limit:")) {
      other_prompts = true;
    } else if (!line.starts_with("measure.repeats:")) {
      wrong.push_back(line);
    }
  }
  if (!other_prompts && first.prompts.digest != other.prompts.digest) {
    wrong.emplace_back("the prompts");
  }
  const auto digests = [](const StoredResults& results) {
    std::vector<std::string> all;
    for (const ModelFacts& model : results.models) all.push_back(model.digest);
    return all;
  };
  if (digests(first) != digests(other)) wrong.emplace_back("the model's files");
  if (wrong.empty()) return;
  throw OtherExperimentError(
      fmt::format("{} is of another experiment than {}: {}", other_file, file, wrong.front()));
}

}  // namespace chunkstate
