// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::reference {

void gated_rms_norm(const GatedRmsNormArgs& args) {
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t width = channels / args.groups;
  const auto gated = [&](std::int64_t t, std::int64_t c) {
    const double z = args.z.load(t, c);
    return args.x.load(t, c) * (z / (1.0 + std::exp(-z)));
  };
  for (std::int64_t t = 0; t < args.x.extent[0]; ++t) {
    for (std::int64_t begin = 0; begin < channels; begin += width) {
      double squares = 0.0;
      for (std::int64_t c = begin; c < begin + width; ++c) squares += gated(t, c) * gated(t, c);
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(width) + args.epsilon);
      for (std::int64_t c = begin; c < begin + width; ++c) {
        args.y.store(static_cast<float>(args.weight.load(c) * (gated(t, c) * scale)), t, c);
      }
    }
  }
}

}  // namespace chunkstate::reference
