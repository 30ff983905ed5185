// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace chunkstate {

// What experiment files may say about variants of the scans, read from the tables in
// kernels/ssd/variants.cpp and kernels/selective_scan/variants.cpp: experiments/ does not include
// kernels/.

/// Names in the order of the table.
std::vector<std::string> ssd_variant_names();
/// The same of the Mamba-1 scan.
std::vector<std::string> selective_scan_variant_names();
/// Both.
std::vector<std::string> all_variant_names();

/// Whether a sequence can be continued from a cached state. False for an unknown name.
bool ssd_variant_is_causal(std::string_view name);

}  // namespace chunkstate
