// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/silu_mul/silu_mul.hpp"

namespace chunkstate::reference {

void silu_mul(const SiluMulArgs& args) {
  for (std::int64_t t = 0; t < args.gate.extent[0]; ++t) {
    for (std::int64_t c = 0; c < args.gate.extent[1]; ++c) {
      const double gate = args.gate.load(t, c);
      const double y = gate / (1.0 + std::exp(-gate)) * args.up.load(t, c);
      args.y.store(static_cast<float>(y), t, c);
    }
  }
}

}  // namespace chunkstate::reference
