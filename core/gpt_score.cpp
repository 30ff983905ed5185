// SPDX-License-Identifier: Apache-2.0
#include "core/gpt_score.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "core/errors.hpp"
#include "core/generate.hpp"

namespace chunkstate {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Tokens per forward pass of a judge: bounds the memory for its logits.
constexpr std::int64_t judge_piece_tokens = 64;

bool attends(const ModelConfig& config) {
  return std::find(config.layers.begin(), config.layers.end(), LayerKind::attention) !=
         config.layers.end();
}

}  // namespace

void check_judge(const OpenModel& files) {
  if (files.tokenizer) return;
  throw UsageError(files.name + ": a judge needs a tokenizer; synthetic models have none");
}

Judge::Judge(const OpenModel& files, Model& model) : files_(files), model_(model) {
  check_judge(files);
}

double Judge::score(const JudgeTemplate& instruction, const std::string& given,
                    const std::string& scored) const {
  const Tokenizer& tokenizer = *files_.tokenizer;
  std::vector<std::int32_t> target = tokenizer.encode(scored, false);
  if (target.empty()) return nan;

  std::vector<std::int32_t> tokens =
      tokenizer.encode(instruction.before + given + instruction.after, true);
  const ModelConfig& config = model_.config();
  if (attends(config) && config.max_position_embeddings > 0) {
    const auto head = static_cast<std::int64_t>(tokenizer.encode(instruction.before, true).size());
    const std::int64_t excess =
        static_cast<std::int64_t>(tokens.size() + target.size()) - config.max_position_embeddings;
    const auto tail = static_cast<std::int64_t>(tokenizer.encode(instruction.after, false).size());
    if (excess >
        std::max<std::int64_t>(static_cast<std::int64_t>(tokens.size()) - head - tail, 0)) {
      throw UsageError(files_.name + ": the text to score has " + std::to_string(target.size()) +
                       " tokens, the judge's context holds " +
                       std::to_string(config.max_position_embeddings));
    }
    if (excess > 0) tokens.erase(tokens.begin() + head, tokens.begin() + head + excess);
  }
  const std::size_t given_tokens = tokens.size();
  tokens.insert(tokens.end(), target.begin(), target.end());
  if (given_tokens == 0) {  // no beginning-of-text token: the first one is not predicted
    if (target.size() < 2) return nan;
  }
  const SsdSettings exact = ssd_settings("default_optimized", 0, 0, config);
  const std::vector<float> nll = chunkstate::score(model_, exact, tokens, judge_piece_tokens);
  const auto first =
      nll.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(given_tokens, 1)) - 1;
  return -std::accumulate(first, nll.end(), 0.0) / static_cast<double>(nll.end() - first);
}

GptScore gpt_score(const Judge& judge, const JudgeTemplate& instruction, const std::string& source,
                   const std::string& reference, const std::string& hypothesis) {
  GptScore result{nan, nan, nan, nan, nan};
  if (!source.empty()) result.source_to_hypothesis = judge.score(instruction, source, hypothesis);
  if (!reference.empty() && !hypothesis.empty()) {
    result.reference_to_hypothesis = judge.score(instruction, reference, hypothesis);
    result.hypothesis_to_reference = judge.score(instruction, hypothesis, reference);
    const double sum = result.reference_to_hypothesis + result.hypothesis_to_reference;
    result.average = sum / 2;
    result.harmonic = 2 * result.reference_to_hypothesis * result.hypothesis_to_reference / sum;
  }
  return result;
}

}  // namespace chunkstate
