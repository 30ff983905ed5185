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

/// Owns dense row-major elements in the memory of a backend: host memory for reference and cpu (64-byte
/// aligned), device memory for cuda. Contents start uninitialised. Move only.
/// Throws std::bad_alloc, or std::length_error if the byte count overflows.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Backend backend, DType dtype, std::vector<std::int64_t> extents);

  DType dtype() const { return dtype_; }
  const std::vector<std::int64_t>& extents() const { return extents_; }
  std::int64_t elements() const;
  std::size_t bytes() const { return static_cast<std::size_t>(elements()) * bytes_of(dtype_); }
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }

  /// All elements, with `Rank` extents that must equal the tensor's own.
  template <int Rank>
  AnyView<Rank> view() {
    return {data_.get(), dtype_, extents_as<Rank>()};
  }
  template <int Rank>
  ConstAnyView<Rank> view() const {
    return {data_.get(), dtype_, extents_as<Rank>()};
  }

  void set_zero();
  /// Copies `bytes()` bytes from or to host memory.
  void copy_from_host(const void* source);
  void copy_to_host(void* target) const;

 private:
  template <int Rank>
  std::array<std::int64_t, Rank> extents_as() const {
    std::array<std::int64_t, Rank> result{};
    for (int d = 0; d < Rank; ++d) result[d] = extents_.at(static_cast<std::size_t>(d));
    return result;
  }

  struct Deleter {
    Backend backend = Backend::cpu;
    void operator()(std::byte* data) const;
  };

  DType dtype_ = DType::fp32;
  Backend backend_ = Backend::cpu;
  std::vector<std::int64_t> extents_;
  std::unique_ptr<std::byte[], Deleter> data_;
};

}  // namespace chunkstate
