// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "core/tensor.hpp"

namespace chunkstate {

/// One block of memory from which a forward pass takes its activations, so that none is allocated
/// per layer or per token, and the peak is known: bytes().
class Arena {
 public:
  explicit Arena(Backend backend) : backend_(backend) {}

  /// Makes room for `bytes`. Everything taken before becomes invalid. Never shrinks.
  void reserve(std::size_t bytes);
  std::size_t bytes() const { return block_.bytes(); }

  /// Uninitialised elements. Throws std::logic_error if the reservation was too small: a bug in the
  /// caller.
  template <int Rank>
  AnyView<Rank> take(DType dtype, const std::array<std::int64_t, Rank>& extents) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : extents) elements *= extent;
    return {take_bytes(padded(elements, dtype)), dtype, extents};
  }

  /// What `take` uses up for so many elements.
  static std::size_t padded(std::int64_t elements, DType dtype) {
    const std::size_t bytes = static_cast<std::size_t>(elements) * bytes_of(dtype);
    return (bytes + alignment - 1) / alignment * alignment;
  }

  std::size_t mark() const { return used_; }
  /// Gives back everything taken since `mark`.
  void release(std::size_t mark) { used_ = mark; }

 private:
  static constexpr std::size_t alignment = 256;
  std::byte* take_bytes(std::size_t bytes);

  Backend backend_;
  Tensor block_;
  std::size_t used_ = 0;
};

}  // namespace chunkstate
