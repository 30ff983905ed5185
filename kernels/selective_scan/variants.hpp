// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/base/executor.hpp"

namespace chunkstate {

struct SelectiveScanArgs;

/// One way to compute selective_scan. All share one contract and differ in what they write to
/// memory on the way, and so in cost.
struct SelectiveScanVariant {
  std::string_view name;     // the word used in YAML, on the command line and in the results file
  std::string_view summary;  // one sentence
  float tolerance;           // largest error relative to max|y| that the tests accept, fp32 storage
  void (*cpu)(const Executor&, const SelectiveScanArgs&);
  void (*cuda)(const SelectiveScanArgs&, CUstream_st*);  // nullptr: built without CUDA
  /// Kernels that a call launches on a GPU; sweeps over memory that it makes on a CPU.
  std::int64_t (*launches)(const SelectiveScanArgs&);
  /// Bytes of scratch memory that `cuda` takes, from extents alone; nullptr: none.
  std::int64_t (*cuda_scratch)(const SelectiveScanArgs&) = nullptr;
};

/// Every variant, in the order in which help and tables list them.
std::span<const SelectiveScanVariant> selective_scan_variants();

/// nullptr if there is none of this name.
const SelectiveScanVariant* find_selective_scan_variant(std::string_view name);

}  // namespace chunkstate
