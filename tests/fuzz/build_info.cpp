// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/provenance.hpp"

namespace chunkstate {

/// The build asks git for the real one; no fuzzed parser reads it.
const BuildInfo& build_info() {
  static const BuildInfo info;
  return info;
}

}  // namespace chunkstate
