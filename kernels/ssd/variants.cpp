// SPDX-License-Identifier: Apache-2.0
#include "kernels/ssd/variants.hpp"

#include "kernels/ssd/ssd.hpp"

namespace chunkstate {
namespace {

template <SsdSemantics semantics>
void by_definition(const Executor&, const SsdArgs& args) {
  reference::ssd_scan(semantics, args);
}

constexpr SsdVariant variants[] = {
    {"sequential", "Token by token: the definition.", SsdSemantics::exact, 1e-5F,
     by_definition<SsdSemantics::exact>, nullptr},
    {"default", "Stage by stage with materialised intermediates: the baseline.",
     SsdSemantics::exact, 2e-5F, by_definition<SsdSemantics::exact>, nullptr},
    {"default_optimized", "Fused, blocked and vectorised; exact for every chunk size.",
     SsdSemantics::exact, 2e-5F, by_definition<SsdSemantics::exact>, nullptr},
    {"independent", "Every chunk starts from a zero state.", SsdSemantics::independent, 2e-5F,
     by_definition<SsdSemantics::independent>, nullptr},
    {"lookback", "The state of the current and at most k previous chunks.", SsdSemantics::lookback,
     2e-5F, by_definition<SsdSemantics::lookback>, nullptr},
    {"own_end_state",
     "Every token also reads its own chunk's end state, as the seed project's code does; not "
     "causal.",
     SsdSemantics::own_end_state, 2e-5F, by_definition<SsdSemantics::own_end_state>, nullptr},
};

}  // namespace

std::span<const SsdVariant> ssd_variants() { return variants; }

const SsdVariant* find_ssd_variant(std::string_view name) {
  for (const SsdVariant& variant : variants) {
    if (variant.name == name) return &variant;
  }
  return nullptr;
}

std::int64_t state_slots(const SsdVariant& variant, std::int64_t lookback) {
  return variant.semantics == SsdSemantics::lookback ? lookback + 1 : 1;
}

}  // namespace chunkstate
