// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/evaluator.hpp"

#include <new>
#include <stdexcept>

#include "core/accuracy.hpp"
#include "core/errors.hpp"
#include "core/generate.hpp"
#include "core/trace.hpp"

namespace chunkstate {
namespace {

SsdSettings exact_scan(const Model& model) {
  return ssd_settings("default_optimized", 0, 0, model.config());
}

}  // namespace

PointSettings reference_settings(const PointSettings& settings) {
  const PointSettings defaults;
  PointSettings exact = settings;
  exact.model_dtype = "fp32";
  exact.state_dtype = defaults.state_dtype;
  exact.mode = defaults.mode;
  exact.autotune = defaults.autotune;
  exact.fusion = defaults.fusion;
  exact.attention = defaults.attention;
  exact.attention_block = defaults.attention_block;
  return exact;
}

PointSettings judge_settings(const std::string& folder, const std::string& backend) {
  PointSettings settings;
  settings.model_path = folder;
  settings.model_dtype = "fp32";
  settings.backend = backend;
  return settings;
}

Evaluation Evaluator::run(const WorkItem& item, const RequestRecord& request) {
  const TraceRegion region("evaluate");
  Evaluation evaluation;
  try {
    if (spec_.accuracy.compares()) compare(item, request, evaluation);
    if (spec_.accuracy.judges()) judge(item, request, evaluation);
    return evaluation;
  } catch (const std::bad_alloc&) {
    engines_.release_models();
    evaluation.error = "out_of_memory: not enough memory";
  } catch (const std::domain_error& e) {
    evaluation.error = std::string("nan_logits: ") + e.what();
  } catch (const UsageError& e) {
    evaluation.error = std::string("usage: ") + e.what();
  } catch (const std::exception& e) {
    evaluation.error = std::string("error: ") + e.what();
  }
  return evaluation;
}

// The reference's greedy text, the same for all points that share prompt, weights and length.
const std::vector<std::int32_t>& Evaluator::reference_tokens(
    const PointSettings& settings, const std::vector<std::int32_t>& prompt,
    const std::string& key) {
  const auto found = reference_tokens_.find(key);
  if (found != reference_tokens_.end()) return found->second;
  Model& reference = engines_.model(reference_settings(settings));
  GenerateOptions options;
  options.max_new_tokens = settings.max_new_tokens;
  options.prefill_tokens = settings.prefill_tokens;
  if (settings.stop_at_eos) options.stop_tokens = engines_.files(settings).stop_tokens();
  const std::vector<std::vector<std::int32_t>> prompts = {prompt};
  const std::vector<std::uint64_t> seeds = {0};
  return reference_tokens_[key] =
             generate(reference, exact_scan(reference), prompts, seeds, options)[0].tokens;
}

void Evaluator::compare(const WorkItem& item, const RequestRecord& request,
                        Evaluation& evaluation) {
  const PointSettings& settings = spec_.points[static_cast<std::size_t>(item.point)].settings;
  const Prompt& prompt = prompts_.prompts[static_cast<std::size_t>(item.prompt)];
  const OpenModel& files = engines_.files(settings);
  std::vector<std::int32_t> tokens =
      prompt.tokens.empty() ? files.encode_prompt(prompt.text, prompt.token_len) : prompt.tokens;
  AccuracyOptions options;
  options.prompt_tokens = static_cast<std::int64_t>(tokens.size());
  options.state_drift = spec_.accuracy.state_drift;

  const std::string key = std::to_string(item.prompt) + '/' + files.digest() + '/' +
                          std::to_string(settings.max_new_tokens) + '/' +
                          std::to_string(settings.model_layers) + '/' +
                          std::to_string(settings.prefill_tokens) + '/' +
                          std::to_string(settings.stop_at_eos) + '/' + settings.backend;
  const std::vector<std::int32_t>& continuation = reference_tokens(settings, tokens, key);
  if (settings.sampling == "greedy") {
    const std::int64_t at = first_divergence(request.token_ids, continuation);
    evaluation.first_divergence = at < 0 ? request.tokens_out() : at;
  }
  // Both models read the expected answer where there is one, else what the reference says.
  const std::vector<std::int32_t> answer = files.tokenizer && !prompt.answer.empty()
                                               ? files.tokenizer->encode(prompt.answer, false)
                                               : continuation;
  tokens.insert(tokens.end(), answer.begin(), answer.end());

  Model& reference = engines_.model(reference_settings(settings));
  Model& tested = engines_.model(settings);
  const SsdSettings ssd =
      ssd_settings(settings.variant, settings.chunk_size, settings.lookback, tested.config());
  const Accuracy found =
      compare_predictions(reference, exact_scan(reference), tested, ssd, tokens, options);
  evaluation.nll_prompt = found.nll_prompt;
  evaluation.nll_answer = found.nll_answer;
  evaluation.nll_mean = found.nll_mean;
  evaluation.reference_nll_mean = found.reference_nll_mean;
  evaluation.kl_mean = found.kl_mean;
  evaluation.kl_max = found.kl_max;
  evaluation.top1_agreement = found.top1_agreement;
  evaluation.logit_max_abs = found.logit_max_abs;
  evaluation.state_drift = found.state_drift;
}

void Evaluator::judge(const WorkItem& item, const RequestRecord& request, Evaluation& evaluation) {
  const Prompt& prompt = prompts_.prompts[static_cast<std::size_t>(item.prompt)];
  const PointSettings settings = judge_settings(
      spec_.accuracy.judge, spec_.points[static_cast<std::size_t>(item.point)].settings.backend);
  const Judge judge(engines_.files(settings), engines_.model(settings));
  evaluation.gptscore = judge_output(judge, instructions_of(spec_.accuracy), prompt.text,
                                     prompt.answer, request.text);
}

JudgeInstructions instructions_of(const AccuracySettings& accuracy) {
  return {accuracy.quality, accuracy.naturalness, accuracy.informativeness};
}

std::array<AspectScore, judged_aspects.size()> judge_output(const Judge& judge,
                                                            const JudgeInstructions& instructions,
                                                            const std::string& source,
                                                            const std::string& answer,
                                                            const std::string& output) {
  std::array<AspectScore, judged_aspects.size()> scores;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const GptScore score =
        gpt_score(judge, parse_judge_template(instructions[i]), source, answer, output);
    scores[i] = {score.source_to_hypothesis, score.reference_to_hypothesis,
                 score.hypothesis_to_reference, score.average, score.harmonic};
  }
  return scores;
}

}  // namespace chunkstate
