// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "experiments/record/journal.hpp"

namespace chunkstate {

/// "crc32c json\n" of one object. Invalid UTF-8 becomes U+FFFD.
std::string encode_line(const nlohmann::json& object);
/// The object of a line without its newline; nothing, and the reason, if checksum or JSON is wrong.
std::optional<nlohmann::json> decode_line(std::string_view line, std::string& reason);

/// Numbers come back bit for bit: shortest decimal form that does; NaN is null, infinities are
/// "inf" and "-inf".
nlohmann::json json_of(const RequestRecord& record);
nlohmann::json json_of(const RunStart& start);
/// Throw nlohmann::json::exception or std::invalid_argument if a field is missing or of the wrong
/// type.
RequestRecord record_from_json(const nlohmann::json& json);
RunStart run_start_from_json(const nlohmann::json& json);

}  // namespace chunkstate
