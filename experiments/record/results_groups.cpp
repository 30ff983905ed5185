// SPDX-License-Identifier: Apache-2.0
// The groups that describe the experiment; the measurements are in results_requests.cpp.
#include "experiments/record/results_groups.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/record/checksum.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/record/results_columns.hpp"

namespace chunkstate {
namespace {

std::string json_object(const std::vector<std::pair<std::string, std::string>>& pairs) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const auto& [key, value] : pairs) object[key] = canonical_text(value);
  return object.dump();
}

/// Writes one column of `rows`, by the type of the field.
template <class Row>
auto column_writer(const h5::Group& group, const std::vector<Row>& rows,
                   const std::string& dimension) {
  return [&group, &rows, dimension]<class Value>(const h5::Label& label, Value Row::*field) {
    std::vector<Value> values;
    values.reserve(rows.size());
    if constexpr (std::is_same_v<Value, std::string>) {
      for (const Row& row : rows) values.push_back(canonical_text(row.*field));
      group.write_texts(label, values, dimension);
    } else {
      for (const Row& row : rows) values.push_back(row.*field);
      const Value missing = std::is_same_v<Value, double> ? static_cast<Value>(std::nan("")) : -1;
      group.write<Value>(label, values, {dimension}, missing);
    }
  };
}

/// The whole text is one number.
template <class Number>
bool parse_number(const std::string& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

/// JSON text of a string -> the string; anything else stays as written.
std::string unquoted(const std::string& json) {
  if (json.size() < 2 || json.front() != '"') return json;
  const nlohmann::json value = nlohmann::json::parse(json, nullptr, false);
  return value.is_string() ? value.get<std::string>() : json;
}

}  // namespace

std::string column_name(const std::string& name) {
  std::string result;
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    result +=
        plain || c == '_' || (!result.empty() && (c == '.' || c == '-' || c == '+' || c == '@'))
            ? c
            : '_';
  }
  return result.empty() ? "_" : result;
}

void write_guessed(const h5::Group& group, const h5::Label& label,
                   const std::vector<std::string>& values, const std::string& dimension) {
  const double nan = std::nan("");
  std::vector<std::int64_t> integers;
  std::vector<double> reals;
  bool all_integers = !values.empty();
  bool all_reals = !values.empty();
  for (const std::string& value : values) {
    std::int64_t integer = 0;
    double real = nan;
    all_integers = all_integers && parse_number(value, integer);
    all_reals = all_reals && (value.empty() || value == "null" || parse_number(value, real));
    integers.push_back(integer);
    reals.push_back(real);
  }
  const bool any = std::any_of(reals.begin(), reals.end(), [](double r) { return !std::isnan(r); });
  if (all_integers) {
    group.write<std::int64_t>(label, integers, {dimension});
  } else if (all_reals && any) {
    group.write<double>(label, reals, {dimension}, nan);
  } else {
    std::vector<std::string> texts;
    for (const std::string& value : values) texts.push_back(canonical_text(unquoted(value)));
    group.write_texts(label, texts, dimension);
  }
}

std::vector<std::string> read_guessed(const h5::Group& group, const std::string& name) {
  std::vector<std::string> values;
  const auto add = [&](const auto& column) {
    for (const auto& value : column) values.push_back(nlohmann::json(value).dump());
  };
  switch (group.class_of(name)) {
    case H5T_INTEGER:
      add(group.read<std::int64_t>(name));
      break;
    case H5T_FLOAT:
      add(group.read<double>(name));  // NaN: null
      break;
    default:
      add(group.read_texts(name));
  }
  return values;
}

void write_config(const h5::Group& root, const ResultsContent& content) {
  const h5::Group group = root.create_group("config");
  group.set_attribute("config_hash", content.spec.config_hash);
  group.write_text({"yaml_source", "1", "the experiment file as read"},
                   canonical_text(content.spec.yaml_source));
  group.write_text(
      {"yaml_resolved", "1", "the experiment with every default, launcher settings left out"},
      canonical_text(content.spec.yaml_resolved));
}

void write_provenance(const h5::Group& root, const ResultsContent& content) {
  const h5::Group group = root.create_group("provenance");
  group.set_attribute("start_utc", content.run.start_utc);
  group.write_dimension({"argument", "1", "index of the argument"},
                        static_cast<std::int64_t>(content.run.argv.size()));
  std::vector<std::string> argv;
  for (const std::string& argument : content.run.argv) argv.push_back(canonical_text(argument));
  group.write_texts({"argv", "1", "command line of the process that wrote the file"}, argv,
                    "argument");
  group.write_text({"build", "1", "JSON: how the binary was built, versions of its libraries"},
                   json_object(content.run.build));
  std::vector<std::string> hosts;
  for (const RankProvenance& process : content.processes) {
    const std::string host = canonical_text(process.host);
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
  }
  group.write_text({"hosts", "1", "JSON: the hosts that ran requests"},
                   nlohmann::json(hosts).dump());
  group.write_text({"slurm", "1", "JSON: SLURM_* variables of the process that wrote the file"},
                   json_object(content.run.slurm));

  const auto& rows = content.processes;
  const h5::Group ranks = group.create_group("ranks");
  ranks.write_dimension({"process", "1", "index of the process: one per rank and start"},
                        static_cast<std::int64_t>(rows.size()));
  visit_rank_columns(column_writer(ranks, rows, "process"));
}

void write_model(const h5::Group& root, const ResultsContent& content) {
  const h5::Group group = root.create_group("model");
  const auto& rows = content.models;
  if (!rows.empty()) {  // sorted_requests() has seen to it that there is one
    group.set_attribute("name", canonical_text(rows[0].name));
    group.set_attribute("architecture", canonical_text(rows[0].architecture));
    group.set_attribute("parameters", rows[0].parameters);
    group.set_attribute("dtype", rows[0].dtype);
    group.set_attribute("digest", rows[0].digest);
  }
  const std::string model = "model";
  group.write_dimension({model, "1", "index of the model; the attributes are the first one's"},
                        static_cast<std::int64_t>(rows.size()));
  visit_model_columns(column_writer(group, rows, model));
}

void write_sweep(const h5::Group& root, const ResultsContent& content,
                 const SortedRequests& requests) {
  const auto& points = content.spec.points;
  const h5::Group group = root.create_group("sweep");
  group.write_dimension({"point", "1", "index of the sweep point"},
                        static_cast<std::int64_t>(points.size()));
  for (const std::string& path : content.spec.axis_paths) {
    std::vector<std::string> values;
    for (const SweepPoint& point : points) {
      const auto axis = std::find_if(point.axes.begin(), point.axes.end(),
                                     [&](const AxisValue& one) { return one.path == path; });
      values.push_back(axis == point.axes.end() ? "" : axis->value);
    }
    write_guessed(group, {column_name(path), "1", "sweep axis " + path}, values, "point");
  }
  group.write<std::int64_t>({"model", "1", "index into /model"}, content.model_of_point, {"point"});

  std::vector<std::int64_t> done(points.size());
  std::vector<std::int64_t> failed(points.size());
  std::vector<std::string> errors(points.size());
  for (const RequestRecord* request : requests) {
    const auto point = static_cast<std::size_t>(request->point);
    if (request->status == RequestStatus::done) {
      ++done[point];
    } else {
      if (errors[point].empty()) errors[point] = canonical_text(request->error);
      failed[point] += request->status == RequestStatus::failed ? 1 : 0;
    }
  }
  std::vector<std::vector<const RequestRecord*>> of_point(points.size());
  for (const RequestRecord* request : requests) {
    of_point[static_cast<std::size_t>(request->point)].push_back(request);
  }
  std::vector<double> rates;
  for (const auto& own : of_point) rates.push_back(tokens_per_rank_second(own));
  std::vector<std::uint8_t> status;
  for (std::size_t point = 0; point < points.size(); ++point) {
    status.push_back(failed[point] > 0 ? 1 : done[point] > 0 ? 0 : 2);
  }
  group.write<std::int64_t>({"done", "1", "requests done"}, done, {"point"});
  group.write<std::int64_t>({"failed", "1", "requests failed"}, failed, {"point"});
  group.write<double>({"tokens_per_rank_second", "1/s",
                       "tokens generated per second in which a rank had requests of the point"},
                      rates, {"point"}, std::nan(""));
  group.write_flags({"status", "1", "outcome of the point: failed if any of its requests did"},
                    status, "point", {"done", "failed", "skipped"});
  group.write_texts({"error", "1", "of the first request that failed or was skipped"}, errors,
                    "point");
}

void write_prompts(const h5::Group& root, const ResultsContent& content) {
  const auto& prompts = content.prompts.prompts;
  const h5::Group group = root.create_group("prompts");
  group.set_attribute("digest", content.prompts.digest);
  const std::string dimension = "prompt";
  group.write_dimension({dimension, "1", "index of the prompt"},
                        static_cast<std::int64_t>(prompts.size()));
  visit_prompt_columns(column_writer(group, prompts, dimension));

  std::vector<std::string> fields;  // in order of first appearance
  std::map<std::string, std::vector<std::string>> columns;
  for (std::size_t row = 0; row < prompts.size(); ++row) {
    for (const auto& [field, value] : prompts[row].extra) {
      const auto [column, is_new] = columns.try_emplace(field);
      if (is_new) {
        column->second.resize(prompts.size());
        fields.push_back(field);
      }
      column->second[row] = value;
    }
  }
  std::set<std::string> taken{dimension, "id", "text", "answer", "token_len", "num_chunks"};
  for (const std::string& field : fields) {
    std::string name = column_name(field);
    while (!taken.insert(name).second) name += '_';
    write_guessed(group, {name, "1", "field " + canonical_text(field) + " of the prompt file"},
                  columns[field], dimension);
  }
}

void write_shards(const h5::Group& root, const ResultsContent& content) {
  if (content.shards.empty()) return;
  const h5::Group group = root.create_group("shards");
  group.write_dimension({"shard", "1", "index of the input merged"},
                        static_cast<std::int64_t>(content.shards.size()));
  visit_shard_columns(column_writer(group, content.shards, "shard"));
}

}  // namespace chunkstate
