// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include <cuda_runtime_api.h>

#include <cstdio>

#include "tests/catch.hpp"

// The main of tests that need a GPU. Without one they are skipped, which CTest counts as such.
int main(int argc, char** argv) {
  constexpr int skipped = 77;
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device (%s)\n", cudaGetErrorString(error));
    return skipped;
  }
  return Catch::Session().run(argc, argv);
}
