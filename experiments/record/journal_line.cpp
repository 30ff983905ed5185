// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/journal_line.hpp"

#include <simdjson.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>

#include "experiments/record/checksum.hpp"

namespace chunkstate {
namespace {

using nlohmann::json;
using simdjson::dom::element;

constexpr std::size_t checksum_digits = 8;

json json_of_real(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

template <class T>
json json_of_reals(const std::vector<T>& values) {
  json array = json::array();
  for (const T value : values) array.push_back(json_of_real(static_cast<double>(value)));
  return array;
}

/// Every real field of a record, once for both directions.
template <class Record, class Visit>
void for_each_real(Record& r, const Visit& visit) {
  visit("flops", r.flops);
  visit("bytes_moved", r.bytes_moved);
  visit("t_start", r.t_start);
  visit("ttft", r.ttft);
  visit("e2e", r.e2e);
  visit("peak_memory_bytes", r.peak_memory_bytes);
  visit("cpu_percent", r.cpu_percent);
  visit("gpu_percent", r.gpu_percent);
  visit("io_wait", r.io_wait);
  visit("energy", r.energy);
  visit("sm_clock", r.sm_clock);
  visit("launches", r.launches);
  visit("batch_mean", r.batch_mean);
  visit("warmup_seconds", r.warmup_seconds);
}

template <class Record, class Visit>
void for_each_integer(Record& r, const Visit& visit) {
  visit("point", r.point);
  visit("prompt", r.prompt);
  visit("repeat", r.repeat);
  visit("batch", r.batch);
  visit("tokens_in", r.tokens_in);
  visit("rank", r.rank);
  visit("throttled", r.throttled);
}

std::string_view text_of(element value) {
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) throw std::invalid_argument("expected a text");
  return text;
}

double real_of(element value) {
  double number = 0;
  if (value.get(number) == simdjson::SUCCESS) return number;
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  const bool is_text = value.is_string();
  if (is_text && text_of(value) == "inf") return std::numeric_limits<double>::infinity();
  if (is_text && text_of(value) == "-inf") return -std::numeric_limits<double>::infinity();
  throw std::invalid_argument("expected a number or null");
}

template <class Integer>
Integer integer_of(element value) {
  std::int64_t number = 0;
  if (value.get(number) != simdjson::SUCCESS) throw std::invalid_argument("expected an integer");
  if (number < std::numeric_limits<Integer>::min() ||
      number > std::numeric_limits<Integer>::max()) {
    throw std::invalid_argument("integer out of range");
  }
  return static_cast<Integer>(number);
}

/// An object's fields by name.
class Fields {
 public:
  explicit Fields(element object) {
    if (object.get(object_) != simdjson::SUCCESS) throw std::invalid_argument("not a JSON object");
  }
  element at(const char* name) const {
    element value;
    if (object_.at_key(name).get(value) != simdjson::SUCCESS) {
      throw std::invalid_argument(std::string("no field '") + name + "'");
    }
    return value;
  }
  bool has(const char* name) const {
    return object_.at_key(name).error() != simdjson::NO_SUCH_FIELD;
  }
  std::string text(const char* name) const { return std::string(text_of(at(name))); }
  /// NaN if it is not there: an older version did not measure it.
  double real(const char* name) const {
    element value;
    if (object_.at_key(name).get(value) == simdjson::NO_SUCH_FIELD) {
      return std::numeric_limits<double>::quiet_NaN();
    }
    return real_of(value);
  }
  std::int64_t integer(const char* name) const { return integer_of<std::int64_t>(at(name)); }

  template <class Value, class Read>
  std::vector<Value> list(const char* name, const Read& read) const {
    simdjson::dom::array array;
    if (at(name).get(array) != simdjson::SUCCESS) throw std::invalid_argument("expected a list");
    std::vector<Value> values;
    values.reserve(array.size());
    for (const element value : array) values.push_back(static_cast<Value>(read(value)));
    return values;
  }

 private:
  simdjson::dom::object object_;
};

RequestRecord record_of(const Fields& fields, RequestStatus status) {
  RequestRecord record;
  record.item_id = fields.text("item");
  record.status = status;
  if (status != RequestStatus::done) record.error = fields.text("error");
  record.stop_reason = fields.text("stop_reason");
  record.text = fields.text("text");
  record.token_ids = fields.list<std::int32_t>("token_ids", integer_of<std::int32_t>);
  record.logprobs = fields.list<float>("logprobs", real_of);
  record.t_emit = fields.list<double>("t_emit", real_of);
  for_each_integer(record, [&](const char* name, std::int64_t& value) {
    const bool later = &value == &record.batch || &value == &record.throttled;
    if (fields.has(name) || !later) value = fields.integer(name);
  });
  for_each_real(record, [&](const char* name, double& value) { value = fields.real(name); });
  return record;
}

std::shared_ptr<const Evaluation> evaluation_of(const Fields& fields) {
  auto evaluation = std::make_shared<Evaluation>();
  const auto read = [&](const std::string& name, const char*, double& value) {
    value = fields.real(name.c_str());
  };
  evaluation->error = fields.text("error");
  visit_comparison(*evaluation, read);
  evaluation->first_divergence = fields.integer("first_divergence");
  evaluation->state_drift = fields.list<double>("state_drift", real_of);
  visit_gptscore(*evaluation, read);
  return evaluation;
}

RunStart start_of(const Fields& fields) {
  RunStart start;
  start.run_id = fields.text("run_id");
  start.process.host = fields.text("host");
  start.process.pid = fields.integer("pid");
  start.process.boot_id = fields.text("boot_id");
  start.process.start_ticks = fields.integer("start_ticks");
  start.start_utc = fields.text("start_utc");
  start.items = fields.integer("items");
  start.config_hash = fields.text("config_hash");
  start.plan_hash = fields.text("plan_hash");
  start.prompts_digest = fields.text("prompts_digest");
  start.model_digest = fields.text("model_digest");
  start.yaml_resolved = fields.text("yaml_resolved");
  start.provenance = rank_provenance_from_json(simdjson::minify(fields.at("provenance")));
  return start;
}

/// The JSON of a line. Throws std::invalid_argument.
std::string_view checked_text(std::string_view line) {
  if (line.size() < checksum_digits + 1 || line[checksum_digits] != ' ') {
    throw std::invalid_argument("no checksum");
  }
  const std::string_view text = line.substr(checksum_digits + 1);
  char expected[16] = "";
  std::snprintf(expected, sizeof(expected), "%08x", crc32c(text));
  if (line.substr(0, checksum_digits) != expected) {
    throw std::invalid_argument("checksum " + std::string(line.substr(0, checksum_digits)) +
                                ", the line has " + expected);
  }
  return text;
}

}  // namespace

std::string encode_line(const json& object) {
  const std::string text = object.dump(-1, ' ', false, json::error_handler_t::replace);
  char checksum[16] = "";
  std::snprintf(checksum, sizeof(checksum), "%08x ", crc32c(text));
  return checksum + text + '\n';
}

json json_of(const RequestRecord& record) {
  json object = {{"item", record.item_id},
                 {"stop_reason", canonical_text(record.stop_reason)},
                 {"text", canonical_text(record.text)},
                 {"token_ids", record.token_ids},
                 {"logprobs", json_of_reals(record.logprobs)},
                 {"t_emit", json_of_reals(record.t_emit)}};
  const bool done = record.status == RequestStatus::done;
  object["kind"] = done ? "result" : name_of(record.status);
  if (!done) object["error"] = canonical_text(record.error);
  for_each_integer(record, [&](const char* name, std::int64_t value) { object[name] = value; });
  for_each_real(record,
                [&](const char* name, double value) { object[name] = json_of_real(value); });
  return object;
}

json json_of(const std::string& item_id, const Evaluation& evaluation) {
  json object = {{"kind", "evaluation"},
                 {"item", item_id},
                 {"error", canonical_text(evaluation.error)},
                 {"first_divergence", evaluation.first_divergence},
                 {"state_drift", json_of_reals(evaluation.state_drift)}};
  const auto write = [&](const std::string& name, const char*, double value) {
    if (!std::isnan(value)) object[name] = json_of_real(value);
  };
  visit_comparison(evaluation, write);
  visit_gptscore(evaluation, write);
  return object;
}

json json_of(const RunStart& start) {
  return {{"kind", "run_start"},
          {"journal", 1},
          {"run_id", start.run_id},
          {"host", start.process.host},
          {"pid", start.process.pid},
          {"boot_id", start.process.boot_id},
          {"start_ticks", start.process.start_ticks},
          {"start_utc", start.start_utc},
          {"items", start.items},
          {"config_hash", start.config_hash},
          {"plan_hash", start.plan_hash},
          {"prompts_digest", start.prompts_digest},
          {"model_digest", start.model_digest},
          {"yaml_resolved", canonical_text(start.yaml_resolved)},
          {"provenance", json::parse(to_json(start.provenance))}};
}

struct LineDecoder::Parser {
  simdjson::dom::parser json;
};

LineDecoder::LineDecoder() : parser_(std::make_unique<Parser>()) {}
LineDecoder::~LineDecoder() = default;

JournalEvent LineDecoder::decode(std::string_view line) {
  static_assert(padding >= simdjson::SIMDJSON_PADDING);
  const std::string_view text = checked_text(line);
  element root;
  const auto error = parser_->json.parse(text.data(), text.size(), false).get(root);
  if (error != simdjson::SUCCESS) throw std::invalid_argument(simdjson::error_message(error));
  const Fields fields(root);
  using Kind = JournalEvent::Kind;
  JournalEvent event;
  event.seconds = real_of(fields.at("t"));
  const std::string_view kind = text_of(fields.at("kind"));
  if (kind == "result" || kind == "failed" || kind == "skipped") {
    event.kind = Kind::outcome;
    event.record = record_of(fields, kind == "result"   ? RequestStatus::done
                                     : kind == "failed" ? RequestStatus::failed
                                                        : RequestStatus::skipped);
  } else if (kind == "evaluation") {
    event.kind = Kind::evaluation;
    event.item = fields.text("item");
    event.evaluation = evaluation_of(fields);
  } else if (kind == "claim" || kind == "cancelled") {
    event.kind = kind == "claim" ? Kind::claim : Kind::cancelled;
    event.item = fields.text("item");
  } else if (kind == "run_start") {
    event.kind = Kind::run_start;
    event.start = start_of(fields);
  } else if (kind == "run_end") {
    event.kind = Kind::run_end;
    event.reason = fields.text("reason");
  }
  return event;
}

}  // namespace chunkstate
