// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/record/evaluation.hpp"

namespace chunkstate {

struct EvaluationColumn {
  std::string name;                                // "kl_mean", "gptscore_quality_recall"
  std::function<double(const Evaluation&)> value;  // NaN: missing
};

/// The numbers of an evaluation, by the names of /accuracy.
std::vector<EvaluationColumn> evaluation_columns();

}  // namespace chunkstate
