// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/gpt_score.hpp"
#include "experiments/plan/work_plan.hpp"
#include "experiments/record/evaluation.hpp"
#include "experiments/record/request_record.hpp"
#include "experiments/run/engine_pool.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/prompt_set.hpp"

namespace chunkstate {

/// Computes what `accuracy` of an experiment asks for, of requests that are done. It runs after all
/// timed requests: reference and judge would otherwise share caches and memory with them.
class Evaluator {
 public:
  /// Keeps references.
  Evaluator(const ExperimentSpec& spec, const PromptSet& prompts, EnginePool& engines)
      : spec_(spec), prompts_(prompts), engines_(engines) {}

  /// Of `request` the output counts: text and tokens. Nothing is thrown for what goes wrong with
  /// the item: the error is recorded.
  Evaluation run(const WorkItem& item, const RequestRecord& request);

 private:
  void compare(const WorkItem& item, const RequestRecord& request, Evaluation& evaluation);
  void judge(const WorkItem& item, const RequestRecord& request, Evaluation& evaluation);
  const std::vector<std::int32_t>& reference_tokens(const PointSettings& settings,
                                                    const std::vector<std::int32_t>& prompt,
                                                    const std::string& key);

  const ExperimentSpec& spec_;
  const PromptSet& prompts_;
  EnginePool& engines_;
  std::map<std::string, std::vector<std::int32_t>> reference_tokens_;
};

/// The weights of these settings computed in fp32: what `accuracy.reference: exact_fp32` compares
/// with.
PointSettings reference_settings(const PointSettings& settings);
/// A judge: its own weights in fp32.
PointSettings judge_settings(const std::string& folder, const std::string& backend);

JudgeInstructions instructions_of(const AccuracySettings& accuracy);

/// GPTScore of one output under the three aspects. Texts may be empty.
std::array<AspectScore, judged_aspects.size()> judge_output(const Judge& judge,
                                                            const JudgeInstructions& instructions,
                                                            const std::string& source,
                                                            const std::string& answer,
                                                            const std::string& output);

}  // namespace chunkstate
