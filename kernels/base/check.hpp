// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernels/base/executor.hpp"
#include "kernels/base/view.hpp"

namespace chunkstate {

/// An argument's shape contradicts the operator's contract: a bug in the caller.
/// `linear: weight has shape [64, 32], expected [64, 48] (out_features x in_features)`
class ShapeError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

/// The operator has no implementation for this backend in this build.
class BackendError : public std::runtime_error {
 public:
  BackendError(std::string_view op, Backend backend);
};

namespace detail {
[[noreturn]] void throw_shape(std::string_view op, std::string_view argument,
                              std::span<const std::int64_t> found,
                              std::span<const std::int64_t> expected, std::string_view dims);
[[noreturn]] void throw_not_given(std::string_view op, std::string_view argument);
[[noreturn]] void throw_not_contiguous(std::string_view op, std::string_view argument);
}  // namespace detail

/// Checks that `view` is given, has the expected extents and a contiguous last dimension.
/// `dims` names the dimensions in words. Works for View and AnyView.
template <class AView, std::size_t Rank>
void check_shape(std::string_view op, std::string_view argument, const AView& view,
                 const std::int64_t (&expected)[Rank], std::string_view dims) {
  static_assert(Rank == sizeof(view.extent) / sizeof(std::int64_t));
  bool same = true;
  bool empty = false;
  for (std::size_t d = 0; d < Rank; ++d) {
    same = same && view.extent[d] == expected[d];
    empty = empty || expected[d] == 0;
  }
  if (!view && !empty) detail::throw_not_given(op, argument);
  if (!same) detail::throw_shape(op, argument, view.extent, expected, dims);
  if (!empty && view.extent[Rank - 1] > 1 && view.stride[Rank - 1] != 1) {
    detail::throw_not_contiguous(op, argument);
  }
}

}  // namespace chunkstate
