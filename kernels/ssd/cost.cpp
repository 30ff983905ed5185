// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/cost.hpp"

#include "kernels/ssd/plan.hpp"

namespace chunkstate {
namespace {

template <class AView>
double bytes_of_view(const AView& view) {
  double elements = 1.0;
  for (const std::int64_t extent : view.extent) elements *= static_cast<double>(extent);
  return elements * static_cast<double>(bytes_of(view.dtype));
}

}  // namespace

SsdCost ssd_cost(const SsdVariant& variant, const SsdArgs& args) {
  const auto rows = static_cast<double>(args.x.extent[1] * args.x.extent[2]);  // heads head_dim
  const auto columns =
      static_cast<double>(args.B.extent[1] * args.B.extent[2]);  // groups state_dim
  const auto state = rows * static_cast<double>(args.B.extent[2]);
  SsdCost cost{};
  bool seen = static_cast<bool>(args.state);  // the block sees a state
  const std::vector<SsdBlock> blocks = plan_blocks(variant.semantics, args);
  const bool forgets_all = variant.semantics == SsdSemantics::independent ||
                           (variant.semantics == SsdSemantics::lookback && args.lookback == 0);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const SsdBlock& block = blocks[b];
    const auto length = static_cast<double>(block.length);
    if (block.opens_chunk && forgets_all) seen = false;
    if (!variant.causal()) seen = true;
    cost.flops += length * (length + 1.0) * (rows + columns);
    if (seen) cost.flops += 2.0 * length * state;
    const bool last = b + 1 == blocks.size();
    const bool kept = !variant.causal() ||
                      (last ? static_cast<bool>(args.state) : !block.closes_chunk || !forgets_all);
    if (kept) cost.flops += 2.0 * length * state;
    seen = true;
  }
  cost.bytes = bytes_of_view(args.x) + bytes_of_view(args.dt) + bytes_of_view(args.B) +
               bytes_of_view(args.C) + bytes_of_view(args.y);
  if (args.state) cost.bytes += 2.0 * bytes_of_view(args.state);
  return cost;
}

}  // namespace chunkstate
