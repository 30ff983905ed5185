// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

struct BackendDeleter {
  Backend backend = Backend::cpu;
  void operator()(std::byte* data) const noexcept;
};

/// Owns dense row-major elements in the memory of a backend. Contents start uninitialised. Move
/// only. Throws std::bad_alloc, or std::length_error if the byte count overflows.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Backend backend, DType dtype, std::vector<std::int64_t> extents);

  explicit operator bool() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  const std::vector<std::int64_t>& extents() const { return extents_; }
  std::size_t bytes() const { return bytes_; }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }

  /// All elements. `Rank` must be the tensor's own; an empty tensor gives an empty view.
  template <int Rank>
  AnyView<Rank> view() {
    return {data_.get(), dtype_, extents_as<Rank>()};
  }
  template <int Rank>
  ConstAnyView<Rank> view() const {
    return {data_.get(), dtype_, extents_as<Rank>()};
  }

 private:
  template <int Rank>
  std::array<std::int64_t, Rank> extents_as() const {
    std::array<std::int64_t, Rank> result{};
    if (!extents_.empty()) {
      for (int d = 0; d < Rank; ++d) result[d] = extents_.at(static_cast<std::size_t>(d));
    }
    return result;
  }

  DType dtype_ = DType::fp32;
  std::vector<std::int64_t> extents_;
  std::size_t bytes_ = 0;
  std::unique_ptr<std::byte[], BackendDeleter> data_;
};

}  // namespace chunkstate
