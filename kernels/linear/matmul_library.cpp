// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/matmul_library.hpp"

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/workspace.cuh"
#include "kernels/linear/matmul_search.hpp"

namespace chunkstate::cuda {
namespace {

// What an algorithm is chosen by: types, autotune, accumulate, extents, pitches, alignments.
using Key = std::array<std::int64_t, 13>;
constexpr std::size_t tokens_of_key = 4;

// The library takes 60 us to name its favourite. A prompt that grows token by token, as without a
// cache, asks once in so many passes: for the length at the end of its step. So an algorithm
// depends on the length alone, not on those that came before.
constexpr std::int64_t token_step = 32;
constexpr std::int64_t exact_tokens = 64;  // below, a few tokens more may want other tiles

std::int64_t asked_tokens(std::int64_t tokens) {
  return tokens <= exact_tokens ? tokens : (tokens + token_step - 1) / token_step * token_step;
}

struct Product {
  Product(cublasLtHandle_t library, const LinearArgs& args) : plan(library, args) {}
  MatmulPlan plan;
  std::optional<MatmulAlgorithm> algorithm;
};

struct Products {
  std::mutex mutex;
  BlasLibrary library;
  std::optional<AlgorithmCache> cache;
  std::map<Key, std::unique_ptr<const Product>> known;
  std::map<Key, std::optional<MatmulAlgorithm>> chosen;  // of asked_tokens()
};

std::string device_name(int device) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, device), "linear device");
  return properties.name;
}

// The library's handle belongs to the device that was current when it was made.
Products& products_of(int device) {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<Products>> of_device;
  const std::lock_guard lock(mutex);
  auto& products = of_device[device];
  if (!products) {
    products = std::make_unique<Products>();
    cublasLtHandle_t library = nullptr;
    check_blas(cublasLtCreate(&library), "linear library");
    products->library.reset(library);
    products->cache.emplace(device_name(device) + ", cublasLt " +
                            std::to_string(cublasLtGetVersion()));
  }
  return *products;
}

template <class Byte>
std::string describe(const BasicAnyView<Byte, 2>& view) {
  return std::string(name_of(view.dtype)) + ' ' + std::to_string(view.extent[0]) + 'x' +
         std::to_string(view.extent[1]) + '/' + std::to_string(view.stride[0]) + '@' +
         std::to_string(alignment_of(view));
}

bool recording(CUstream_st* stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status), "linear capture");
  return status != cudaStreamCaptureStatusNone;
}

// As `args`, with another number of tokens: sizes alone.
LinearArgs with_tokens(LinearArgs args, std::int64_t tokens) {
  args.x.extent[0] = args.y.extent[0] = tokens;
  return args;
}

std::optional<MatmulAlgorithm> choose_algorithm(const Products& products, const MatmulPlan& plan,
                                                const LinearArgs& args, CUstream_st* stream,
                                                bool autotune) {
  const LinearArgs asked = with_tokens(args, asked_tokens(args.x.extent[0]));
  if (autotune) {
    const std::string name = "x " + describe(asked.x) + ", weight " + describe(args.weight) +
                             (args.accumulate ? ", y += " : ", y = ") + describe(asked.y);
    return search_algorithm(plan, args, *products.cache, name, stream);
  }
  const auto offered = MatmulPlan(products.library.get(), asked).offered(1);
  if (offered.empty()) return std::nullopt;
  return offered.front();
}

std::unique_ptr<const Product> make_product(Products& products, Key key, const LinearArgs& args,
                                            CUstream_st* stream, bool autotune) {
  auto product = std::make_unique<Product>(products.library.get(), args);
  key[tokens_of_key] = asked_tokens(key[tokens_of_key]);
  auto chosen = products.chosen.find(key);
  if (chosen == products.chosen.end()) {
    chosen = products.chosen
                 .emplace(key, choose_algorithm(products, product->plan, args, stream, autotune))
                 .first;
  }
  product->algorithm = chosen->second;
  if (!product->algorithm || product->plan.accepts(*product->algorithm)) return product;
  const auto offered = product->plan.offered(1);
  product->algorithm.reset();
  if (!offered.empty()) product->algorithm = offered.front();
  return product;
}

}  // namespace

bool linear_by_library(const LinearArgs& args, CUstream_st* stream, bool autotune) {
  const bool types_fit = args.x.dtype == args.weight.dtype &&
                         (args.y.dtype == args.x.dtype || args.y.dtype == DType::fp32);
  if (!types_fit || args.bias) return false;

  int device = 0;
  check_cuda(cudaGetDevice(&device), "linear device");
  Products& products = products_of(device);
  Key key{static_cast<int>(args.x.dtype),
          static_cast<int>(args.y.dtype),
          autotune,
          args.accumulate,
          args.x.extent[0],
          args.x.extent[1],
          args.weight.extent[0],
          args.x.stride[0],
          args.weight.stride[0],
          args.y.stride[0],
          alignment_of(args.x),
          alignment_of(args.weight),
          alignment_of(args.y)};
  const Product* product = nullptr;
  {
    const std::lock_guard lock(products.mutex);
    auto entry = products.known.find(key);
    if (entry == products.known.end()) {
      // Nothing can be timed while a stream records; what is recorded has run before.
      const bool search = autotune && !recording(stream);
      key[2] = search;
      entry = products.known.find(key);
      if (entry == products.known.end()) {
        entry =
            products.known.emplace(key, make_product(products, key, args, stream, search)).first;
      }
    }
    product = entry->second.get();
  }
  if (!product->algorithm) return false;

  const Workspace workspace(static_cast<std::int64_t>(product->algorithm->workspace), stream);
  check_blas(product->plan.run(args, *product->algorithm, workspace.as<void>(), stream),
             "linear product");
  return true;
}

}  // namespace chunkstate::cuda
