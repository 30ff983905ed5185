// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace chunkstate {

/// Directions of GPTScore and their means, nats per token (core/gpt_score.hpp).
struct AspectScore {
  double source = std::numeric_limits<double>::quiet_NaN();     // prompt -> output
  double precision = std::numeric_limits<double>::quiet_NaN();  // answer -> output
  double recall = std::numeric_limits<double>::quiet_NaN();     // output -> answer
  double average = std::numeric_limits<double>::quiet_NaN();
  double harmonic = std::numeric_limits<double>::quiet_NaN();
};

inline constexpr std::array<const char*, 3> judged_aspects = {"quality", "naturalness",
                                                              "informativeness"};

/// What a judge reads, per aspect: with {given} (core/gpt_score.hpp).
using JudgeInstructions = std::array<std::string, judged_aspects.size()>;

/// How outputs are evaluated: the attributes of /accuracy.
struct EvaluationFacts {
  std::string reference = "none";  // none | exact_fp32
  std::string judge;               // name of its folder; empty: no GPTScore
  std::string judge_digest;        // of its weights and tokenizer
  JudgeInstructions instructions;

  bool compares() const { return reference != "none"; }
  bool judges() const { return !judge.empty(); }
  bool any() const { return compares() || judges(); }
};

/// What was computed of a request's output after the timed runs: an `evaluation` line of the
/// journal, a row of /accuracy. Greedy requests repeat bit for bit, so only repeat 0 has one. NaN
/// and -1 mean missing. Formulas: core/accuracy.hpp.
struct Evaluation {
  std::string error;  // "class: message"; empty if it could be computed

  double nll_prompt = std::numeric_limits<double>::quiet_NaN();
  double nll_answer = std::numeric_limits<double>::quiet_NaN();
  double nll_mean = std::numeric_limits<double>::quiet_NaN();
  double reference_nll_mean = std::numeric_limits<double>::quiet_NaN();
  double kl_mean = std::numeric_limits<double>::quiet_NaN();
  double kl_max = std::numeric_limits<double>::quiet_NaN();
  double top1_agreement = std::numeric_limits<double>::quiet_NaN();
  double logit_max_abs = std::numeric_limits<double>::quiet_NaN();
  /// Generated tokens before the first that differs from the reference's; tokens_out if none does.
  std::int64_t first_divergence = -1;
  std::vector<double> state_drift;  // per mamba layer

  std::array<AspectScore, judged_aspects.size()> gptscore;
};

/// The numbers of an evaluation with their names and meanings, once for all directions: those of
/// the comparison with the reference, and those of the judge, per aspect.
struct ComparisonField {
  const char* name;
  const char* meaning;
  double Evaluation::*value;
};
inline constexpr ComparisonField comparison_fields[] = {
    {"nll_prompt", "mean -log p(token) over the prompt, nats", &Evaluation::nll_prompt},
    {"nll_answer", "the same over the answer (prompt file) or the reference's output",
     &Evaluation::nll_answer},
    {"nll_mean", "the same over both", &Evaluation::nll_mean},
    {"reference_nll_mean", "the same of the reference", &Evaluation::reference_nll_mean},
    {"kl_mean", "mean KL(reference || tested) per token, nats", &Evaluation::kl_mean},
    {"kl_max", "largest KL(reference || tested) of a token, nats", &Evaluation::kl_max},
    {"top1_agreement", "share of tokens where both have the same likeliest one",
     &Evaluation::top1_agreement},
    {"logit_max_abs", "largest difference of a logit", &Evaluation::logit_max_abs}};

struct ScoreField {
  const char* suffix;  // of gptscore_ASPECT
  const char* meaning;
  double AspectScore::*value;
};
inline constexpr ScoreField score_fields[] = {
    {"_source", "of the output given the prompt, nats per token", &AspectScore::source},
    {"_precision", "of the output given the answer, nats per token", &AspectScore::precision},
    {"_recall", "of the answer given the output, nats per token", &AspectScore::recall},
    {"", "mean of precision and recall", &AspectScore::average},
    {"_harmonic", "harmonic mean of precision and recall", &AspectScore::harmonic}};

inline std::string score_name(std::size_t aspect, const ScoreField& field) {
  return std::string("gptscore_") + judged_aspects[aspect] + field.suffix;
}

/// `visit(name, meaning, value)` for each; only one of the two where the other is not asked for.
template <class Value, class Visit>
void visit_comparison(Value& e, const Visit& visit) {
  for (const ComparisonField& field : comparison_fields) {
    visit(field.name, field.meaning, e.*field.value);
  }
}

template <class Value, class Visit>
void visit_gptscore(Value& e, const Visit& visit) {
  for (std::size_t i = 0; i < judged_aspects.size(); ++i) {
    for (const ScoreField& field : score_fields) {
      visit(score_name(i, field), field.meaning, e.gptscore[i].*field.value);
    }
  }
}

/// Equal for evaluations that say the same; of errors the class counts.
std::string evaluation_digest(const Evaluation& evaluation);

/// Of two evaluations of one output keeps one in `kept`: the only one, or the one without error.
/// False if both succeeded and differ.
bool keep_one(std::shared_ptr<const Evaluation>& kept,
              const std::shared_ptr<const Evaluation>& other);

/// In a journal an evaluation is claimed under this name, so that a process that dies of it does
/// not count against the item.
std::string evaluation_claim(const std::string& item_id);

}  // namespace chunkstate
