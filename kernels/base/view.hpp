// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "kernels/base/dtype.hpp"

namespace chunkstate {

/// Elements of row-major storage between neighbours along each dimension.
template <int Rank>
constexpr std::array<std::int64_t, Rank> packed_stride(
    const std::array<std::int64_t, Rank>& extent) {
  std::array<std::int64_t, Rank> stride{};
  std::int64_t step = 1;
  for (int d = Rank - 1; d >= 0; --d) {
    stride[d] = step;
    step *= extent[d];
  }
  return stride;
}

/// Elements of type T in host or device memory that somebody else owns. `stride` counts elements.
/// A view without data stands for "not given".
template <class T, int Rank>
struct View {
  T* data = nullptr;
  std::array<std::int64_t, Rank> extent{};
  std::array<std::int64_t, Rank> stride{};

  View() = default;
  View(T* data_, const std::array<std::int64_t, Rank>& extent_)
      : data(data_), extent(extent_), stride(packed_stride<Rank>(extent_)) {}
  View(T* data_, const std::array<std::int64_t, Rank>& extent_,
       const std::array<std::int64_t, Rank>& stride_)
      : data(data_), extent(extent_), stride(stride_) {}

  explicit operator bool() const { return data != nullptr; }
  operator View<const T, Rank>() const requires(!std::is_const_v<T>) {
    return {data, extent, stride};
  }

  template <class... Index>
  constexpr T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == Rank);
    std::int64_t offset = 0;
    int d = 0;
    ((offset += static_cast<std::int64_t>(index) * stride[d++]), ...);
    return data[offset];
  }
};

/// A view whose element type is known at run time. `Byte` is `std::byte` or `const std::byte`.
template <class Byte, int Rank>
struct BasicAnyView {
  Byte* data = nullptr;
  DType dtype = DType::fp32;
  std::array<std::int64_t, Rank> extent{};
  std::array<std::int64_t, Rank> stride{};

  static constexpr bool is_const = std::is_const_v<Byte>;
  template <class T>
  using Element = std::conditional_t<is_const, const T, T>;

  BasicAnyView() = default;
  BasicAnyView(Byte* data_, DType dtype_, const std::array<std::int64_t, Rank>& extent_)
      : data(data_), dtype(dtype_), extent(extent_), stride(packed_stride<Rank>(extent_)) {}
  BasicAnyView(Byte* data_, DType dtype_, const std::array<std::int64_t, Rank>& extent_,
               const std::array<std::int64_t, Rank>& stride_)
      : data(data_), dtype(dtype_), extent(extent_), stride(stride_) {}
  template <class T>
  requires(std::is_const_v<T> == is_const || is_const) BasicAnyView(const View<T, Rank>& view)
      : data(reinterpret_cast<Byte*>(view.data)),
        dtype(dtype_of<std::remove_const_t<T>>),
        extent(view.extent),
        stride(view.stride) {}

  explicit operator bool() const { return data != nullptr; }
  operator BasicAnyView<const std::byte, Rank>() const requires(!is_const) {
    return {data, dtype, extent, stride};
  }

  /// The address of an element; further elements of its row follow if stride[Rank - 1] is 1.
  template <class... Index>
  constexpr Byte* at(Index... index) const {
    static_assert(sizeof...(Index) == Rank);
    std::int64_t offset = 0;
    int d = 0;
    ((offset += static_cast<std::int64_t>(index) * stride[d++]), ...);
    return data + offset * static_cast<std::int64_t>(bytes_of(dtype));
  }

  /// The caller has checked that `dtype` is T's.
  template <class T>
  View<Element<T>, Rank> as() const {
    return {reinterpret_cast<Element<T>*>(data), extent, stride};
  }

  /// One element as fp32. For references and tests: one branch per element.
  template <class... Index>
  float load(Index... index) const {
    const auto* address = at(index...);
    return dispatch(dtype, [&](auto tag) {
      return to_float(*reinterpret_cast<const decltype(tag)*>(address));
    });
  }

  /// Rounds `value` to the storage type.
  template <class... Index>
  void store(float value, Index... index) const requires(!is_const) {
    auto* address = at(index...);
    dispatch(dtype, [&](auto tag) {
      using T = decltype(tag);
      *reinterpret_cast<T*>(address) = from_float<T>(value);
    });
  }

  /// Index `i` of the first dimension.
  BasicAnyView<Byte, Rank - 1> operator[](std::int64_t i) const requires(Rank > 1) {
    BasicAnyView<Byte, Rank - 1> result;
    result.data = data + i * stride[0] * static_cast<std::int64_t>(bytes_of(dtype));
    result.dtype = dtype;
    for (int d = 1; d < Rank; ++d) {
      result.extent[d - 1] = extent[d];
      result.stride[d - 1] = stride[d];
    }
    return result;
  }

  /// Indices [begin, end) of dimension `dim`.
  BasicAnyView slice(int dim, std::int64_t begin, std::int64_t end) const {
    BasicAnyView result = *this;
    result.data = data + begin * stride[dim] * static_cast<std::int64_t>(bytes_of(dtype));
    result.extent[dim] = end - begin;
    return result;
  }
};

template <int Rank>
using AnyView = BasicAnyView<std::byte, Rank>;
template <int Rank>
using ConstAnyView = BasicAnyView<const std::byte, Rank>;

/// [rows, outer * inner] as [rows, outer, inner], without moving data. Rows must be contiguous.
template <class Byte>
BasicAnyView<Byte, 3> split_last(const BasicAnyView<Byte, 2>& view, std::int64_t outer,
                                 std::int64_t inner) {
  return {view.data, view.dtype, {view.extent[0], outer, inner}, {view.stride[0], inner, 1}};
}

}  // namespace chunkstate
