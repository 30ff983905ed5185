// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/experiment_setup.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/digest.hpp"
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/execution_options.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/run/evaluator.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/request_runner.hpp"

namespace chunkstate {
namespace {

// What every rank must have found alike; otherwise files changed between ranks, or differ between
// hosts.
void check_same_everywhere(Communicator& world, const std::string& what,
                           const std::string& digest) {
  const std::vector<std::string> all = world.all_gather(digest);
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank] != all[0]) {
      throw AgreedError({exit_bad_input, what + " differ between rank 0 and rank " +
                                             std::to_string(rank) + " (digests " + all[0] + ", " +
                                             all[rank] + ")"});
    }
  }
}

// Opens every model of the experiment, and reads all bytes of one no more than once per host: the
// first rank that has it digests it for the others.
void open_models(Communicator& world, EnginePool& engines, const ExperimentSpec& spec) {
  std::vector<const OpenModel*> models;
  agree(world, [&] {
    for (const SweepPoint& point : spec.points) models.push_back(&engines.files(point.settings));
    if (spec.accuracy.judges()) {
      models.push_back(&engines.files(judge_settings(spec.accuracy.judge, spec.base.backend)));
    }
  });
  std::set<const OpenModel*> done;
  for (const OpenModel* model : models) {
    if (!done.insert(model).second || model->checkpoint->made_in_memory()) continue;
    std::string identity, digest;
    agree(world, [&] { identity = model->checkpoint->identity(); });
    const std::vector<std::string> all =
        world.all_gather(std::to_string(world.host()) + ' ' + identity);
    const auto first = static_cast<std::size_t>(
        std::find(all.begin(), all.end(), all[static_cast<std::size_t>(world.rank())]) -
        all.begin());
    agree(world, [&] {
      if (first == static_cast<std::size_t>(world.rank())) digest = model->checkpoint->digest();
    });
    model->checkpoint->know_digest(world.all_gather(digest)[first]);
  }
}

PromptSet open_prompts(const ExperimentSpec& spec, EnginePool& engines) {
  const PromptSettings& prompts = spec.prompts;
  if (prompts.synthetic_tokens == 0) return load_prompts(prompts.file, prompts.limit);
  // Synthetic prompts must be valid ids for every point's model.
  std::int64_t vocab_size = INT32_MAX;
  for (const SweepPoint& point : spec.points) {
    vocab_size = std::min(vocab_size, engines.files(point.settings).config.vocab_size);
  }
  return synthetic_prompts(prompts.synthetic_tokens, prompts.synthetic_count, vocab_size,
                           spec.base.seed);
}

bool same_weights(const PointSettings& a, const PointSettings& b) {
  return a.model_path == b.model_path && a.model_weights == b.model_weights &&
         a.model_dtype == b.model_dtype && a.seed == b.seed && a.backend == b.backend;
}

EvaluationFacts evaluation_facts(const ExperimentSpec& spec, EnginePool& engines) {
  EvaluationFacts facts;
  facts.reference = spec.accuracy.reference;
  if (!spec.accuracy.judges()) return facts;
  const OpenModel& judge = engines.files(judge_settings(spec.accuracy.judge, spec.base.backend));
  check_judge(judge);
  facts.judge = judge.name;
  facts.judge_digest = judge.digest();
  facts.instructions = instructions_of(spec.accuracy);
  return facts;
}

std::vector<double> estimated_costs(const ExperimentSetup& setup, EnginePool& engines) {
  std::vector<double> costs;
  costs.reserve(setup.spec.points.size() * setup.prompts.prompts.size());
  for (const SweepPoint& point : setup.spec.points) {
    const OpenModel& files = engines.files(point.settings);
    for (const Prompt& prompt : setup.prompts.prompts) {
      costs.push_back(estimated_cost(point.settings, prompt, files));
    }
  }
  return costs;
}

}  // namespace

void agree(Communicator& world, const std::function<void()>& body) {
  nlohmann::json mine;
  try {
    body();
  } catch (...) {
    const Ending ending = ending_of(std::current_exception());
    mine = {{"code", ending.code}, {"message", ending.message}};
  }
  const std::vector<std::string> endings = world.all_gather(
      mine.is_null() ? "" : mine.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  for (const std::string& ending : endings) {
    if (ending.empty()) continue;
    const auto json = nlohmann::json::parse(ending);
    throw AgreedError({json["code"].get<int>(), json["message"].get<std::string>()});
  }
}

ExperimentSpec read_experiment(Communicator& world, const std::string& file,
                               const std::vector<std::string>& overrides) {
  std::string yaml;
  agree(world, [&] {
    if (world.rank() == 0) yaml = read_experiment_file(file);
  });
  world.broadcast(yaml, 0);
  ExperimentSpec spec;
  agree(world, [&] { spec = parse_experiment(yaml, file, overrides); });
  return spec;
}

ExperimentSetup set_up_experiment(Communicator& world, EnginePool& engines, ExperimentSpec spec,
                                  bool runs_here) {
  ExperimentSetup setup;
  setup.spec = std::move(spec);
  open_models(world, engines, setup.spec);
  agree(world, [&] {
    for (const SweepPoint& point : setup.spec.points) {
      // Every point's model, device and scan are checked before the first item runs.
      const OpenModel& files = engines.files(point.settings);
      setup.model_digests.push_back(files.digest());
      attention_choice(point.settings.attention, point.settings.attention_block);
      if (runs_here) {
        execution_options(point.settings.mode, point.settings.autotune, point.settings.fusion,
                          backend_from_name(point.settings.backend),
                          dtype_from_name(point.settings.model_dtype));
      }
      const auto layers = static_cast<std::int64_t>(files.config.layers.size());
      if (point.settings.model_layers > layers) {
        throw UsageError("model.layers: found " + std::to_string(point.settings.model_layers) +
                         ", " + files.name + " has " + std::to_string(layers));
      }
      ssd_settings(point.settings.variant, point.settings.chunk_size, point.settings.lookback,
                   files.config);
    }
    setup.prompts = open_prompts(setup.spec, engines);
    setup.evaluation = evaluation_facts(setup.spec, engines);
    setup.plan = make_work_plan(setup.spec, setup.prompts, setup.model_digests,
                                estimated_costs(setup, engines));
    Digest digest;
    for (const WorkItem& item : setup.plan) digest.text(item.id);
    setup.plan_hash = digest.hex();
  });
  check_same_everywhere(world, "prompts", setup.prompts.digest);
  check_same_everywhere(world, "models or prompts", setup.plan_hash);
  if (!runs_here) return setup;
  const PointSettings* previous = nullptr;
  for (const SweepPoint& point : setup.spec.points) {
    if (previous != nullptr && same_weights(*previous, point.settings)) continue;
    previous = &point.settings;
    agree(world, [&] {
      engines.share_weights(point.settings, world);
      if (!setup.evaluation.compares()) return;
      engines.share_weights(reference_settings(point.settings), world);
    });
  }
  return setup;
}

RunStart identity_of(const ExperimentSetup& setup) {
  Digest models;
  for (const std::string& digest : setup.model_digests) models.text(digest);
  if (setup.evaluation.judges()) models.text(setup.evaluation.judge_digest);
  RunStart start;
  start.items = static_cast<std::int64_t>(setup.plan.size());
  start.config_hash = setup.spec.config_hash;
  start.plan_hash = setup.plan_hash;
  start.prompts_digest = setup.prompts.digest;
  start.model_digest = models.hex();
  start.yaml_resolved = setup.spec.yaml_resolved;
  return start;
}

int threads_per_rank(Communicator& world, std::int64_t wanted) {
  if (wanted > 0) return static_cast<int>(wanted);
  const RankProvenance mine = collect_rank_provenance();
  // A launcher may have bound each rank to CPUs of its own, or all of them to the same ones.
  int sharers = 0;
  for (const std::string& other : world.all_gather(mine.host + " " + mine.cpus)) {
    if (other == mine.host + " " + mine.cpus) ++sharers;
  }
  return resolve_threads(0, sharers);
}

}  // namespace chunkstate
