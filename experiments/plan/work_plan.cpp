// SPDX-License-Identifier: Apache-2.0
#include "experiments/plan/work_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <unordered_map>

#include "core/digest.hpp"
#include "core/errors.hpp"

namespace chunkstate {
namespace {

constexpr std::int64_t max_items = std::int64_t{1} << 31;

std::int64_t count_items(const ExperimentSpec& spec, std::int64_t prompts) {
  const auto points = static_cast<std::int64_t>(spec.points.size());
  const std::int64_t repeats = spec.measure.repeats;
  if (points < 1 || prompts < 1 || repeats < 1)
    throw std::invalid_argument("make_work_plan: nothing to do");
  if (points > max_items / prompts || points * prompts > max_items / repeats) {
    throw UsageError(
        fmt::format("{}: found {} points x {} prompts x {} repeats, expected at most {} items",
                    spec.name, points, prompts, repeats, max_items));
  }
  return points * prompts * repeats;
}

/// What the id of an item takes from its prompt: equal prompts are told apart by counting them.
std::vector<std::string> prompt_keys(const PromptSet& prompts) {
  std::unordered_map<std::string, std::int64_t> seen;
  std::vector<std::string> keys;
  for (const Prompt& prompt : prompts.prompts) {
    std::string key = Digest().text(prompt.text).text(token_bytes(prompt)).hex();
    key += fmt::format("/{}", seen[key]++);
    keys.push_back(std::move(key));
  }
  return keys;
}

/// The settings that decide what comes out of a request: the scenario decides when.
PointSettings alone(PointSettings settings) {
  settings.scenario = PointSettings().scenario;
  settings.scenario_batch = PointSettings().scenario_batch;
  return settings;
}

}  // namespace

std::vector<WorkItem> make_work_plan(const ExperimentSpec& spec, const PromptSet& prompts,
                                     const std::vector<std::string>& model_digests,
                                     const std::vector<double>& costs_per_point_and_prompt) {
  const auto prompt_count = static_cast<std::int64_t>(prompts.prompts.size());
  const std::vector<double>& costs = costs_per_point_and_prompt;
  const std::int64_t item_count = count_items(spec, prompt_count);
  const std::size_t pairs = spec.points.size() * prompts.prompts.size();
  const bool has_nan = std::ranges::any_of(costs, [](double cost) { return std::isnan(cost); });
  if (model_digests.size() != spec.points.size() || (!costs.empty() && costs.size() != pairs) ||
      has_nan) {
    throw std::invalid_argument(fmt::format(
        "make_work_plan: found {} digests and {} costs{}, expected {} and {}", model_digests.size(),
        costs.size(), has_nan ? " with a NaN" : "", spec.points.size(), pairs));
  }
  const std::vector<std::string> keys = prompt_keys(prompts);
  std::vector<WorkItem> items;
  items.reserve(static_cast<std::size_t>(item_count));
  std::int64_t pair = 0;
  for (std::size_t point = 0; point < spec.points.size(); ++point) {
    const std::string settings = settings_text(spec.points[point].settings);
    const std::string settings_alone = settings_text(alone(spec.points[point].settings));
    for (std::int64_t prompt = 0; prompt < prompt_count; ++prompt, ++pair) {
      for (std::int64_t repeat = 0; repeat < spec.measure.repeats; ++repeat) {
        const auto id_with = [&](const std::string& text) {
          Digest digest;
          digest.text("chunkstate item 1").text(text).text(model_digests[point]);
          digest.text(keys[static_cast<std::size_t>(prompt)]).integer(repeat);
          return digest.hex();
        };
        const std::string id = id_with(settings);
        const std::string id_alone = settings == settings_alone ? id : id_with(settings_alone);
        const std::uint64_t seed = std::stoull(id_alone.substr(16), nullptr, 16);
        items.push_back({id, static_cast<std::int64_t>(point), prompt, repeat,
                         costs.empty() ? 1.0 : costs[static_cast<std::size_t>(pair)], seed});
      }
    }
  }
  const bool blocked = spec.measure.order == "blocked";
  const bool batched = std::ranges::any_of(
      spec.points, [](const SweepPoint& point) { return point.settings.scenario == "offline"; });
  std::ranges::sort(items, [blocked, batched](const WorkItem& a, const WorkItem& b) {
    const auto order = [blocked, batched](const WorkItem& item) {
      return std::tuple(blocked ? item.point : 0, item.repeat, batched ? item.point : 0, -item.cost,
                        item.point, item.prompt);
    };
    return order(a) < order(b);
  });
  return items;
}

}  // namespace chunkstate
