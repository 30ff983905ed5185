// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "kernels/base/dtype.hpp"

namespace chunkstate {

// The CPU operators compute in fp32 whatever the storage types are: a row of fp32 is used where it
// lies, any other one is converted into scratch memory, so each operator has one code path.

/// The `count` numbers of a contiguous row as fp32: the row itself, or a copy in `scratch`.
const float* load_row(const std::byte* row, DType dtype, std::int64_t count, float* scratch);

/// Copies the row into `values` in any case.
void copy_row(const std::byte* row, DType dtype, std::int64_t count, float* values);

/// Where to compute a row's result: in place if it is stored as fp32, otherwise in `scratch`.
inline float* output_row(std::byte* row, DType dtype, float* scratch) {
  return dtype == DType::fp32 ? reinterpret_cast<float*>(row) : scratch;
}

/// Stores the result: rounds `values` to the row's type; nothing to do if they are the row itself.
void store_row(const float* values, std::int64_t count, std::byte* row, DType dtype);

/// Memory that one function keeps per thread (`thread_local Scratch scratch;`), so that nothing is
/// allocated per token. Grows, never shrinks; growing loses the contents.
class Scratch {
 public:
  /// At least `count` floats, aligned to a cache line.
  float* floats(std::int64_t count) {
    if (count > count_) {
      memory_.reset(static_cast<float*>(
          ::operator new[](static_cast<std::size_t>(count) * sizeof(float), alignment)));
      count_ = count;
    }
    return memory_.get();
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(float* memory) const { ::operator delete[](memory, alignment); }
  };
  std::unique_ptr<float, Free> memory_;
  std::int64_t count_ = 0;
};

/// `count` rounded up to whole cache lines of floats.
constexpr std::int64_t padded(std::int64_t count) { return (count + 15) / 16 * 16; }

}  // namespace chunkstate
