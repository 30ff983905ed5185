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

std::unique_ptr<const Product> make_product(const Products& products, const LinearArgs& args,
                                            CUstream_st* stream, bool autotune) {
  auto product = std::make_unique<Product>(products.library.get(), args);
  if (autotune) {
    const std::string name = "x " + describe(args.x) + ", weight " + describe(args.weight) +
                             (args.accumulate ? ", y += " : ", y = ") + describe(args.y);
    product->algorithm = search_algorithm(product->plan, args, *products.cache, name, stream);
    return product;
  }
  const auto offered = product->plan.offered(1);
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
        entry = products.known.emplace(key, make_product(products, args, stream, search)).first;
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
