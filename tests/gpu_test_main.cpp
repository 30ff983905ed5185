// SPDX-License-Identifier: Apache-2.0
#define CATCH_CONFIG_RUNNER
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>

#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

// The main of tests that need a GPU. Without one they are skipped, which CTest counts as such.
int main(int argc, char** argv) {
  constexpr int skipped = 77;
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess || devices == 0) {
    std::printf("skipped: no CUDA device (%s)\n", cudaGetErrorString(error));
    return skipped;
  }
  const chunkstate::TemporaryFolder cache;  // not the user's
  ::setenv("XDG_CACHE_HOME", cache.path().c_str(), 1);
  return Catch::Session().run(argc, argv);
}
