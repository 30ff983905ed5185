// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/paired_test.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "experiments/analysis/draw.hpp"
#include "experiments/analysis/summary.hpp"

namespace chunkstate {
namespace {

constexpr int resamples = 1000;
constexpr std::size_t most_for_exact = 200;

std::vector<double> numbers_of(std::span<const double> values) {
  std::vector<double> numbers;
  std::copy_if(values.begin(), values.end(), std::back_inserter(numbers),
               [](double value) { return !std::isnan(value); });
  return numbers;
}

// Twice the ranks of sorted sizes, so that the mean ranks of ties are whole numbers.
std::vector<std::size_t> doubled_ranks(const std::vector<double>& sizes) {
  std::vector<std::size_t> ranks(sizes.size());
  for (std::size_t begin = 0; begin < sizes.size();) {
    std::size_t end = begin;
    while (end < sizes.size() && sizes[end] == sizes[begin]) ++end;
    for (std::size_t i = begin; i < end; ++i) ranks[i] = begin + end + 1;
    begin = end;
  }
  return ranks;
}

// Share of all 2^n signs whose positive rank sum is at most `sum`.
double share_at_most(const std::vector<std::size_t>& ranks, std::size_t sum) {
  const std::size_t all = std::accumulate(ranks.begin(), ranks.end(), std::size_t{0});
  std::vector<double> share(all + 1, 0.0);  // of the signs so far, by their positive rank sum
  share[0] = 1;
  std::size_t reached = 0;
  for (const std::size_t rank : ranks) {
    reached += rank;
    for (std::size_t i = reached + 1; i-- > 0;) {
      share[i] = 0.5 * (share[i] + (i >= rank ? share[i - rank] : 0.0));
    }
  }
  return std::accumulate(share.begin(), share.begin() + static_cast<std::ptrdiff_t>(sum) + 1, 0.0);
}

double wilcoxon_p(const std::vector<double>& differences) {
  std::vector<double> sorted;
  for (const double d : differences) {
    if (d != 0) sorted.push_back(d);
  }
  if (sorted.empty()) return 1;
  std::sort(sorted.begin(), sorted.end(),
            [](double a, double b) { return std::abs(a) < std::abs(b); });
  std::vector<double> sizes;
  for (const double d : sorted) sizes.push_back(std::abs(d));
  const std::vector<std::size_t> ranks = doubled_ranks(sizes);
  std::size_t positive = 0;
  std::size_t all = 0;
  double squares = 0;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    all += ranks[i];
    if (sorted[i] > 0) positive += ranks[i];
    squares += static_cast<double>(ranks[i]) * static_cast<double>(ranks[i]);
  }
  const std::size_t smaller = std::min(positive, all - positive);
  if (ranks.size() <= most_for_exact) return std::min(1.0, 2 * share_at_most(ranks, smaller));
  // Each rank counts or does not: variance rank^2 / 4. The half is the continuity correction of a
  // rank sum, doubled like the ranks.
  const double below = static_cast<double>(all) / 2 - static_cast<double>(smaller) - 1;
  return std::min(1.0, std::erfc(below / std::sqrt(squares / 4) / std::sqrt(2.0)));
}

}  // namespace

MeanInterval mean_interval(std::span<const double> values, std::uint64_t seed) {
  const std::vector<double> numbers = numbers_of(values);
  MeanInterval result;
  result.n = static_cast<std::int64_t>(numbers.size());
  if (numbers.empty()) return result;
  const auto count = static_cast<double>(numbers.size());
  result.mean = std::accumulate(numbers.begin(), numbers.end(), 0.0) / count;
  if (numbers.size() < 2) return result;
  result.low = result.high = result.mean;
  if (std::all_of(numbers.begin(), numbers.end(), [&](double v) { return v == numbers[0]; })) {
    return result;
  }
  Draws draw(seed);
  std::vector<double> means;
  for (int resample = 0; resample < resamples; ++resample) {
    double sum = 0;
    for (std::size_t i = 0; i < numbers.size(); ++i) sum += numbers[draw(numbers.size())];
    means.push_back(sum / count);
  }
  std::sort(means.begin(), means.end());
  result.low = quantile(means, 0.025);
  result.high = quantile(means, 0.975);
  return result;
}

PairedTest paired_test(std::span<const double> differences, std::uint64_t seed) {
  const std::vector<double> numbers = numbers_of(differences);
  PairedTest test;
  test.difference = mean_interval(numbers, seed);
  if (numbers.empty()) return test;
  test.equal = std::count(numbers.begin(), numbers.end(), 0.0);
  test.p = wilcoxon_p(numbers);
  return test;
}

std::vector<double> holm(std::span<const double> p) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (!std::isnan(p[i])) order.push_back(i);
  }
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return p[a] < p[b]; });
  std::vector<double> corrected(p.begin(), p.end());
  double largest = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    largest = std::max(largest, std::min(1.0, p[order[i]] * static_cast<double>(order.size() - i)));
    corrected[order[i]] = largest;
  }
  return corrected;
}

}  // namespace chunkstate
