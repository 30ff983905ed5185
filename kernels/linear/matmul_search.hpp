// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/linear/algorithm_cache.hpp"
#include "kernels/linear/matmul_plan.hpp"

namespace chunkstate::cuda {

/// The fastest of the algorithms that the library offers for a product, timed on its own buffers,
/// or what an earlier search found: `cache` is asked first and told afterwards. y is as before when
/// it returns if the product accumulates, and undefined if not. Takes up to a second; `stream` must
/// not be recording. Throws CudaError. Empty where there is no algorithm.
std::optional<MatmulAlgorithm> search_algorithm(const MatmulPlan& plan, const LinearArgs& args,
                                                const AlgorithmCache& cache,
                                                const std::string& product, CUstream_st* stream);

/// What an earlier search found, if it still runs here.
std::optional<MatmulAlgorithm> found_algorithm(const MatmulPlan& plan, const AlgorithmCache& cache,
                                               const std::string& product);

}  // namespace chunkstate::cuda
