// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/summary.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "experiments/analysis/draw.hpp"

namespace chunkstate {
namespace {

// 1000 resamples put the ends of a 95 % interval at the 25th value from each side. Samples above
// 2000 values, whose interval is narrow anyway, get fewer.
constexpr std::size_t most_resamples = 1000;
constexpr std::size_t fewest_resamples = 100;
constexpr std::size_t draws_in_all = 2'000'000;

/// One column's numbers in ascending order, and the rows they are in.
struct Column {
  std::vector<double> values;
  std::vector<std::uint32_t> rows;
};

Column sorted_column(std::span<const double> values) {
  Column column;
  for (std::size_t row = 0; row < values.size(); ++row) {
    if (!std::isnan(values[row])) column.rows.push_back(static_cast<std::uint32_t>(row));
  }
  std::sort(column.rows.begin(), column.rows.end(), [&](std::uint32_t a, std::uint32_t b) {
    return values[a] != values[b] ? values[a] < values[b] : a < b;
  });
  for (const std::uint32_t row : column.rows) column.values.push_back(values[row]);
  return column;
}

/// The median of a column whose row r was drawn `times[r]` times; NaN if none of its numbers was.
double median_of_drawn(const Column& column, const std::vector<std::uint32_t>& times,
                       std::size_t draws) {
  const std::vector<std::uint32_t>& rows = column.rows;
  if (rows.size() < times.size()) {
    draws = 0;
    for (const std::uint32_t row : rows) draws += times[row];
    if (draws == 0) return std::nan("");
  }
  const std::size_t upper = draws / 2;
  const std::size_t lower = (draws - 1) / 2;
  std::size_t i = 0;
  std::size_t seen = 0;  // draws of the first i numbers
  // In blocks, whose loads do not wait for each other.
  constexpr std::size_t block = 16;
  while (i + block <= rows.size()) {
    std::size_t sum = 0;
    for (std::size_t j = 0; j < block; ++j) sum += times[rows[i + j]];
    if (seen + sum > lower) break;
    seen += sum;
    i += block;
  }
  while (seen + times[rows[i]] <= lower) seen += times[rows[i++]];
  const double value = column.values[i];
  while (seen + times[rows[i]] <= upper) seen += times[rows[i++]];
  return (value + column.values[i]) / 2;
}

/// Fills in the intervals of those columns that have one. Counting the draws per row, once for all
/// columns, gives each column's median without selecting it.
void bootstrap_intervals(const std::vector<Column>& columns, std::span<const std::int64_t> repeats,
                         std::uint64_t seed, std::vector<Statistics>& statistics) {
  std::map<std::int64_t, std::vector<std::uint32_t>> by_repeat;
  for (std::size_t row = 0; row < repeats.size(); ++row) {
    by_repeat[repeats[row]].push_back(static_cast<std::uint32_t>(row));
  }
  std::vector<std::vector<std::uint32_t>> groups;
  for (auto& group : by_repeat) groups.push_back(std::move(group.second));

  std::vector<std::size_t> wanted;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const std::vector<double>& values = columns[c].values;
    if (values.size() < 2) continue;
    statistics[c].ci_low = statistics[c].ci_high = statistics[c].median;
    if (values.front() != values.back()) wanted.push_back(c);
  }
  if (wanted.empty()) return;

  const std::size_t resamples =
      std::clamp(draws_in_all / repeats.size(), fewest_resamples, most_resamples);
  Draws draw(seed);
  std::vector<std::vector<double>> medians(columns.size());
  std::vector<std::uint32_t> times(repeats.size());
  for (std::size_t resample = 0; resample < resamples; ++resample) {
    std::fill(times.begin(), times.end(), 0U);
    std::size_t draws = 0;
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const auto& group = groups[draw(groups.size())];
      for (std::size_t j = 0; j < group.size(); ++j) ++times[group[draw(group.size())]];
      draws += group.size();
    }
    for (const std::size_t c : wanted) {
      const double median = median_of_drawn(columns[c], times, draws);
      if (!std::isnan(median)) medians[c].push_back(median);
    }
  }
  for (const std::size_t c : wanted) {
    if (medians[c].empty()) continue;
    std::sort(medians[c].begin(), medians[c].end());
    statistics[c].ci_low = quantile(medians[c], 0.025);
    statistics[c].ci_high = quantile(medians[c], 0.975);
  }
}

Statistics without_interval(const std::vector<double>& sorted) {
  Statistics s;
  s.n = static_cast<std::int64_t>(sorted.size());
  if (s.n == 0) return s;
  const auto count = static_cast<double>(s.n);
  s.mean = std::accumulate(sorted.begin(), sorted.end(), 0.0) / count;
  s.median = quantile(sorted, 0.5);
  if (s.n >= fewest_for_p90) s.p90 = quantile(sorted, 0.9);
  if (s.n >= fewest_for_p99) s.p99 = quantile(sorted, 0.99);
  if (s.n < 2) return s;
  double squares = 0;
  for (const double value : sorted) squares += (value - s.mean) * (value - s.mean);
  s.std = std::sqrt(squares / (count - 1));
  return s;
}

}  // namespace

double quantile(std::span<const double> sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  if (below + 1 >= sorted.size()) return sorted.back();
  const double share = place - static_cast<double>(below);
  return sorted[below] + share * (sorted[below + 1] - sorted[below]);
}

std::vector<Statistics> summarize(std::span<const std::vector<double>> columns,
                                  std::span<const std::int64_t> repeats, std::uint64_t seed) {
  std::vector<Column> sorted;
  std::vector<Statistics> statistics;
  for (const std::vector<double>& values : columns) {
    if (values.size() != repeats.size()) {
      throw std::invalid_argument("summarize: as many repeats as values are needed");
    }
    sorted.push_back(sorted_column(values));
    statistics.push_back(without_interval(sorted.back().values));
  }
  bootstrap_intervals(sorted, repeats, seed, statistics);
  return statistics;
}

}  // namespace chunkstate
