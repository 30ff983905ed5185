// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "experiments/analysis/run_comparison.hpp"
#include "experiments/analysis/summary.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/report/point_data.hpp"
#include "experiments/report/sections.hpp"
#include "experiments/report/tables.hpp"

namespace chunkstate {
namespace {

// Axes that change how something is computed, or how much of it, not what.
const std::set<std::string> same_mathematics = {"execution.attention",
                                                "execution.attention_block",
                                                "execution.autotune",
                                                "execution.backend",
                                                "execution.fusion",
                                                "execution.mode",
                                                "execution.prefill_tokens",
                                                "generation.batch",
                                                "generation.use_cache",
                                                "scenario.type",
                                                "scenario.batch"};
const std::set<std::string> other_amount = {"generation.max_new_tokens", "model.layers",
                                            "model.path", "model.context"};

bool points_should_agree(const StoredResults& results) {
  bool any = false;
  for (const std::string& path : results.spec.axis_paths) {
    if (same_mathematics.count(path) == 0 && other_amount.count(path) == 0) return false;
    any = any || same_mathematics.count(path) > 0;
  }
  return any;
}

/// The outputs of repeat 0, by prompt.
std::map<std::int64_t, const RequestRecord*> outputs_of(const StoredResults& results,
                                                        const SweepPoint& point) {
  std::map<std::int64_t, const RequestRecord*> outputs;
  for (const RequestRecord& request : requests_of(results, point.index)) {
    if (request.status == RequestStatus::done && request.repeat == 0) {
      outputs[request.prompt] = &request;
    }
  }
  return outputs;
}

struct Agreement {
  std::int64_t prompts = 0, equal = 0;
  std::vector<double> first_difference;  // of those that differ, in tokens
  double largest_difference = 0;         // of a log-probability, before that
};

Agreement agreement_of(const std::map<std::int64_t, const RequestRecord*>& kept,
                       const std::map<std::int64_t, const RequestRecord*>& outputs) {
  Agreement agreement;
  for (const auto& [prompt, output] : outputs) {
    const auto found = kept.find(prompt);
    if (found == kept.end()) continue;
    const RequestRecord& other = *found->second;
    const std::size_t tokens = std::min(output->token_ids.size(), other.token_ids.size());
    std::size_t same = 0;
    while (same < tokens && output->token_ids[same] == other.token_ids[same]) {
      const double difference = std::abs(output->logprobs.at(same) - other.logprobs.at(same));
      agreement.largest_difference = std::max(agreement.largest_difference, difference);
      ++same;
    }
    ++agreement.prompts;
    if (same == tokens) {
      ++agreement.equal;
    } else {
      agreement.first_difference.push_back(static_cast<double>(same));
    }
  }
  return agreement;
}

TableCell number(double value, const std::string& text) { return {text, value, NAN, NAN}; }

}  // namespace

ReportTable agreement_table_of(const StoredResults& results) {
  ReportTable table{
      "agreement",
      sections::execution,
      "Outputs against those of the model's first point with the most tokens, as far as both go",
      "/tokens",
      {"point",
       "compared with",
       "prompts",
       {"with equal tokens", "equal"},
       {"tokens until the others differ, median", "first_difference"},
       {"largest difference of a log-probability before", "logprob_difference"}},
      {}};
  if (!points_should_agree(results)) return table;
  const auto model_of = [&](const SweepPoint& point) {
    std::string layers;
    for (const AxisValue& axis : point.axes) {
      if (axis.path == "model.layers") layers = axis.value;
    }
    return std::pair(results.model_of_point[static_cast<std::size_t>(point.index)], layers);
  };
  struct First {
    const SweepPoint* point = nullptr;
    std::size_t tokens = 0;
  };
  std::map<std::pair<std::int64_t, std::string>, First> firsts;
  for (const SweepPoint& point : results.spec.points) {
    std::size_t tokens = 0;
    for (const auto& [prompt, output] : outputs_of(results, point)) {
      tokens = std::max(tokens, output->token_ids.size());
    }
    First& first = firsts[model_of(point)];
    if (tokens > first.tokens) first = {&point, tokens};
  }
  for (const SweepPoint& point : results.spec.points) {
    const SweepPoint* const first = firsts[model_of(point)].point;
    if (first == nullptr || first == &point) continue;
    const auto outputs = outputs_of(results, point);
    Agreement found = agreement_of(outputs_of(results, *first), outputs);
    if (found.prompts == 0) continue;
    std::sort(found.first_difference.begin(), found.first_difference.end());
    const double until =
        found.first_difference.empty() ? NAN : quantile(found.first_difference, 0.5);
    table.rows.push_back(
        {short_name(point), short_name(*first),
         number(static_cast<double>(found.prompts), std::to_string(found.prompts)),
         number(static_cast<double>(found.equal), std::to_string(found.equal)),
         number(until, std::isnan(until) ? "-" : format_number(until)),
         number(found.largest_difference, format_number(found.largest_difference))});
  }
  return table;
}

}  // namespace chunkstate
