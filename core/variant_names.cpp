// SPDX-License-Identifier: Apache-2.0
#include "core/variant_names.hpp"

#include "kernels/selective_scan/variants.hpp"
#include "kernels/ssd/variants.hpp"

namespace chunkstate {

std::vector<std::string> ssd_variant_names() {
  std::vector<std::string> names;
  for (const SsdVariant& variant : ssd_variants()) names.emplace_back(variant.name);
  return names;
}

std::vector<std::string> selective_scan_variant_names() {
  std::vector<std::string> names;
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    names.emplace_back(variant.name);
  }
  return names;
}

std::vector<std::string> all_variant_names() {
  std::vector<std::string> names = ssd_variant_names();
  for (std::string& name : selective_scan_variant_names()) names.push_back(std::move(name));
  return names;
}

bool ssd_variant_is_causal(std::string_view name) {
  const SsdVariant* variant = find_ssd_variant(name);
  return variant != nullptr ? variant->causal() : find_selective_scan_variant(name) != nullptr;
}

}  // namespace chunkstate
