// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "kernels/attention/attention.hpp"
#include "kernels/attention/flash.cuh"
#include "kernels/linear/linear.hpp"
#include "kernels/linear/matmul_search.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"
#include "tests/temporary_folder.hpp"

// What NVIDIA's libraries do for the operators: a searched product, attention through cuDNN and, at
// the same shapes, the kernel that stands in for it.
namespace chunkstate::test {
namespace {

struct ProductCase {
  DeviceCase c;
  DType dtype;
  std::int64_t tokens, in_features, out_features;
  bool accumulate;
  DeviceArray<2> x, weight, y;

  explicit ProductCase(unsigned seed)
      : c(seed),
        dtype(seed % 2 == 0 ? DType::bf16 : DType::fp16),
        tokens(c.pick({9, 64, 200, 513})),
        in_features(c.pick({64, 256, 1000})),
        out_features(c.pick({64, 328, 1024})),
        accumulate(c.flip()),
        x(c.array<2>({tokens, in_features}, dtype, c.pick({0, 8}))),
        weight(c.array<2>({out_features, in_features}, dtype, 0)),
        y(c.array<2>({tokens, out_features}, dtype, c.pick({0, 8}))) {
    c.fill(x, 1.0F), c.fill(weight, 1.0F);
    if (accumulate) c.fill(y, 30.0F);
  }
  template <class Side>
  LinearArgs args(Side side) {
    return {side(x), side(weight), {}, side(y), accumulate};
  }
};

TEST_CASE("A searched product matches the reference") {
  Executor searching = device();
  searching.autotune = true;
  for (const unsigned seed : seeds(0, 12)) {
    ProductCase p(seed);
    CAPTURE(seed, p.tokens, p.in_features, p.out_features, p.accumulate);
    p.c.check([&] { linear(searching, p.args(on_device)); },
              [&] { linear(reference(), p.args(on_host)); }, p.y);
  }
}

TEST_CASE("A search leaves an accumulating product's y alone, and the next one finds its result") {
  const TemporaryFolder folder;
  const AlgorithmCache cache(folder.path(), "this device");
  cublasLtHandle_t handle = nullptr;
  REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
  const cuda::BlasLibrary library(handle);
  for (const unsigned seed : seeds(0, 8)) {
    ProductCase p(seed);
    const LinearArgs args = p.args(on_device);
    const cuda::MatmulPlan plan(library.get(), args);
    CAPTURE(seed, p.tokens, p.in_features, p.out_features, p.accumulate);
    const std::string name = "product " + std::to_string(seed);
    CHECK_FALSE(cuda::found_algorithm(plan, cache, name));
    const auto found = cuda::search_algorithm(plan, args, cache, name, nullptr);
    require_cuda(cudaDeviceSynchronize());
    REQUIRE(found);
    if (p.accumulate) {
      CHECK(p.y.download() == p.y.image);
    }
    const auto again = cuda::found_algorithm(plan, cache, name);
    REQUIRE(again);
    CHECK(std::equal(std::begin(found->algorithm.data), std::end(found->algorithm.data),
                     std::begin(again->algorithm.data)));
    CHECK(found->workspace == again->workspace);
  }
}

TEST_CASE("Attention of a prompt matches the reference, through cuDNN and without") {
  std::set<std::string> providers;
  for (const unsigned seed : seeds(0, 16)) {
    DeviceCase c(seed);
    const DType dtype = c.flip() ? DType::bf16 : DType::fp16;
    const std::int64_t tokens = c.pick({256, 257, 320, 511}),
                       keys = tokens + c.pick({0, 0, 1, 64, 129});
    const std::int64_t kv_heads = c.pick({1, 2}), heads = kv_heads * c.pick({1, 4});
    const std::int64_t head_dim = c.pick({64, 128}), padding = c.pick({0, 0, 8});
    auto q = c.array<3>({tokens, heads, head_dim}, dtype, padding);
    auto y = c.array<3>({tokens, heads, head_dim}, dtype, padding);
    auto k = c.array<3>({keys, kv_heads, head_dim}, dtype, padding);
    auto v = c.array<3>({keys, kv_heads, head_dim}, dtype, padding);
    c.fill(q, 2.0F), c.fill(k, 1.0F), c.fill(v, 1.0F);
    const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
    const auto args = [&](auto side) {
      return AttentionArgs{side(q), side(k), side(v), scale, side(y)};
    };
    const auto on_reference = [&] { attention(reference(), args(on_host)); };
    CAPTURE(seed, tokens, keys, heads, kv_heads, head_dim, padding, name_of(dtype));
    c.check([&] { CHECK(cuda::flash_attention(args(on_device), nullptr)); }, on_reference, y);
    c.check([&] { attention(device(), args(on_device)); }, on_reference, y);
    providers.insert((keys == tokens ? "whole prompts: " : "with a past: ") +
                     attention_provider(device(), args(on_device)));
  }
  for (const std::string& provider : providers) WARN(provider);  // says what was tested
}

}  // namespace
}  // namespace chunkstate::test
