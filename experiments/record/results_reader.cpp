// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/results_reader.hpp"

#include <algorithm>
#include <string_view>
#include <type_traits>

#include "experiments/record/result_digest.hpp"
#include "experiments/record/results_columns.hpp"
#include "experiments/record/results_groups.hpp"

namespace chunkstate {
namespace {

constexpr std::string_view axis_label = "sweep axis ";
constexpr std::string_view field_label_begin = "field ";
constexpr std::string_view field_label_end = " of the prompt file";

void expect_rows(std::size_t found, std::size_t expected, const h5::Group& group,
                 const std::string& name) {
  if (found == expected) return;
  throw h5::Error(group.path() + "/" + name + ": " + std::to_string(found) + " values, expected " +
                  std::to_string(expected));
}

/// Reads one column into a field of `rows`.
template <class Row>
auto column_reader(const h5::Group& group, std::vector<Row>& rows) {
  return [&group, &rows]<class Value>(const h5::Label& label, Value Row::*field) {
    std::vector<Value> values;
    if constexpr (std::is_same_v<Value, std::string>) {
      values = group.read_texts(label.name);
    } else {
      values = group.read<Value>(label.name);
    }
    expect_rows(values.size(), rows.size(), group, label.name);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].*field = std::move(values[i]);
  };
}

std::size_t dimension(const h5::Group& group, const std::string& name) {
  return group.read<std::int64_t>(name).size();
}

void read_sweep(const h5::Group& group, StoredResults& results) {
  auto& points = results.spec.points;
  points.resize(dimension(group, "point"));
  for (std::size_t i = 0; i < points.size(); ++i) points[i].index = static_cast<std::int64_t>(i);
  for (const std::string& name : group.children()) {
    const std::string label = group.label_of(name);
    if (!label.starts_with(axis_label)) continue;
    const std::string path = label.substr(axis_label.size());
    const std::vector<std::string> values = read_guessed(group, name);
    expect_rows(values.size(), points.size(), group, name);
    results.spec.axis_paths.push_back(path);
    for (std::size_t i = 0; i < points.size(); ++i) points[i].axes.push_back({path, values[i]});
  }
  results.model_of_point = group.read<std::int64_t>("model");
  expect_rows(results.model_of_point.size(), points.size(), group, "model");
  for (const std::int64_t model : results.model_of_point) {
    if (model < 0 || model >= static_cast<std::int64_t>(results.models.size())) {
      throw h5::Error(group.path() + "/model: there is no model " + std::to_string(model));
    }
  }
}

void read_prompts(const h5::Group& group, PromptSet& set) {
  set.digest = group.text_attribute("digest");
  set.prompts.resize(dimension(group, "prompt"));
  visit_prompt_columns(column_reader(group, set.prompts));
  for (const std::string& name : group.children()) {
    const std::string label = group.label_of(name);
    if (!label.starts_with(field_label_begin) || !label.ends_with(field_label_end)) continue;
    const std::string field = label.substr(
        field_label_begin.size(), label.size() - field_label_begin.size() - field_label_end.size());
    std::vector<std::string> values = read_guessed(group, name);
    expect_rows(values.size(), set.prompts.size(), group, name);
    for (std::size_t i = 0; i < values.size(); ++i) {
      set.prompts[i].extra.emplace_back(field, std::move(values[i]));
    }
  }
}

void read_tokens(const h5::Group& group, std::vector<RequestRecord>& requests) {
  const auto offsets = group.read<std::int64_t>("offsets");
  const auto token_id = group.read<std::int32_t>("token_id");
  const auto logprob = group.read<float>("logprob");
  const auto t_emit = group.read<double>("t_emit");
  const auto count = static_cast<std::int64_t>(token_id.size());
  expect_rows(logprob.size(), token_id.size(), group, "logprob");
  expect_rows(t_emit.size(), token_id.size(), group, "t_emit");
  const bool consistent = offsets.size() == requests.size() + 1 && offsets.front() == 0 &&
                          offsets.back() == count && std::is_sorted(offsets.begin(), offsets.end());
  if (!consistent) {
    throw h5::Error(group.path() + "/offsets do not divide the " + std::to_string(count) +
                    " tokens among the " + std::to_string(requests.size()) + " requests");
  }
  for (std::size_t i = 0; i < requests.size(); ++i) {
    RequestRecord& r = requests[i];
    r.token_ids.assign(token_id.begin() + offsets[i], token_id.begin() + offsets[i + 1]);
    r.logprobs.assign(logprob.begin() + offsets[i], logprob.begin() + offsets[i + 1]);
    r.t_emit.assign(t_emit.begin() + offsets[i], t_emit.begin() + offsets[i + 1]);
  }
}

void read_requests(const h5::Group& root, StoredResults& results) {
  const h5::Group group = root.open_group("requests");
  results.spec.measure.repeats = group.integer_attribute("repeats");
  auto& requests = results.requests;
  requests.resize(dimension(group, "request"));
  const auto column = column_reader(group, requests);
  visit_request_integers([&](const h5::Label& label, std::int64_t RequestRecord::*field) {
    const bool later = label.name == "batch" || label.name == "throttled";
    if (later && !group.has(label.name)) return;  // files before it existed
    column(label, field);
  });
  visit_request_reals([&](const char* name, double RequestRecord::*field) {
    if (std::string_view(name) == "sm_clock" && !group.has(name)) return;  // as above
    const bool later = field == &RequestRecord::launches || field == &RequestRecord::batch_mean;
    if (later && !group.has(name)) return;
    column({name, "", ""}, field);
  });
  column({"tokens_in", "", ""}, &RequestRecord::tokens_in);
  column({"error", "", ""}, &RequestRecord::error);
  column({"item_id", "", ""}, &RequestRecord::item_id);
  const auto status = group.read_flags("status");
  const auto stop_reason = group.read_flags("stop_reason");
  expect_rows(status.size(), requests.size(), group, "status");
  expect_rows(stop_reason.size(), requests.size(), group, "stop_reason");
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].status = status[i] == "done"     ? RequestStatus::done
                         : status[i] == "failed" ? RequestStatus::failed
                                                 : RequestStatus::skipped;
    requests[i].stop_reason = stop_reason[i] == "none" ? "" : stop_reason[i];
  }
  const h5::Group outputs = root.open_group("outputs");
  column_reader(outputs, requests)({"text", "", ""}, &RequestRecord::text);
  read_tokens(root.open_group("tokens"), requests);
}

}  // namespace

StoredResults read_groups(const h5::Group& root) {
  StoredResults results;
  results.spec.name = root.text_attribute("title");
  const h5::Group config = root.open_group("config");
  results.spec.config_hash = config.text_attribute("config_hash");
  results.spec.yaml_source = config.read_text("yaml_source");
  results.spec.yaml_resolved = config.read_text("yaml_resolved");
  const h5::Group ranks = root.open_group("provenance").open_group("ranks");
  results.processes.resize(dimension(ranks, "process"));
  visit_rank_columns(column_reader(ranks, results.processes));
  const h5::Group model = root.open_group("model");
  results.models.resize(dimension(model, "model"));
  visit_model_columns(column_reader(model, results.models));
  read_sweep(root.open_group("sweep"), results);
  read_prompts(root.open_group("prompts"), results.prompts);
  read_requests(root, results);
  if (root.has("accuracy")) read_accuracy(root.open_group("accuracy"), results);
  return results;
}

std::string content_digest(const StoredResults& results) {
  std::vector<std::string> models;
  for (const std::int64_t model : results.model_of_point) {
    models.push_back(results.models[static_cast<std::size_t>(model)].digest);
  }
  ContentDigest digest(results.spec.config_hash, results.spec.yaml_resolved, models,
                       results.prompts);
  for (const RequestRecord& request : results.requests) digest.add(request);
  return digest.hex();
}

}  // namespace chunkstate
