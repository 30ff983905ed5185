# Sources of the CUDA backend.
set(cuda_sources
  base/hopper.cu base/memory_probe.cu base/workspace.cu
  attention/attention_library.cpp attention/cuda.cu attention/flash.cu attention/naive.cu
  attention/step.cu attention/step_naive.cu
  conv1d/cuda.cu embedding/cuda.cu gated_rms_norm/cuda.cu
  linear/cuda.cu linear/linear_step.cu linear/matmul_library.cpp linear/matmul_plan.cpp
  linear/matmul_search.cpp linear/matrix_vector.cu
  peer_sum/cuda.cu rms_norm/cuda.cu rope/cuda.cu sampling/greedy_step.cu silu_mul/cuda.cu
  selective_scan/cuda.cu selective_scan/eager.cu
  synthetic/cuda.cu
  ssd/step.cu ssd/scan_common.cu
  ssd/variants/chunked.cu ssd/variants/default.cu ssd/variants/hopper_scan.cu
  ssd/variants/sequential.cu)
