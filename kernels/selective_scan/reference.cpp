// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <vector>

#include "kernels/selective_scan/selective_scan.hpp"

namespace chunkstate::reference {
namespace {

double step_size(const SelectiveScanArgs& args, std::int64_t b, std::int64_t t, std::int64_t d) {
  const double v =
      static_cast<double>(args.dt.load(b, t, d)) + (args.dt_bias ? args.dt_bias(d) : 0);
  return !args.softplus || v > 20.0 ? v : std::log1p(std::exp(v));
}

}  // namespace

void selective_scan(const SelectiveScanArgs& args) {
  const auto [batch, tokens, channels] = args.x.extent;
  const std::int64_t state_dim = args.B.extent[2];
  std::vector<double> h(static_cast<std::size_t>(state_dim));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t d = 0; d < channels; ++d) {
      for (std::int64_t n = 0; n < state_dim; ++n) {
        h[n] = args.state ? args.state.load(b, d, n) : 0.0F;
      }
      for (std::int64_t t = 0; t < tokens; ++t) {
        const double delta = step_size(args, b, t, d);
        const double x = args.x.load(b, t, d);
        double y = args.D ? args.D(d) * x : 0.0;
        for (std::int64_t n = 0; n < state_dim; ++n) {
          h[n] = std::exp(delta * args.A(d, n)) * h[n] + delta * args.B.load(b, t, n) * x;
          y += args.C.load(b, t, n) * h[n];
        }
        if (args.z) {
          const double z = args.z.load(b, t, d);
          y *= z / (1.0 + std::exp(-z));
        }
        args.y.store(static_cast<float>(y), b, t, d);
      }
      for (std::int64_t n = 0; args.state && n < state_dim; ++n) {
        args.state.store(static_cast<float>(h[n]), b, d, n);
      }
    }
  }
}

}  // namespace chunkstate::reference
