// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace chunkstate {

/// Headings of the page, in its order.
namespace sections {
inline constexpr const char* results = "Results";
inline constexpr const char* accuracy = "Accuracy";
inline constexpr const char* by_length = "By length";
inline constexpr const char* execution = "Execution modes";
inline constexpr const char* limits = "Operations and bytes";
inline constexpr const char* work = "Who worked when";
inline constexpr const char* failures = "Failures";
inline constexpr const char* provenance = "Provenance";

inline constexpr const char* in_order[] = {results, accuracy, by_length, execution,
                                           limits,  work,     failures,  provenance};
}  // namespace sections

}  // namespace chunkstate
