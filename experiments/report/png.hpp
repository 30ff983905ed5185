// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace chunkstate {

/// Draws an SVG file as PNG, twice its size, with librsvg's program rsvg-convert. Returns false if
/// that is not in PATH. Throws std::runtime_error if it fails.
bool draw_png(const std::filesystem::path& svg, const std::filesystem::path& png);

}  // namespace chunkstate
