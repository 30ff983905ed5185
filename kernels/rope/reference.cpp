// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/rope/rope.hpp"

namespace chunkstate::reference {

void rope(const RopeArgs& args) {
  const std::int64_t pairs = args.inverse_frequency.extent[0];
  for (std::int64_t t = 0; t < args.x.extent[0]; ++t) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float angle = static_cast<float>(args.positions(t)) * args.inverse_frequency(i);
      const double cosine = std::cos(static_cast<double>(angle));
      const double sine = std::sin(static_cast<double>(angle));
      for (std::int64_t h = 0; h < args.x.extent[1]; ++h) {
        const double first = args.x.load(t, h, i);
        const double second = args.x.load(t, h, i + pairs);
        args.x.store(static_cast<float>(first * cosine - second * sine), t, h, i);
        args.x.store(static_cast<float>(second * cosine + first * sine), t, h, i + pairs);
      }
    }
  }
}

}  // namespace chunkstate::reference
