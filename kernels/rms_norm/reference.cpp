// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/rms_norm/rms_norm.hpp"

namespace chunkstate::reference {

void rms_norm(const RmsNormArgs& args) {
  const std::int64_t channels = args.x.extent[1];
  const ConstAnyView<2> normed = args.add ? ConstAnyView<2>(args.sum) : args.x;
  for (std::int64_t t = 0; t < args.x.extent[0]; ++t) {
    double squares = 0.0;
    for (std::int64_t c = 0; c < channels; ++c) {
      if (args.add) {
        const double sum = static_cast<double>(args.x.load(t, c)) + args.add.load(t, c);
        args.sum.store(static_cast<float>(sum), t, c);
      }
      const double x = normed.load(t, c);
      squares += x * x;
    }
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(channels) + args.epsilon);
    for (std::int64_t c = 0; c < channels; ++c) {
      const double y = args.weight.load(c) * (normed.load(t, c) * scale);
      args.y.store(static_cast<float>(y), t, c);
    }
  }
}

}  // namespace chunkstate::reference
