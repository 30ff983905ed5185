// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/bench/operator_bench.hpp"

namespace chunkstate {

/// The Mamba-1 scan of the fusion study, with bias, softplus, skip and gate.
struct SelectiveScanBenchCase {
  std::int64_t batch = 1;
  std::int64_t tokens = 512;
  std::int64_t channels = 1024;
  std::int64_t state_dim = 16;
  std::int64_t chunk_size = 256;
  DType dtype = DType::fp32;
};

struct SelectiveScanBenchResult {
  std::string variant;
  Timing timing;              // of one call
  double bytes = 0;           // x, dt, B, C, z read once, y written once
  std::int64_t launches = 0;  // kernels on a GPU, sweeps over memory on a CPU
  double relative_error = 0;  // max |y - reference| / max |reference| of a few channels
};

/// As bench_ssd. On a GPU a measurement is of as many calls as take about a millisecond. Throws
/// UsageError for an unknown variant or one that this backend lacks.
std::vector<SelectiveScanBenchResult> bench_selective_scan(const Executor& exec,
                                                           const std::vector<std::string>& variants,
                                                           const SelectiveScanBenchCase& shape,
                                                           int repeats);

}  // namespace chunkstate
