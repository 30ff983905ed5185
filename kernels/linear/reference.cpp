// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/linear.hpp"

namespace chunkstate::reference {

void linear(const LinearArgs& args) {
  for (std::int64_t t = 0; t < args.y.extent[0]; ++t) {
    for (std::int64_t o = 0; o < args.y.extent[1]; ++o) {
      double sum = args.bias ? args.bias.load(o) : 0.0;
      for (std::int64_t i = 0; i < args.x.extent[1]; ++i) {
        sum += static_cast<double>(args.weight.load(o, i)) * args.x.load(t, i);
      }
      sum *= args.scale;
      if (args.accumulate) sum += args.y.load(t, o);
      args.y.store(static_cast<float>(sum), t, o);
    }
  }
}

}  // namespace chunkstate::reference
