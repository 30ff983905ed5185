// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "kernels/gated_rms_norm/gated_rms_norm.hpp"

namespace chunkstate::reference {
namespace {

double gated(const GatedRmsNormArgs& args, std::int64_t t, std::int64_t c) {
  const double z = args.z.load(t, c);
  return args.x.load(t, c) * (z / (1.0 + std::exp(-z)));
}

double sum_of_squares(const GatedRmsNormArgs& args, std::int64_t t, std::int64_t begin,
                      std::int64_t end) {
  double squares = 0.0;
  for (std::int64_t c = begin; c < end; ++c) {
    squares += gated(args, t, c) * gated(args, t, c);
  }
  return squares;
}

}  // namespace

void gated_rms_norm(const GatedRmsNormArgs& args) {
  const std::int64_t channels = args.x.extent[1];
  const std::int64_t width = channels / args.groups;
  const std::int64_t all = args.squares ? args.squares_channels : width;
  for (std::int64_t t = 0; t < args.x.extent[0]; ++t) {
    for (std::int64_t begin = 0; begin < channels; begin += width) {
      const double squares =
          args.squares ? args.squares(t) : sum_of_squares(args, t, begin, begin + width);
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(all) + args.epsilon);
      for (std::int64_t c = begin; c < begin + width; ++c) {
        args.y.store(static_cast<float>(args.weight.load(c) * (gated(args, t, c) * scale)), t, c);
      }
    }
  }
}

void gated_squares(const GatedRmsNormArgs& args) {
  for (std::int64_t t = 0; t < args.x.extent[0]; ++t) {
    args.squares(t) = static_cast<float>(sum_of_squares(args, t, 0, args.x.extent[1]));
  }
}

}  // namespace chunkstate::reference
