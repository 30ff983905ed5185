// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/summary.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <stdexcept>

namespace chunkstate {
namespace {

// 1000 resamples put the ends of a 95 % interval at the 25th value from each side; large samples,
// whose interval is narrow anyway, get fewer, so that a million values take seconds.
constexpr std::size_t most_resamples = 1000;
constexpr std::size_t fewest_resamples = 100;
constexpr std::size_t draws_in_all = 20'000'000;

/// A number in [0, count). std::uniform_int_distribution differs between standard libraries.
std::size_t draw(std::mt19937_64& random, std::size_t count) {
  return static_cast<std::size_t>((static_cast<unsigned __int128>(random()) * count) >> 64);
}

/// The lower median's place and its neighbour, without sorting all.
double median_of(std::vector<double>& values) {
  const std::size_t middle = values.size() / 2;
  const auto place = values.begin() + static_cast<std::ptrdiff_t>(middle);
  std::nth_element(values.begin(), place, values.end());
  if (values.size() % 2 == 1) return *place;
  return (*std::max_element(values.begin(), place) + *place) / 2;
}

std::pair<double, double> bootstrap_interval(const std::vector<std::vector<double>>& groups,
                                             std::size_t n, std::uint64_t seed) {
  const std::size_t resamples = std::clamp(draws_in_all / n, fewest_resamples, most_resamples);
  std::mt19937_64 random(seed);
  std::vector<double> medians;
  std::vector<double> sample;
  for (std::size_t resample = 0; resample < resamples; ++resample) {
    sample.clear();
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const std::vector<double>& group = groups[draw(random, groups.size())];
      for (std::size_t j = 0; j < group.size(); ++j) {
        sample.push_back(group[draw(random, group.size())]);
      }
    }
    medians.push_back(median_of(sample));
  }
  std::sort(medians.begin(), medians.end());
  return {quantile(medians, 0.025), quantile(medians, 0.975)};
}

}  // namespace

double quantile(std::span<const double> sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  const double share = place - static_cast<double>(below);
  return sorted[below] + share * (sorted[below + 1] - sorted[below]);
}

Statistics summarize(std::span<const double> values, std::span<const std::int64_t> repeats,
                     std::uint64_t seed) {
  if (values.size() != repeats.size()) {
    throw std::invalid_argument("summarize: as many repeats as values are needed");
  }
  std::map<std::int64_t, std::vector<double>> by_repeat;
  std::vector<double> sorted;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    sorted.push_back(values[i]);
    by_repeat[repeats[i]].push_back(values[i]);
  }
  Statistics s;
  s.n = static_cast<std::int64_t>(sorted.size());
  if (s.n == 0) return s;
  std::sort(sorted.begin(), sorted.end());
  const auto count = static_cast<double>(s.n);
  s.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / count;
  s.median = quantile(sorted, 0.5);
  if (s.n >= fewest_for_p90) s.p90 = quantile(sorted, 0.9);
  if (s.n >= fewest_for_p99) s.p99 = quantile(sorted, 0.99);
  if (s.n < 2) return s;
  double squares = 0;
  for (const double value : sorted) squares += (value - s.mean) * (value - s.mean);
  s.std = std::sqrt(squares / (count - 1));
  std::vector<std::vector<double>> groups;
  for (auto& group : by_repeat) groups.push_back(std::move(group.second));
  std::tie(s.ci_low, s.ci_high) = bootstrap_interval(groups, sorted.size(), seed);
  return s;
}

}  // namespace chunkstate
