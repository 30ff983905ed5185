// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/hopper.cuh"

namespace chunkstate::hopper {

CUtensorMap bf16_tile_map(const void* data, std::int64_t columns, std::int64_t rows,
                          std::int64_t pitch, int box_rows, int boxes) {
  // Through the runtime, so that nothing needs to link the driver's library.
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                cudaEnableDefault, &result),
               "cuTensorMapEncodeTiled");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  CUtensorMap map;
  const bool several = boxes > 1;  // then the third dimension counts groups of 64 columns
  const cuuint64_t extents[3] = {static_cast<cuuint64_t>(several ? 64 : columns),
                                 static_cast<cuuint64_t>(rows),
                                 static_cast<cuuint64_t>(columns / 64)};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(pitch) * 2, 128};
  const cuuint32_t box[3] = {64, static_cast<cuuint32_t>(box_rows), static_cast<cuuint32_t>(boxes)};
  const cuuint32_t steps[3] = {1, 1, 1};
  const CUresult result = encode(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, several ? 3 : 2, const_cast<void*>(data), extents,
      strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw CudaError("cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result)) +
                    " for [" + std::to_string(rows) + ", " + std::to_string(columns) +
                    "] with pitch " + std::to_string(pitch));
  }
  return map;
}

}  // namespace chunkstate::hopper
