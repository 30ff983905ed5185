// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/evaluation.hpp"

#include "core/digest.hpp"
#include "experiments/record/result_digest.hpp"

namespace chunkstate {

std::string evaluation_digest(const Evaluation& evaluation) {
  Digest digest;
  const auto add = [&](const auto&, const char*, double value) { digest.real(value); };
  digest.text(error_class(evaluation.error));
  visit_comparison(evaluation, add);
  digest.integer(evaluation.first_divergence);
  digest.integer(static_cast<std::int64_t>(evaluation.state_drift.size()));
  for (const double drift : evaluation.state_drift) digest.real(drift);
  visit_gptscore(evaluation, add);
  return digest.hex();
}

bool keep_one(std::shared_ptr<const Evaluation>& kept,
              const std::shared_ptr<const Evaluation>& other) {
  if (!other) return true;
  if (kept && kept->error.empty()) {
    return !other->error.empty() || evaluation_digest(*kept) == evaluation_digest(*other);
  }
  kept = other;  // of two errors the later
  return true;
}

std::string evaluation_claim(const std::string& item_id) { return item_id + ".evaluation"; }

}  // namespace chunkstate
