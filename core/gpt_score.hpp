// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/judge_template.hpp"
#include "core/model.hpp"
#include "core/open_model.hpp"

namespace chunkstate {

/// GPTScore (Fu et al., "GPTScore: Evaluate as You Desire", 2023): how likely a judge model finds
/// one text after an instruction and another text. The mean over the scored text's tokens of
/// log p(token | instruction, given text, tokens before), nats; 0 is best.

/// Throws UsageError if the model cannot judge: it needs a tokenizer.
void check_judge(const OpenModel& files);

/// A judge ready to score.
class Judge {
 public:
  /// Both must outlive the judge. Throws as check_judge().
  Judge(const OpenModel& files, Model& model);

  /// The mean log-likelihood of `scored`. Instruction and given text are one text to the tokenizer,
  /// `scored` another, so that its tokens do not depend on what is before them. NaN if `scored` is
  /// empty. A `given` too long for the judge's context loses its first tokens, as Fu et al. cut
  /// sources; the instruction stays whole. Throws UsageError if nothing fits.
  double score(const JudgeTemplate& instruction, const std::string& given,
               const std::string& scored) const;

 private:
  const OpenModel& files_;
  Model& model_;
};

/// The directions of one hypothesis under one aspect. NaN where a text is missing.
struct GptScore {
  double source_to_hypothesis;     // given the prompt: is the output what it asks for?
  double reference_to_hypothesis;  // "precision": given the reference answer
  double hypothesis_to_reference;  // "recall"
  double average;                  // of precision and recall
  double harmonic;                 // 2 precision recall / (precision + recall)
};
GptScore gpt_score(const Judge& judge, const JudgeTemplate& instruction, const std::string& source,
                   const std::string& reference, const std::string& hypothesis);

}  // namespace chunkstate
