// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/journal_line.hpp"

#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>

#include "experiments/record/checksum.hpp"

namespace chunkstate {
namespace {

using nlohmann::json;

constexpr std::size_t checksum_digits = 8;

json json_of_real(double value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double real_from_json(const json& value) {
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  if (!value.is_number()) throw std::invalid_argument("expected a number or null");
  return value.get<double>();
}

template <class Integer>
Integer integer_from_json(const json& value) {
  if (!value.is_number_integer()) throw std::invalid_argument("expected an integer");
  const auto number = value.get<std::int64_t>();
  if (number < std::numeric_limits<Integer>::min() ||
      number > std::numeric_limits<Integer>::max()) {
    throw std::invalid_argument("integer out of range");
  }
  return static_cast<Integer>(number);
}

template <class T>
json json_of_reals(const std::vector<T>& values) {
  json array = json::array();
  for (const T value : values) array.push_back(json_of_real(static_cast<double>(value)));
  return array;
}

template <class T>
std::vector<T> reals_from_json(const json& array) {
  std::vector<T> values;
  values.reserve(array.size());
  for (const json& value : array) values.push_back(static_cast<T>(real_from_json(value)));
  return values;
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
  visit("warmup_seconds", r.warmup_seconds);
}

template <class Record, class Visit>
void for_each_integer(Record& r, const Visit& visit) {
  visit("point", r.point);
  visit("prompt", r.prompt);
  visit("repeat", r.repeat);
  visit("tokens_in", r.tokens_in);
  visit("rank", r.rank);
}

}  // namespace

std::string encode_line(const json& object) {
  const std::string text = object.dump(-1, ' ', false, json::error_handler_t::replace);
  char checksum[16] = "";
  std::snprintf(checksum, sizeof(checksum), "%08x ", crc32c(text));
  return checksum + text + '\n';
}

std::optional<json> decode_line(std::string_view line, std::string& reason) {
  if (line.size() < checksum_digits + 1 || line[checksum_digits] != ' ') {
    reason = "no checksum";
    return std::nullopt;
  }
  const std::string_view text = line.substr(checksum_digits + 1);
  char expected[16] = "";
  std::snprintf(expected, sizeof(expected), "%08x", crc32c(text));
  if (line.substr(0, checksum_digits) != expected) {
    reason =
        "checksum " + std::string(line.substr(0, checksum_digits)) + ", the line has " + expected;
    return std::nullopt;
  }
  json object = json::parse(text, nullptr, false);
  if (!object.is_object()) {
    reason = "not a JSON object";
    return std::nullopt;
  }
  return object;
}

json json_of(const RequestRecord& record) {
  json object = {{"item", record.item_id},
                 {"stop_reason", canonical_text(record.stop_reason)},
                 {"text", canonical_text(record.text)},
                 {"token_ids", record.token_ids},
                 {"logprobs", json_of_reals(record.logprobs)},
                 {"t_emit", json_of_reals(record.t_emit)}};
  object["kind"] = record.status == RequestStatus::done ? "result" : "failed";
  if (record.status == RequestStatus::failed) object["error"] = canonical_text(record.error);
  for_each_integer(record, [&](const char* name, std::int64_t value) { object[name] = value; });
  for_each_real(record,
                [&](const char* name, double value) { object[name] = json_of_real(value); });
  return object;
}

RequestRecord record_from_json(const json& object) {
  RequestRecord record;
  object.at("item").get_to(record.item_id);
  record.status = object.at("kind") == "result" ? RequestStatus::done : RequestStatus::failed;
  if (record.status == RequestStatus::failed) object.at("error").get_to(record.error);
  object.at("stop_reason").get_to(record.stop_reason);
  object.at("text").get_to(record.text);
  for (const json& token : object.at("token_ids")) {
    record.token_ids.push_back(integer_from_json<std::int32_t>(token));
  }
  record.logprobs = reals_from_json<float>(object.at("logprobs"));
  record.t_emit = reals_from_json<double>(object.at("t_emit"));
  for_each_integer(record, [&](const char* name, std::int64_t& value) {
    value = integer_from_json<std::int64_t>(object.at(name));
  });
  for_each_real(record,
                [&](const char* name, double& value) { value = real_from_json(object.at(name)); });
  return record;
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

RunStart run_start_from_json(const json& object) {
  RunStart start;
  object.at("run_id").get_to(start.run_id);
  object.at("host").get_to(start.process.host);
  start.process.pid = integer_from_json<std::int64_t>(object.at("pid"));
  object.at("boot_id").get_to(start.process.boot_id);
  start.process.start_ticks = integer_from_json<std::int64_t>(object.at("start_ticks"));
  object.at("start_utc").get_to(start.start_utc);
  start.items = integer_from_json<std::int64_t>(object.at("items"));
  object.at("config_hash").get_to(start.config_hash);
  object.at("plan_hash").get_to(start.plan_hash);
  object.at("prompts_digest").get_to(start.prompts_digest);
  object.at("model_digest").get_to(start.model_digest);
  object.at("yaml_resolved").get_to(start.yaml_resolved);
  start.provenance = rank_provenance_from_json(object.at("provenance").dump());
  return start;
}

}  // namespace chunkstate
