// SPDX-License-Identifier: Apache-2.0
#include <cblas.h>

#include <algorithm>
#include <vector>

#include "kernels/linear/linear.hpp"

namespace chunkstate::cpu {
namespace {

constexpr std::int64_t block_rows = 256;  // of the weight: fixed, so that threads change no result

}  // namespace

void linear(const Executor& exec, const LinearArgs& args) {
  const std::int64_t tokens = args.x.extent[0];
  const std::int64_t in_features = args.x.extent[1];
  const std::int64_t out_features = args.weight.extent[0];
  openblas_set_num_threads(1);  // our own loop below is the parallel one
  std::vector<float> x(static_cast<std::size_t>(tokens * in_features));
#pragma omp parallel for num_threads(exec.threads)
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t i = 0; i < in_features; ++i) x[t * in_features + i] = args.x.load(t, i);
  }
  const std::int64_t blocks = (out_features + block_rows - 1) / block_rows;
#pragma omp parallel for num_threads(exec.threads) schedule(dynamic)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t begin = block * block_rows;
    const std::int64_t rows = std::min(block_rows, out_features - begin);
    std::vector<float> weight(static_cast<std::size_t>(rows * in_features));
    std::vector<float> y(static_cast<std::size_t>(tokens * rows));
    for (std::int64_t o = 0; o < rows; ++o) {
      for (std::int64_t i = 0; i < in_features; ++i) {
        weight[o * in_features + i] = args.weight.load(begin + o, i);
      }
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(tokens),
                static_cast<int>(rows), static_cast<int>(in_features), 1.0F, x.data(),
                static_cast<int>(in_features), weight.data(), static_cast<int>(in_features), 0.0F,
                y.data(), static_cast<int>(rows));
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t o = 0; o < rows; ++o) {
        float sum = y[t * rows + o];
        if (args.bias) sum += args.bias.load(begin + o);
        if (args.accumulate) sum += args.y.load(t, begin + o);
        args.y.store(sum, t, begin + o);
      }
    }
  }
}

}  // namespace chunkstate::cpu
