// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace chunkstate {

/// Looks at a YAML file's bytes before any parser does: what yaml-cpp would let pass or would need
/// much memory for. Calls `fail(line, column, message)`, which must throw, for the first finding;
/// line and column count from 1, the column in bytes.
void check_yaml_bytes(std::string_view bytes,
                      const std::function<void(int, int, const std::string&)>& fail);

}  // namespace chunkstate
