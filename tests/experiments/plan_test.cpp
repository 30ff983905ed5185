// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "core/errors.hpp"
#include "core/open_model.hpp"
#include "experiments/plan/shard.hpp"
#include "experiments/plan/work_plan.hpp"
#include "experiments/run/batch_runner.hpp"
#include "tests/catch.hpp"

namespace chunkstate {
namespace {

ExperimentSpec experiment(const std::vector<std::string>& overrides = {}) {
  return parse_experiment(
      "schema: 1\nname: plan\nmodel: {path: m}\nprompts: {file: p.json}\n"
      "measure: {repeats: 2}\n"
      "sweep: {matrix: {ssm.variant: [default, independent], ssm.chunk_size: [64, 128]}}\n",
      "plan.yaml", overrides);
}

PromptSet three_prompts() {
  return parse_prompts(R"([{"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}])", "p.json");
}

std::vector<std::string> digests(const ExperimentSpec& spec, const std::string& digest = "d") {
  return std::vector<std::string>(spec.points.size(), digest);
}

std::map<std::string, std::uint64_t> ids_and_seeds(const std::vector<WorkItem>& items) {
  std::map<std::string, std::uint64_t> result;
  for (const WorkItem& item : items) result[item.id] = item.seed;
  return result;
}

TEST_CASE("Every point, prompt and repeat is one item with an id of its own") {
  const ExperimentSpec spec = experiment();
  const std::vector<WorkItem> items = make_work_plan(spec, three_prompts(), digests(spec), {});
  REQUIRE(items.size() == 4 * 3 * 2);
  std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t>> places;
  std::set<std::uint64_t> seeds;
  for (const WorkItem& item : items) {
    CHECK(item.id.size() == 32);
    places.insert({item.point, item.prompt, item.repeat});
    seeds.insert(item.seed);
  }
  CHECK(places.size() == items.size());
  CHECK(ids_and_seeds(items).size() == items.size());
  CHECK(seeds.size() == items.size());
}

TEST_CASE("An id and a seed stay what they were") {
  const ExperimentSpec spec = experiment();
  const WorkItem item = make_work_plan(spec, three_prompts(), digests(spec), {}).front();
  CHECK(item.point == 0);
  CHECK(item.prompt == 0);
  CHECK(item.repeat == 0);
  CHECK(settings_text(spec.points[0].settings) ==
        "model.path: m\nmodel.dtype: bf16\nmodel.layers: 0\nmodel.weights: checkpoint\n"
        "generation.max_new_tokens: 100\ngeneration.use_cache: true\ngeneration.sampling: greedy\n"
        "generation.stop_at_eos: false\ngeneration.seed: 42\nssm.variant: default\nssm.chunk_size: "
        "64\n"
        "ssm.lookback: 1\nexecution.backend: auto\nexecution.mode: auto\n"
        "execution.autotune: off\nexecution.fusion: auto\nexecution.prefill_tokens: 0\n");
  // A change here makes every journal written before it start from nothing.
  CHECK(item.id == "4acd6182cd4e0600dcde1c5a88eb6ce7");
  CHECK(item.seed == 0xdcde1c5a88eb6ce7U);
}

TEST_CASE("Ids do not depend on what does not decide a result") {
  const ExperimentSpec spec = experiment();
  const auto reference = ids_and_seeds(make_work_plan(spec, three_prompts(), digests(spec), {}));
  const std::vector<std::string> harmless[] = {
      {"name=other"},           {"measure.order=blocked"},
      {"measure.warmup=7"},     {"prompts.limit=3"},
      {"output.dir=elsewhere"}, {"slurm.array=4"},
      {"max_failures=1"},       {"parallel.threads=3"},
      {"prompts.file=q.json"},  {"sweep.matrix.ssm.chunk_size=[128, 64]"},
  };
  for (const auto& overrides : harmless) {
    CAPTURE(overrides);
    const ExperimentSpec other = experiment(overrides);
    CHECK(ids_and_seeds(make_work_plan(other, three_prompts(), digests(other), {})) == reference);
  }
  // More points, more repeats and more prompts keep the ids that were there.
  const ExperimentSpec larger =
      experiment({"sweep.matrix.ssm.chunk_size=[32, 64, 128]", "measure.repeats=3"});
  const PromptSet more = parse_prompts(
      R"([{"prompt": "c"}, {"prompt": "a", "id": "x"}, {"prompt": "b"}, {"prompt": "a"}])",
      "p.json");
  const auto extended = ids_and_seeds(make_work_plan(larger, more, digests(larger), {}));
  for (const auto& [id, seed] : reference) CHECK(extended.count(id) == 1);
}

TEST_CASE("A batch has ids of its own and the seeds of single requests, point after point") {
  const ExperimentSpec spec = experiment(
      {"sweep={matrix: {scenario.batch: [1, 4]}}", "scenario.type=offline", "measure.repeats=2"});
  const ExperimentSpec alone = experiment({"sweep=", "measure.repeats=2"});
  const std::vector<double> costs = {1, 5, 3, 1, 5, 3};
  const auto batched = make_work_plan(spec, three_prompts(), digests(spec), costs);
  const auto single = make_work_plan(alone, three_prompts(), digests(alone), {1, 5, 3});
  REQUIRE(batched.size() == 12);
  std::map<std::pair<std::int64_t, std::int64_t>, const WorkItem*> stream;
  for (const WorkItem& item : single) stream[{item.prompt, item.repeat}] = &item;
  std::set<std::string> ids;
  std::vector<std::tuple<std::int64_t, std::int64_t, std::int64_t>> order;
  for (const WorkItem& item : batched) {
    const WorkItem& same = *stream.at({item.prompt, item.repeat});
    CHECK(item.seed == same.seed);
    CHECK(item.id != same.id);
    ids.insert(item.id);
    order.push_back({item.repeat, item.point, item.prompt});
  }
  CHECK(ids.size() == 12);
  decltype(order) expected;
  for (const std::int64_t repeat : {0, 1}) {
    for (const std::int64_t point : {0, 1}) {
      for (const std::int64_t prompt : {1, 2, 0}) expected.push_back({repeat, point, prompt});
    }
  }
  CHECK(order == expected);
}

TEST_CASE("Slots are as many as the memory holds, as long as the longest prompt that runs") {
  const ModelConfig config = synthetic_model_config("llama-tiny");
  const Model model(config, make_synthetic_checkpoint(config, 1, DType::fp32), ModelOptions{});
  const SsdSettings ssd = ssd_settings("default_optimized", 0, 1, config);
  PointSettings settings;
  settings.max_new_tokens = 10;
  settings.model_context = 500;
  const std::vector<std::int64_t> prompts = {40, 300, 100, 9000};  // the last is beyond the context
  const double unlimited = std::numeric_limits<double>::quiet_NaN();
  const BatchSlots all = slots_that_fit(model, ssd, settings, prompts, 6, unlimited);
  CHECK(all.slots == 6);
  CHECK(all.longest_prompt == 300);
  CHECK(all.capacity == 310);
  const auto bytes = [&](std::int64_t slots, std::int64_t prompt) {
    return static_cast<double>(model.slots_bytes(ssd, slots, prompt, 0, prompt + 10));
  };
  for (const std::int64_t slots : {1, 2, 5}) {
    const BatchSlots some = slots_that_fit(model, ssd, settings, prompts, 6, bytes(slots, 300));
    CHECK(some.slots == slots);
    CHECK(some.capacity == 310);
  }
  // A prompt that does not fit alone is none of the batch's.
  const BatchSlots shorter = slots_that_fit(model, ssd, settings, prompts, 6, bytes(1, 300) - 1);
  CHECK(shorter.longest_prompt == 100);
  CHECK(shorter.slots >= 1);
  CHECK(bytes(shorter.slots, 100) < bytes(1, 300));
  CHECK((shorter.slots == 6 || bytes(shorter.slots + 1, 100) >= bytes(1, 300)));
  const BatchSlots none = slots_that_fit(model, ssd, settings, prompts, 6, 1000.0);
  CHECK(none.slots == 1);
  CHECK(none.longest_prompt == 1);
}

TEST_CASE("A shard is I/N with I below N, and nothing else") {
  CHECK(parse_shard("").whole());
  CHECK(parse_shard("0/1") == Shard{0, 1});
  CHECK(parse_shard("7/8") == Shard{7, 8});
  CHECK(parse_shard("99999/100000") == Shard{99999, 100000});
  for (const char* wrong :
       {"8/8", "9/8", "-1/8", "0/0", "1/", "/8", "1", "1/8/2", "1/8 ", " 1/8", "a/b", "1/-8",
        "0x1/8", "0/100001", "99999999999999/8", "1/99999999999999", "+1/8", "1.0/8", "1\n/8"}) {
    CAPTURE(wrong);
    std::string message;
    try {
      parse_shard(wrong);
    } catch (const UsageError& error) {
      message = error.what();
    }
    CHECK(message.find("expected I/N") != std::string::npos);
    CHECK(message.find('\n') == std::string::npos);
  }
}

TEST_CASE("Shards have every item once and about the same cost, whatever is done already") {
  const ExperimentSpec spec = experiment({"measure.repeats=25"});
  const std::vector<double> costs = {1, 2, 30, 4, 5, 6, 7, 80, 9, 10, 11, 12};
  const std::vector<WorkItem> items = make_work_plan(spec, three_prompts(), digests(spec), costs);
  for (const int count : {1, 2, 3, 4, 7, 50}) {
    CAPTURE(count);
    const std::vector<int> shards = shard_of_items(items, count);
    REQUIRE(shards.size() == items.size());
    std::vector<double> load(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < items.size(); ++i) {
      load.at(static_cast<std::size_t>(shards[i])) += items[i].cost;
    }
    const auto [least, most] = std::minmax_element(load.begin(), load.end());
    CHECK(*most - *least <= 80);
    CHECK(shard_of_items(items, count) == shards);
  }
  // More shards than items: some are empty.
  const std::vector<int> shards = shard_of_items(items, 500);
  CHECK(std::set<int>(shards.begin(), shards.end()).size() == items.size());
}

TEST_CASE("Ids depend on what decides a result") {
  std::set<std::string> ids;
  std::size_t items = 0;
  const auto add = [&](const ExperimentSpec& spec, const PromptSet& prompts,
                       const std::string& digest) {
    for (const WorkItem& item : make_work_plan(spec, prompts, digests(spec, digest), {}))
      ids.insert(item.id), ++items;
  };
  add(experiment(), three_prompts(), "d");
  add(experiment(), three_prompts(), "another model");
  add(experiment(), parse_prompts(R"({"prompt": "c"})", "p"), "d");
  add(experiment(), synthetic_prompts(4, 2, 100, 1), "d");
  for (const char* change :
       {"generation.seed=1", "generation.max_new_tokens=3", "model.dtype=fp32", "model.layers=2",
        "generation.sampling.temperature=0.5", "ssm.lookback=2", "execution.backend=cpu",
        "execution.prefill_tokens=8", "generation.use_cache=false", "model.path=n"}) {
    add(experiment({change}), three_prompts(), "d");
  }
  CHECK(ids.size() == items);
}

TEST_CASE("Interleaved order finishes a repeat before the next, blocked order a point") {
  const std::vector<double> costs = {1, 5, 3, 2, 5, 4, 1, 1, 1, 9, 0, 0};
  for (const char* order : {"interleaved", "blocked"}) {
    CAPTURE(order);
    const ExperimentSpec spec = experiment({std::string("measure.order=") + order});
    const std::vector<WorkItem> items = make_work_plan(spec, three_prompts(), digests(spec), costs);
    for (std::size_t i = 1; i < items.size(); ++i) {
      CAPTURE(i);
      const WorkItem& before = items[i - 1];
      const WorkItem& item = items[i];
      CHECK(item.cost == costs[static_cast<std::size_t>(3 * item.point + item.prompt)]);
      if (std::string(order) == "blocked") {
        CHECK(before.point <= item.point);
        if (before.point != item.point) continue;
      }
      CHECK(before.repeat <= item.repeat);
      if (before.repeat == item.repeat) CHECK(before.cost >= item.cost);
    }
  }
  const ExperimentSpec spec = experiment();
  const std::vector<WorkItem> items = make_work_plan(spec, three_prompts(), digests(spec), costs);
  CHECK(items[0].point == 3);  // cost 9
  CHECK(items[1].point == 0);  // two of cost 5: the earlier point first
  CHECK(items[2].point == 1);
}

TEST_CASE("A plan of another size or shape is refused") {
  const ExperimentSpec spec = experiment();
  CHECK_THROWS_AS(make_work_plan(spec, three_prompts(), {"d"}, {}), std::invalid_argument);
  CHECK_THROWS_AS(make_work_plan(spec, three_prompts(), digests(spec), {1, 2}),
                  std::invalid_argument);
  CHECK_THROWS_AS(make_work_plan(spec, {}, digests(spec), {}), std::invalid_argument);
  std::vector<double> costs(12, 1.0);
  costs[7] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(make_work_plan(spec, three_prompts(), digests(spec), costs),
                  std::invalid_argument);
  const ExperimentSpec many = experiment({"measure.repeats=1000000"});
  PromptSet prompts;
  prompts.prompts.resize(1000);
  CHECK_THROWS_AS(make_work_plan(many, prompts, digests(many), {}), UsageError);
}

}  // namespace
}  // namespace chunkstate
