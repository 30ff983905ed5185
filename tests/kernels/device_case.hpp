// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/base/executor.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_array.hpp"

namespace chunkstate::test {

inline Executor device() { return {Backend::cuda, 1, nullptr}; }
inline Executor reference() { return {Backend::reference}; }

// Which side's views an argument struct is to hold: `args(on_device)`, `args(on_host)`.
inline constexpr auto on_device = [](auto& array) { return array.device(); };
inline constexpr auto on_host = [](auto& array) { return array.host(); };

/// An fp32 array on the device.
template <int Rank>
View<float, Rank> floats(DeviceArray<Rank>& array) {
  return array.device().template as<float>();
}

/// `count` seeds from `first` on, or as many as CHUNKSTATE_TEST_SEEDS says: fewer of them under
/// compute-sanitizer (tests/gpu.sh), which takes tens of times as long.
inline std::vector<unsigned> seeds(unsigned first, unsigned count) {
  const char* const wanted = std::getenv("CHUNKSTATE_TEST_SEEDS");
  std::vector<unsigned> result(wanted == nullptr ? count
                                                 : static_cast<unsigned>(std::stoul(wanted)));
  REQUIRE(!result.empty());
  std::iota(result.begin(), result.end(), first);
  return result;
}

/// One random case: draws shapes, storage types, strides and data, and compares two
/// implementations. A third of the cases use one 16-bit type throughout, so that its fast paths are
/// reached; a third are fp32 throughout, and the rest mix.
class DeviceCase {
 public:
  explicit DeviceCase(unsigned seed) : random(seed), seed_(seed) {}

  std::int64_t pick(std::initializer_list<std::int64_t> choices) {
    return choices.begin()[random() % choices.size()];
  }
  bool flip() { return random() % 2 == 0; }

  /// Mostly packed; sometimes with strides that allow vectors, sometimes with ones that do not.
  template <int Rank>
  DeviceArray<Rank> array(const std::array<std::int64_t, Rank>& extent) {
    constexpr DType types[] = {DType::fp32, DType::bf16, DType::fp16};
    DType dtype = types[random() % 3];
    if (seed_ % 3 == 0) dtype = DType::fp32;
    if (seed_ % 3 == 1) dtype = seed_ % 2 == 0 ? DType::fp16 : DType::bf16;
    return array<Rank>(extent, dtype, pick({0, 0, 0, 8, 3}));
  }
  template <int Rank>
  DeviceArray<Rank> array(const std::array<std::int64_t, Rank>& extent, DType dtype,
                          std::int64_t padding) {
    all_fp32_ = all_fp32_ && dtype == DType::fp32;
    types_ += std::string(name_of(dtype)) + " ";
    return DeviceArray<Rank>(extent, dtype, padding);
  }

  /// Normal numbers of this size.
  template <int Rank>
  void fill(DeviceArray<Rank>& array, float size) {
    std::normal_distribution<float> normal(0.0F, size);
    array.fill([&] { return normal(random); });
  }

  /// Runs the device twice from the same start, then the reference, and compares `outputs`.
  template <class OnDevice, class OnHost, class... Outputs>
  void check(OnDevice run_device, OnHost run_reference, Outputs&... outputs) {
    CAPTURE(types_);
    std::vector<std::vector<std::byte>> first, second;
    for (auto* results : {&first, &second}) {
      (outputs.upload(), ...);
      run_device();
      require_cuda(cudaDeviceSynchronize());
      (results->push_back(outputs.download()), ...);
    }
    CHECK(first == second);
    run_reference();
    // fp32 results of 16-bit operands may pass through tensor cores.
    std::size_t k = 0;
    const double tolerance = all_fp32_ ? 1e-5 : 1e-2;
    for (const double error : {outputs.error(first[k++])...}) {
      CAPTURE(error, tolerance);
      CHECK(error <= tolerance);
    }
  }

  std::mt19937 random;

 private:
  unsigned seed_;
  bool all_fp32_ = true;
  std::string types_;
};

}  // namespace chunkstate::test
