// SPDX-License-Identifier: Apache-2.0
#include "experiments/analysis/evaluation_columns.hpp"

#include <cmath>

namespace chunkstate {

std::vector<EvaluationColumn> evaluation_columns() {
  std::vector<EvaluationColumn> columns;
  for (const ComparisonField& field : comparison_fields) {
    columns.push_back(
        {field.name, [value = field.value](const Evaluation& e) { return e.*value; }});
  }
  columns.push_back({"first_divergence", [](const Evaluation& e) {
                       return e.first_divergence < 0 ? NAN
                                                     : static_cast<double>(e.first_divergence);
                     }});
  for (std::size_t aspect = 0; aspect < judged_aspects.size(); ++aspect) {
    for (const ScoreField& field : score_fields) {
      columns.push_back(
          {score_name(aspect, field), [aspect, value = field.value](const Evaluation& e) {
             return e.gptscore[aspect].*value;
           }});
    }
  }
  return columns;
}

}  // namespace chunkstate
