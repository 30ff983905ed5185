// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/attention/attention.hpp"

namespace chunkstate::reference {

void attention(const AttentionArgs& args) {
  const auto [tokens, heads, head_dim] = args.q.extent;
  const std::int64_t heads_per_kv = heads / args.k.extent[1];
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t keys = args.k.extent[0] - tokens + t + 1;
    std::vector<double> weight(static_cast<std::size_t>(keys));
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t kv = h / heads_per_kv;
      double largest = -std::numeric_limits<double>::infinity();
      for (std::int64_t j = 0; j < keys; ++j) {
        double score = 0.0;
        for (std::int64_t d = 0; d < head_dim; ++d) {
          score += static_cast<double>(args.q.load(t, h, d)) * args.k.load(j, kv, d);
        }
        weight[j] = args.scale * score;
        largest = std::max(largest, weight[j]);
      }
      double total = 0.0;
      for (double& w : weight) total += w = std::exp(w - largest);
      for (std::int64_t d = 0; d < head_dim; ++d) {
        double sum = 0.0;
        for (std::int64_t j = 0; j < keys; ++j) sum += weight[j] * args.v.load(j, kv, d);
        args.y.store(static_cast<float>(sum / total), t, h, d);
      }
    }
  }
}

void attention_step(const AttentionStepArgs& args) {
  for (std::int64_t b = 0; b < args.q.extent[0]; ++b) {
    attention({.q = args.q.slice(0, b, b + 1),
               .k = args.k[b].slice(0, 0, args.lengths(b)),
               .v = args.v[b].slice(0, 0, args.lengths(b)),
               .scale = args.scale,
               .y = args.y.slice(0, b, b + 1)});
  }
}

}  // namespace chunkstate::reference
