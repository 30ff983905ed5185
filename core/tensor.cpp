// SPDX-License-Identifier: Apache-2.0
#include "core/tensor.hpp"

#include <stdexcept>

#include "kernels/base/memory.hpp"

namespace chunkstate {

Tensor::Tensor(Backend backend, DType dtype, std::vector<std::int64_t> extents)
    : dtype_(dtype), extents_(std::move(extents)), bytes_(bytes_of(dtype)) {
  for (const std::int64_t extent : extents_) {
    if (extent < 0 || __builtin_mul_overflow(bytes_, static_cast<std::size_t>(extent), &bytes_)) {
      throw std::length_error("tensor: byte count overflows");
    }
  }
  data_ = std::unique_ptr<std::byte[], BackendDeleter>(allocate(backend, bytes_),
                                                       BackendDeleter{backend});
}

void BackendDeleter::operator()(std::byte* data) const noexcept { deallocate(backend, data); }

}  // namespace chunkstate
