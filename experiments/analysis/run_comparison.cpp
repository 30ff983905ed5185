// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/run_comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "core/errors.hpp"
#include "experiments/record/journal.hpp"

namespace chunkstate {
namespace {

// Points of both runs, as pairs of indices.
std::vector<std::pair<std::int64_t, std::int64_t>> matched_points(const StoredResults& a,
                                                                  const StoredResults& b) {
  std::map<std::string, std::int64_t> in_b;
  for (const SweepPoint& point : b.spec.points) in_b[point_name(point)] = point.index;
  std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
  for (const SweepPoint& point : a.spec.points) {
    const auto found = in_b.find(point_name(point));
    if (found != in_b.end()) pairs.emplace_back(point.index, found->second);
  }
  return pairs;
}

void list_unmatched(const StoredResults& run, const StoredResults& other, const char* name,
                    std::vector<std::string>& lines) {
  std::set<std::string> there;
  for (const SweepPoint& point : other.spec.points) there.insert(point_name(point));
  for (const SweepPoint& point : run.spec.points) {
    if (there.count(point_name(point)) == 0) {
      lines.push_back(fmt::format("{}: only in {}", point_name(point), name));
    }
  }
}

// All values that the ranks of a run have, in order: "0-3, 4-7".
std::string values_of(const StoredResults& run,
                      const std::function<std::string(const RankProvenance&)>& field) {
  std::set<std::string> values;
  for (const RankProvenance& process : run.processes) values.insert(field(process));
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "" : ", ") + value;
  return text;
}

void list_environment(const StoredResults& a, const StoredResults& b,
                      std::vector<std::string>& lines) {
  using Rank = RankProvenance;
  const std::pair<const char*, std::function<std::string(const Rank&)>> fields[] = {
      {"cpu_model", [](const Rank& r) { return r.cpu_model; }},
      {"processors", [](const Rank& r) { return std::to_string(r.processors); }},
      {"governor", [](const Rank& r) { return r.governor; }},
      {"gpu_name", [](const Rank& r) { return r.gpu_name; }},
      {"driver", [](const Rank& r) { return r.driver; }},
      {"backend", [](const Rank& r) { return r.backend; }},
      {"threads", [](const Rank& r) { return std::to_string(r.threads); }},
      {"ranks", [](const Rank& r) { return std::to_string(r.ranks); }},
      {"os", [](const Rank& r) { return r.os; }},
      {"kernel", [](const Rank& r) { return r.kernel; }},
  };
  for (const auto& [name, field] : fields) {
    const std::string there = values_of(a, field);
    const std::string here = values_of(b, field);
    if (there != here) lines.push_back(fmt::format("{}: '{}' in A, '{}' in B", name, there, here));
  }
}

void count_outputs(const StoredResults& a, const StoredResults& b,
                   const std::vector<std::pair<std::int64_t, std::int64_t>>& points,
                   RunComparison& result) {
  using Key = std::tuple<std::int64_t, std::string, std::int64_t>;
  const auto prompt_id = [](const StoredResults& run, const RequestRecord& request) {
    return run.prompts.prompts[static_cast<std::size_t>(request.prompt)].id;
  };
  std::map<std::int64_t, std::int64_t> point_in_a;
  for (const auto& [in_a, in_b] : points) point_in_a[in_b] = in_a;
  std::map<Key, const RequestRecord*> of_a;
  for (const RequestRecord& request : a.requests) {
    if (request.status != RequestStatus::done) continue;
    of_a[{request.point, prompt_id(a, request), request.repeat}] = &request;
  }
  for (const RequestRecord& request : b.requests) {
    const auto point = point_in_a.find(request.point);
    if (point == point_in_a.end() || request.status != RequestStatus::done) continue;
    const auto found = of_a.find({point->second, prompt_id(b, request), request.repeat});
    if (found == of_a.end()) continue;
    ++(found->second->token_ids == request.token_ids ? result.same_outputs : result.other_outputs);
  }
}

// Lower is better for times; for rates higher is.
std::string verdict_word(const Metric& metric, Verdict verdict) {
  const std::string units = metric.units;
  const bool time = units == "s";
  const bool rate = units.ends_with("/s");
  switch (verdict) {
    case Verdict::same:
      return "SAME";
    case Verdict::ambiguous:
      return "AMBIGUOUS";
    case Verdict::lower:
      return time ? "FASTER" : rate ? "SLOWER" : "LESS";
    case Verdict::higher:
      return time ? "SLOWER" : rate ? "FASTER" : "MORE";
  }
  return {};
}

}  // namespace

std::span<const RequestRecord> requests_of(const StoredResults& run, std::int64_t point) {
  return std::ranges::equal_range(run.requests, point, {}, &RequestRecord::point);
}

std::vector<Sample> samples_of(const StoredResults& run, std::int64_t point, const Metric& metric) {
  std::vector<Sample> samples;
  for (const RequestRecord& request : requests_of(run, point)) {
    if (request.status != RequestStatus::done) continue;
    const double value = metric.value(request);
    if (std::isnan(value)) continue;
    samples.push_back({run.prompts.prompts[static_cast<std::size_t>(request.prompt)].id, value});
  }
  return samples;
}

std::string plain_value(const AxisValue& axis) {
  const std::string& value = axis.value;
  const bool quoted = value.size() >= 2 && value.front() == '"' && value.back() == '"';
  return quoted ? value.substr(1, value.size() - 2) : value;
}

std::string point_name(const SweepPoint& point) {
  std::string name;
  for (const AxisValue& axis : point.axes) {
    name += fmt::format("{}{}={}", name.empty() ? "" : ", ", axis.path, plain_value(axis));
  }
  return name.empty() ? "all" : name;
}

RunComparison compare_runs(const StoredResults& a, const StoredResults& b,
                           const CompareOptions& options) {
  RunComparison result;
  result.differences = yaml_differences(a.spec.yaml_resolved, b.spec.yaml_resolved);
  list_environment(a, b, result.differences);
  list_unmatched(a, b, "A", result.unmatched);
  list_unmatched(b, a, "B", result.unmatched);
  const auto points = matched_points(a, b);
  count_outputs(a, b, points, result);
  for (const auto& [in_a, in_b] : points) {
    for (const std::string& name : options.metrics) {
      const Metric& metric = metric_named(name);
      PointChange change;
      change.point = point_name(a.spec.points[static_cast<std::size_t>(in_a)]);
      change.metric = name;
      change.change = compare_samples(samples_of(a, in_a, metric), samples_of(b, in_b, metric),
                                      change.statistic, static_cast<std::uint64_t>(in_a));
      change.verdict = verdict_word(metric, verdict_of(change.change, options.margin));
      result.changes.push_back(std::move(change));
    }
  }
  return result;
}

std::vector<std::string> failures(const StoredResults& a, const StoredResults& b,
                                  const CompareOptions& options) {
  std::vector<std::string> lines;
  for (const FailCondition& condition : options.fail_if) {
    const Metric& metric = metric_named(condition.metric);
    bool judged = false;
    for (const auto& [in_a, in_b] : matched_points(a, b)) {
      const std::vector<Sample> before = samples_of(a, in_a, metric);
      const std::vector<Sample> after = samples_of(b, in_b, metric);
      if (before.empty()) continue;
      judged = true;
      const Change change =
          compare_samples(before, after, condition.statistic, static_cast<std::uint64_t>(in_a));
      const std::string point = point_name(a.spec.points[static_cast<std::size_t>(in_a)]);
      if (std::isnan(change.relative)) {
        lines.push_back(fmt::format("{}: {}: cannot be judged from {} values in A and {} in B",
                                    condition.text, point, before.size(), after.size()));
      } else if (condition.holds(change)) {
        lines.push_back(fmt::format("{}: {}: {:+.1f} % [{:+.1f}, {:+.1f}]", condition.text, point,
                                    100 * change.relative, 100 * change.ci_low,
                                    100 * change.ci_high));
      }
    }
    if (!judged) {
      lines.push_back(condition.text + ": A has no value of it at any point that is in both");
    }
  }
  return lines;
}

}  // namespace chunkstate
