// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/attention/attention.hpp"
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
  double read_bytes =
      0;  // bytes per second, summing memory beyond the caches; 0: not measured (cuda)
  double ceiling_flops = 0;  // FLOP/s of the innermost loop of bf16 products on numbers in the
                             // first cache; 0: another dtype or a machine without such products
};
MachinePeaks measure_peaks(const Executor& exec, DType dtype);
/// MachinePeaks::ceiling_flops alone, in a few milliseconds; the fastest of `repeats`.
double measure_tile_loop(const Executor& exec, DType dtype, int repeats);
/// The better of each: a machine that others share is measured more than once.
MachinePeaks best_of(const MachinePeaks& a, const MachinePeaks& b);

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

/// One row of a benchmark of `linear` or `attention`.
struct ProductBenchResult {
  std::string shape;
  Timing timing;
  double flops = 0;
  double bytes = 0;           // least that must move
  double relative_error = 0;  // of a few rows, as in SsdBenchResult
  double first_seconds = 0;   // of the first call, with what is made on first use
  std::string provider;       // attention: who computed it
  // attention only: what this method does beyond the least
  double method_flops = 0;
  double traffic = 0;  // bytes through the level of memory that holds `footprint`
  std::int64_t footprint =
      0;  // bytes: naive's scores, or the keys and values that flash reads again
  std::int64_t scores_bytes = 0;
};

/// y [tokens, out_features] = x weight^T.
struct LinearBenchCase {
  std::int64_t tokens = 1;
  std::int64_t out_features = 4096;
  std::int64_t in_features = 4096;
};
ProductBenchResult bench_linear(const Executor& exec, const LinearBenchCase& shape, DType dtype,
                                int repeats);

/// A prompt of `tokens` on an empty cache.
struct AttentionBenchCase {
  std::int64_t tokens = 1024;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 8;
  std::int64_t head_dim = 128;
  AttentionChoice choice;
};
ProductBenchResult bench_attention(const Executor& exec, const AttentionBenchCase& shape,
                                   DType dtype, int repeats);

/// What one level of the memory hierarchy delivers to all cores or multiprocessors together.
struct MemoryBenchResult {
  std::string level;
  std::int64_t footprint = 0;  // bytes in use; 0: registers
  double bytes_per_second = 0;
};
std::vector<MemoryBenchResult> bench_memory(const Executor& exec);

/// What bounds an attention, by its rates in the same run: "arithmetic", or the level of memory
/// that its footprint needs, whichever takes longer; and the share of the measured time that this
/// is.
struct AttentionBound {
  std::string by;
  double share = 0;
};
AttentionBound attention_bound(const ProductBenchResult& result, const MachinePeaks& peaks,
                               const std::vector<MemoryBenchResult>& levels);

/// Runs every named variant `repeats` times after one warm-up, variants in turn so that drift of
/// the machine falls on all of them alike, inputs rotated beyond the caches. Fresh random inputs,
/// outputs poisoned. Throws UsageError for an unknown variant or one that this backend lacks.
std::vector<SsdBenchResult> bench_ssd(const Executor& exec,
                                      const std::vector<std::string>& variants,
                                      const SsdBenchCase& shape, int repeats);

}  // namespace chunkstate
