# Tests and benchmarks that need a GPU. Their main returns 77 without one: CTest counts that as skipped.
chunkstate_test(kernels_cuda_test
  SOURCES gpu_test_main.cpp kernels/cuda_test.cpp kernels/cuda_selective_scan_test.cpp kernels/cuda_ssd_test.cpp
          kernels/cuda_peer_sum_test.cpp kernels/cuda_linear_step_test.cpp kernels/cuda_step_test.cpp kernels/cuda_trace_test.cpp
          kernels/cuda_library_test.cpp
  LINK chunkstate_kernels CUDA::cudart_static LABELS gpu)
set_tests_properties(kernels_cuda_test PROPERTIES SKIP_RETURN_CODE 77)

add_executable(kernels_cuda_bench kernels/cuda_bench.cpp kernels/cuda_bench_scans.cpp)
target_link_libraries(kernels_cuda_bench PRIVATE chunkstate_kernels CUDA::cudart_static)

if(NOT CHUNKSTATE_KERNELS_ONLY)
  chunkstate_test(core_cuda_test
    SOURCES gpu_test_main.cpp core/cuda_model_test.cpp core/cuda_steps_test.cpp core/cuda_memory_test.cpp
    LINK chunkstate_core CUDA::cudart_static LABELS gpu)
  set_tests_properties(core_cuda_test PROPERTIES SKIP_RETURN_CODE 77)
endif()

# Splits over several GPUs: tests/multi_gpu.sh starts it, because it needs a GPU for each rank.
if(CHUNKSTATE_WITH_NCCL)
  add_executable(multi_gpu_test core/multi_gpu_test.cpp core/multi_gpu_sums.cpp)
  target_link_libraries(multi_gpu_test PRIVATE chunkstate_core CUDA::cudart_static)
  target_compile_definitions(multi_gpu_test PRIVATE CHUNKSTATE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
endif()
