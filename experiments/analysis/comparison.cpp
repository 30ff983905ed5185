// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/comparison.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "core/errors.hpp"
#include "experiments/analysis/draw.hpp"
#include "experiments/analysis/summary.hpp"

namespace chunkstate {
namespace {

constexpr int resamples = 1000;

// The values of one prompt in both runs.
struct Pair {
  std::vector<double> a;
  std::vector<double> b;
};

double quantile_of(Statistic statistic) {
  return statistic == Statistic::median ? 0.5 : statistic == Statistic::p90 ? 0.9 : 0.99;
}

std::int64_t fewest_for(Statistic statistic) {
  if (statistic == Statistic::p90) return fewest_for_p90;
  return statistic == Statistic::p99 ? fewest_for_p99 : 1;
}

// Reorders `values`.
double statistic_of(std::vector<double>& values, Statistic statistic) {
  if (statistic == Statistic::mean) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }
  const double place = quantile_of(statistic) * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(place);
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double low = values[static_cast<std::size_t>(below)];
  if (below + 1 == static_cast<std::ptrdiff_t>(values.size())) return low;
  const double high = *std::min_element(values.begin() + below + 1, values.end());
  return low + (place - static_cast<double>(below)) * (high - low);
}

void add_drawn(const std::vector<double>& from, Draws& draw, std::vector<double>& to) {
  for (std::size_t i = 0; i < from.size(); ++i) to.push_back(from[draw(from.size())]);
}

std::pair<double, double> bootstrap_interval(const std::vector<Pair>& pairs, Statistic statistic,
                                             std::uint64_t seed) {
  Draws draw(seed);
  std::vector<double> changes;
  std::vector<double> a;
  std::vector<double> b;
  for (int resample = 0; resample < resamples; ++resample) {
    a.clear();
    b.clear();
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const Pair& pair = pairs[draw(pairs.size())];
      add_drawn(pair.a, draw, a);
      add_drawn(pair.b, draw, b);
    }
    changes.push_back(statistic_of(b, statistic) / statistic_of(a, statistic) - 1);
  }
  std::sort(changes.begin(), changes.end());
  return {quantile(changes, 0.025), quantile(changes, 0.975)};
}

[[noreturn]] void bad_condition(const std::string& text, const std::string& reason) {
  throw UsageError("--fail-if '" + text + "': " + reason +
                   ", expected METRIC[_p50|_p90|_p99|_mean] > or < NUMBER%, as 'tpot_p50 > +3%'");
}

std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

Change compare_samples(std::span<const Sample> a, std::span<const Sample> b, Statistic statistic,
                       std::uint64_t seed) {
  std::map<std::string, Pair> by_prompt;
  for (const Sample& sample : a) by_prompt[sample.prompt].a.push_back(sample.value);
  for (const Sample& sample : b) by_prompt[sample.prompt].b.push_back(sample.value);

  Change change;
  std::vector<Pair> pairs;
  std::vector<double> all_a;
  std::vector<double> all_b;
  bool equal = true;
  for (auto& [prompt, pair] : by_prompt) {
    if (pair.a.empty() || pair.b.empty()) {
      ++change.unpaired;
      continue;
    }
    equal = equal && pair.a == pair.b;
    all_a.insert(all_a.end(), pair.a.begin(), pair.a.end());
    all_b.insert(all_b.end(), pair.b.begin(), pair.b.end());
    pairs.push_back(std::move(pair));
  }
  change.prompts = static_cast<std::int64_t>(pairs.size());
  change.n_a = static_cast<std::int64_t>(all_a.size());
  change.n_b = static_cast<std::int64_t>(all_b.size());
  if (pairs.empty() || std::min(change.n_a, change.n_b) < fewest_for(statistic)) return change;

  change.a = statistic_of(all_a, statistic);
  change.b = statistic_of(all_b, statistic);
  if (equal) {
    change.relative = change.ci_low = change.ci_high = 0;
    return change;
  }
  change.relative = change.b / change.a - 1;
  if (std::max(change.n_a, change.n_b) > 1) {
    std::tie(change.ci_low, change.ci_high) = bootstrap_interval(pairs, statistic, seed);
  }
  return change;
}

Verdict verdict_of(const Change& change, double margin) {
  if (std::isnan(change.ci_low) || std::isnan(change.ci_high)) return Verdict::ambiguous;
  if (change.ci_low > 0 && change.relative > margin) return Verdict::higher;
  if (change.ci_high < 0 && change.relative < -margin) return Verdict::lower;
  if (change.ci_low >= -margin && change.ci_high <= margin) return Verdict::same;
  return Verdict::ambiguous;
}

bool FailCondition::holds(const Change& change) const {
  return above ? change.relative > bound && change.ci_low > 0
               : change.relative < bound && change.ci_high < 0;
}

FailCondition parse_fail_condition(const std::string& text) {
  FailCondition condition;
  condition.text = text;
  const std::size_t sign = text.find_first_of("<>");
  if (sign == std::string::npos) bad_condition(text, "found no '<' or '>'");
  condition.above = text[sign] == '>';
  condition.metric = trimmed(text.substr(0, sign));
  constexpr std::pair<const char*, Statistic> suffixes[] = {{"_p50", Statistic::median},
                                                            {"_p90", Statistic::p90},
                                                            {"_p99", Statistic::p99},
                                                            {"_mean", Statistic::mean}};
  for (const auto& [suffix, statistic] : suffixes) {
    if (!condition.metric.ends_with(suffix)) continue;
    condition.statistic = statistic;
    condition.metric.resize(condition.metric.size() - std::string(suffix).size());
    break;
  }
  if (condition.metric.empty()) bad_condition(text, "found no metric");

  std::string number = trimmed(text.substr(sign + 1));
  if (!number.ends_with('%')) bad_condition(text, "found no '%' at the end");
  number = trimmed(number.substr(0, number.size() - 1));
  if (number.starts_with('+')) number.erase(0, 1);
  double percent = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), percent);
  if (error != std::errc{} || end != number.data() + number.size() || !std::isfinite(percent)) {
    bad_condition(text, "found '" + number + "' as the number");
  }
  condition.bound = percent / 100;
  return condition;
}

}  // namespace chunkstate
