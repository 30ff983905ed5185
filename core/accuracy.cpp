// SPDX-License-Identifier: Apache-2.0
#include "core/accuracy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "core/errors.hpp"
#include "kernels/sampling/log_probability.hpp"

namespace chunkstate {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

struct Mean {
  double sum = 0;
  std::int64_t count = 0;
  void add(double value) {
    sum += value;
    ++count;
  }
  double value() const { return count > 0 ? sum / static_cast<double>(count) : nan; }
};

// What is added up over the predictions.
struct Totals {
  Mean nll_prompt, nll_answer, nll, reference_nll, kl, agreement;
  double kl_max = 0;
  double logit_max_abs = 0;

  void add(std::span<const float> reference, std::span<const float> tested, std::int32_t next,
           bool in_prompt) {
    const RowSummary expected = summarize(reference);
    const RowSummary found = summarize(tested);
    const RowDistance apart = distance(reference, expected.log_sum_exp, tested, found.log_sum_exp);
    logit_max_abs = std::max(logit_max_abs, apart.logit_max_abs);
    kl.add(apart.kl);
    kl_max = std::max(kl_max, apart.kl);
    agreement.add(expected.token == found.token ? 1 : 0);
    const double loss = found.log_sum_exp - tested[static_cast<std::size_t>(next)];
    nll.add(loss);
    (in_prompt ? nll_prompt : nll_answer).add(loss);
    reference_nll.add(expected.log_sum_exp - reference[static_cast<std::size_t>(next)]);
  }
};

// The sum over slots of one layer's state of sequence 0, on the host.
std::vector<double> visible_state(const Model& model, SequenceState& state, std::size_t layer) {
  const AnyView<5> stored = state.ssd_state(layer);
  const auto slots = static_cast<std::size_t>(stored.extent[1]);
  const std::size_t elements =
      static_cast<std::size_t>(stored.extent[2] * stored.extent[3] * stored.extent[4]);
  std::vector<std::byte> bytes(slots * elements * bytes_of(stored.dtype));
  model.read_memory(bytes, stored.data);
  const AnyView<2> values(bytes.data(), stored.dtype,
                          {stored.extent[1], static_cast<std::int64_t>(elements)});
  std::vector<double> sum(elements);
  for (std::size_t s = 0; s < slots; ++s) {
    for (std::size_t e = 0; e < elements; ++e) {
      sum[e] += values.load(static_cast<std::int64_t>(s), static_cast<std::int64_t>(e));
    }
  }
  return sum;
}

double relative_distance(const std::vector<double>& a, const std::vector<double>& reference) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - reference[i]) * (a[i] - reference[i]);
    norm += reference[i] * reference[i];
  }
  return difference == 0 ? 0 : std::sqrt(difference / norm);
}

std::vector<double> state_drifts(const Model& reference, SequenceState& reference_state,
                                 const Model& tested, SequenceState& tested_state) {
  std::vector<double> drifts;
  const std::vector<LayerKind>& layers = reference.config().layers;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] != LayerKind::mamba) continue;
    drifts.push_back(relative_distance(visible_state(tested, tested_state, i),
                                       visible_state(reference, reference_state, i)));
  }
  return drifts;
}

void forward_piece(Model& model, SequenceState& state, std::span<const std::int32_t> piece,
                   const LogitsSink& sink) {
  const std::array<std::span<const std::int32_t>, 1> batch = {piece};
  model.forward(batch, state, LogitsRows::all, sink);
}

}  // namespace

Accuracy compare_predictions(Model& reference, const SsdSettings& reference_ssd, Model& tested,
                             const SsdSettings& tested_ssd, std::span<const std::int32_t> tokens,
                             const AccuracyOptions& options) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  const std::int64_t vocab = reference.config().vocab_size;
  if (count < 2) {
    throw UsageError("accuracy: found " + std::to_string(count) + " tokens, expected at least 2");
  }
  if (tested.config().vocab_size != vocab) {
    throw UsageError("accuracy: the models have " + std::to_string(tested.config().vocab_size) +
                     " and " + std::to_string(vocab) + " token ids, expected the same");
  }
  std::int64_t piece = std::max<std::int64_t>(options.piece_tokens, 1);
  for (const SsdSettings& ssd : {reference_ssd, tested_ssd}) {
    if (ssd.variant->causal()) continue;  // others must see a chunk whole
    piece = (piece + ssd.chunk_size - 1) / ssd.chunk_size * ssd.chunk_size;
  }

  SequenceState reference_state = reference.make_state(reference_ssd, 1, count);
  SequenceState tested_state = tested.make_state(tested_ssd, 1, count);
  std::vector<float> expected(static_cast<std::size_t>(std::min(piece, count) * vocab));
  Totals totals;
  for (std::int64_t begin = 0; begin < count; begin += piece) {
    const auto part = tokens.subspan(static_cast<std::size_t>(begin),
                                     static_cast<std::size_t>(std::min(piece, count - begin)));
    forward_piece(reference, reference_state, part,
                  [&](std::int64_t, std::int64_t first, View<const float, 2> rows) {
                    std::copy_n(rows.data, rows.extent[0] * vocab, expected.data() + first * vocab);
                  });
    forward_piece(tested, tested_state, part,
                  [&](std::int64_t, std::int64_t first, View<const float, 2> rows) {
                    const auto width = static_cast<std::size_t>(vocab);
                    for (std::int64_t r = 0; r < rows.extent[0]; ++r) {
                      const std::int64_t t = begin + first + r + 1;  // the token predicted
                      if (t >= count) return;
                      totals.add({expected.data() + (first + r) * vocab, width},
                                 {rows.data + r * vocab, width},
                                 tokens[static_cast<std::size_t>(t)], t < options.prompt_tokens);
                    }
                  });
  }

  Accuracy result{totals.nll_prompt.value(),    totals.nll_answer.value(), totals.nll.value(),
                  totals.reference_nll.value(), totals.kl.value(),         totals.kl_max,
                  totals.agreement.value(),     totals.logit_max_abs,      {}};
  if (options.state_drift) {
    result.state_drift = state_drifts(reference, reference_state, tested, tested_state);
  }
  return result;
}

std::int64_t first_divergence(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  const std::size_t shorter = std::min(a.size(), b.size());
  for (std::size_t i = 0; i < shorter; ++i) {
    if (a[i] != b[i]) return static_cast<std::int64_t>(i);
  }
  return a.size() == b.size() ? -1 : static_cast<std::int64_t>(shorter);
}

}  // namespace chunkstate
