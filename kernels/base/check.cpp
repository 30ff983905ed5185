// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/check.hpp"

namespace chunkstate {
namespace {

std::string shape_text(std::span<const std::int64_t> extents) {
  std::string text = "[";
  for (std::size_t d = 0; d < extents.size(); ++d) {
    if (d > 0) text += ", ";
    text += std::to_string(extents[d]);
  }
  return text + "]";
}

std::string where(std::string_view op, std::string_view argument) {
  return std::string(op) + ": " + std::string(argument);
}

}  // namespace

BackendError::BackendError(std::string_view op, Backend backend)
    : std::runtime_error(
          std::string(op) + ": no " + std::string(name_of(backend)) +
          " implementation in this build" +
          (backend == Backend::cuda ? " (configure with -DCHUNKSTATE_CUDA=ON)" : "")) {}

namespace detail {

void throw_shape(std::string_view op, std::string_view argument,
                 std::span<const std::int64_t> found, std::span<const std::int64_t> expected,
                 std::string_view dims) {
  throw ShapeError(where(op, argument) + " has shape " + shape_text(found) + ", expected " +
                   shape_text(expected) + " (" + std::string(dims) + ")");
}

void throw_not_given(std::string_view op, std::string_view argument) {
  throw ShapeError(where(op, argument) + " is required");
}

void throw_not_contiguous(std::string_view op, std::string_view argument) {
  throw ShapeError(where(op, argument) + " needs a contiguous last dimension");
}

}  // namespace detail
}  // namespace chunkstate
