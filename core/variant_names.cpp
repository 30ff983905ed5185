// SPDX-License-Identifier: Apache-2.0
#include "core/variant_names.hpp"

#include "kernels/ssd/variants.hpp"

namespace chunkstate {

std::vector<std::string> ssd_variant_names() {
  std::vector<std::string> names;
  for (const SsdVariant& variant : ssd_variants()) names.emplace_back(variant.name);
  return names;
}

bool ssd_variant_is_causal(std::string_view name) {
  const SsdVariant* variant = find_ssd_variant(name);
  return variant != nullptr && variant->causal();
}

}  // namespace chunkstate
