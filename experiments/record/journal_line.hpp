// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "experiments/record/journal.hpp"

namespace chunkstate {

/// "crc32c json\n" of one object. Invalid UTF-8 becomes U+FFFD.
std::string encode_line(const nlohmann::json& object);

/// Numbers come back bit for bit: shortest decimal form that does; NaN is null, infinities are
/// "inf" and "-inf".
nlohmann::json json_of(const RequestRecord& record);
nlohmann::json json_of(const RunStart& start);
nlohmann::json json_of(const std::string& item_id, const Evaluation& evaluation);

/// What one line of a journal says.
struct JournalEvent {
  enum class Kind : std::uint8_t {
    run_start,
    claim,
    outcome,
    evaluation,
    cancelled,
    run_end,
    unknown
  };
  Kind kind = Kind::unknown;
  double seconds = 0;  // since the process' start
  std::string item;    // claim, cancelled, evaluation
  std::string reason;  // run_end
  // Of their own kind only: a RunStart has 20 texts to make and destroy.
  std::optional<RunStart> start;
  std::optional<RequestRecord> record;  // outcome
  std::shared_ptr<const Evaluation> evaluation;
};

/// Reads journal lines; keeps its memory from line to line.
class LineDecoder {
 public:
  LineDecoder();
  ~LineDecoder();

  /// So many bytes behind a line are read over, and must be there.
  static constexpr std::size_t padding = 64;

  /// `line` without its newline. Throws std::invalid_argument with the reason if the checksum is
  /// wrong, or a field is missing, of the wrong type or out of range.
  JournalEvent decode(std::string_view line);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace chunkstate
