// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace chunkstate {

/// CRC-32C (Castagnoli) of the bytes: 0xE3069283 for "123456789".
std::uint32_t crc32c(std::string_view bytes);

/// Well-formed UTF-8 without NUL: every byte that is part of no valid sequence, and NUL, becomes
/// U+FFFD. The form in which text is journaled, digested and written (JSON and HDF5 strings can
/// hold nothing else).
std::string canonical_text(std::string_view text);
/// canonical_text(text) == text.
bool is_canonical(std::string_view text);

}  // namespace chunkstate
