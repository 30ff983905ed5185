// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/base/view.hpp"

namespace chunkstate::test {

inline void require_cuda(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

/// Device memory with a host image of it.
class DeviceBytes {
 public:
  explicit DeviceBytes(std::size_t bytes) : image(bytes) {
    require_cuda(cudaMalloc(&data_, bytes + 1));
  }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  void upload() {
    require_cuda(cudaMemcpy(data_, image.data(), image.size(), cudaMemcpyHostToDevice));
  }
  std::vector<std::byte> download() const {
    std::vector<std::byte> bytes(image.size());
    require_cuda(cudaMemcpy(bytes.data(), data_, bytes.size(), cudaMemcpyDeviceToHost));
    return bytes;
  }

  std::vector<std::byte> image;

 protected:
  std::byte* data() const { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
};

/// An array on the device in storage type `dtype`, and the same values on the host in fp32 for the
/// reference. Rows (the last dimension) are `padding` elements apart. Starts as NaN, padding
/// included, so that what is never written, or read where it should not be, shows.
template <int Rank>
class DeviceArray : public DeviceBytes {
 public:
  DeviceArray(const std::array<std::int64_t, Rank>& extent, DType dtype, std::int64_t padding = 0)
      : DeviceBytes(static_cast<std::size_t>(spread(extent, padding)) * bytes_of(dtype)),
        extent_(extent),
        dtype_(dtype),
        padding_(Rank > 1 ? padding : 0),
        host_(static_cast<std::size_t>(spread(extent, 0)),
              std::numeric_limits<float>::quiet_NaN()) {
    std::memset(image.data(), 0xFF, image.size());
    upload();
  }

  /// Draws every element, rounded to the storage type.
  void fill(const std::function<float()>& draw) {
    const AnyView<Rank> view{image.data(), dtype_, extent_, strides()};
    for_each([&](auto... index) {
      view.store(draw(), index...);
      host()(index...) = view.load(index...);
    });
    upload();
  }

  AnyView<Rank> device() const { return {data(), dtype_, extent_, strides()}; }
  View<float, Rank> host() { return {host_.data(), extent_}; }

  /// ||device - host|| / ||host||; infinite if the device holds a NaN or wrote to the padding.
  double error(const std::vector<std::byte>& bytes) {
    const ConstAnyView<Rank> view{bytes.data(), dtype_, extent_, strides()};
    double difference = 0.0, norm = 0.0;
    for_each([&](auto... index) {
      const double expected = host()(index...);
      const double found = view.load(index...);
      difference += (found - expected) * (found - expected);
      norm += expected * expected;
    });
    if (!std::isfinite(difference) || !padding_intact(bytes)) {
      return std::numeric_limits<double>::infinity();
    }
    return norm > 0.0 ? std::sqrt(difference / norm) : std::sqrt(difference);
  }

 private:
  static std::int64_t spread(const std::array<std::int64_t, Rank>& extent, std::int64_t padding) {
    std::int64_t rows = 1;
    for (int d = 0; d + 1 < Rank; ++d) rows *= extent[d];
    return rows * (extent[Rank - 1] + (Rank > 1 ? padding : 0));
  }
  std::array<std::int64_t, Rank> strides() const {
    auto padded = extent_;
    padded[Rank - 1] += padding_;
    return packed_stride<Rank>(padded);
  }
  bool padding_intact(const std::vector<std::byte>& bytes) const {
    const std::size_t size = bytes_of(dtype_);
    const auto row = static_cast<std::size_t>(extent_[Rank - 1] + padding_) * size;
    for (std::size_t b = 0; row > 0 && b < bytes.size(); ++b) {
      const bool in_padding = b % row >= static_cast<std::size_t>(extent_[Rank - 1]) * size;
      if (in_padding && bytes[b] != std::byte{0xFF}) return false;
    }
    return true;
  }
  template <class Visit, class... Index>
  void for_each(Visit visit, Index... index) const {
    if constexpr (sizeof...(Index) == Rank) {
      visit(index...);
    } else {
      for (std::int64_t i = 0; i < extent_[sizeof...(Index)]; ++i) for_each(visit, index..., i);
    }
  }

  std::array<std::int64_t, Rank> extent_;
  DType dtype_;
  std::int64_t padding_;
  std::vector<float> host_;
};

/// A vector of plain values on both sides.
template <class T>
class DeviceVector : public DeviceBytes {
 public:
  explicit DeviceVector(std::vector<T> values)
      : DeviceBytes(values.size() * sizeof(T)), values_(std::move(values)) {
    std::memcpy(image.data(), values_.data(), image.size());
    upload();
  }
  View<const T, 1> device() const {
    return {reinterpret_cast<const T*>(data()), {static_cast<std::int64_t>(values_.size())}};
  }
  View<const T, 1> host() const {
    return {values_.data(), {static_cast<std::int64_t>(values_.size())}};
  }

 private:
  std::vector<T> values_;
};

}  // namespace chunkstate::test
