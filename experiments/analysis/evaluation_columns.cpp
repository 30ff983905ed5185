// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/evaluation_columns.hpp"

#include <cmath>
#include <utility>

namespace chunkstate {

std::vector<EvaluationColumn> evaluation_columns() {
  constexpr std::pair<const char*, double Evaluation::*> reals[] = {
      {"nll_prompt", &Evaluation::nll_prompt},
      {"nll_answer", &Evaluation::nll_answer},
      {"nll_mean", &Evaluation::nll_mean},
      {"reference_nll_mean", &Evaluation::reference_nll_mean},
      {"kl_mean", &Evaluation::kl_mean},
      {"kl_max", &Evaluation::kl_max},
      {"top1_agreement", &Evaluation::top1_agreement},
      {"logit_max_abs", &Evaluation::logit_max_abs}};
  constexpr std::pair<const char*, double AspectScore::*> scores[] = {
      {"_source", &AspectScore::source},
      {"_precision", &AspectScore::precision},
      {"_recall", &AspectScore::recall},
      {"", &AspectScore::average},
      {"_harmonic", &AspectScore::harmonic}};
  std::vector<EvaluationColumn> columns;
  for (const auto& [name, field] : reals) {
    columns.push_back({name, [field = field](const Evaluation& e) { return e.*field; }});
  }
  columns.push_back({"first_divergence", [](const Evaluation& e) {
                       return e.first_divergence < 0 ? NAN
                                                     : static_cast<double>(e.first_divergence);
                     }});
  for (std::size_t aspect = 0; aspect < judged_aspects.size(); ++aspect) {
    for (const auto& [name, field] : scores) {
      columns.push_back(
          {std::string("gptscore_") + judged_aspects[aspect] + name,
           [aspect, field = field](const Evaluation& e) { return e.gptscore[aspect].*field; }});
    }
  }
  return columns;
}

}  // namespace chunkstate
