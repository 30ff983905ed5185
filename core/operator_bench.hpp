// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// Wall times of repeated runs of one thing, in seconds.
struct Timing {
  std::vector<double> seconds;  // in the order measured
  double median() const;
  double fastest() const;
  double slowest() const;
};

/// What this machine does at its best with this executor, measured now: the ceilings that shares
/// refer to.
struct MachinePeaks {
  double gemm_flops = 0;  // FLOP/s of a 1,024 x 4,096 x 4,096 product in `dtype`
  double copy_bytes =
      0;  // bytes read plus bytes written per second, copying memory beyond the caches
  double read_bytes = 0;  // bytes per second, summing memory beyond the caches; 0: not measured (cuda)
};
MachinePeaks measure_peaks(const Executor& exec, DType dtype);

struct SsdBenchCase {
  std::int64_t tokens = 1024;
  std::int64_t heads = 128;
  std::int64_t head_dim = 64;
  std::int64_t state_dim = 128;
  std::int64_t groups = 1;
  std::int64_t chunk_size = 256;
  std::int64_t lookback = 1;
  DType dtype = DType::fp32;
};

struct SsdBenchResult {
  std::string variant;
  Timing timing;
  double flops = 0;  // of the algorithm, causal
  double bytes = 0;  // least that must move
  double relative_error =
      0;  // max |y - reference| / max |reference| on a few heads of the same shape
};

/// Runs every named variant `repeats` times after one warm-up, variants in turn so that drift of
/// the machine falls on all of them alike, inputs rotated beyond the caches. Fresh random inputs,
/// outputs poisoned. Throws UsageError for an unknown variant or one that this backend lacks.
std::vector<SsdBenchResult> bench_ssd(const Executor& exec,
                                      const std::vector<std::string>& variants,
                                      const SsdBenchCase& shape, int repeats);

}  // namespace chunkstate
