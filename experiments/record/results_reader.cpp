// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/results_reader.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <string_view>
#include <type_traits>

#include "core/errors.hpp"
#include "experiments/record/byte_archive.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/isolated.hpp"
#include "experiments/record/result_digest.hpp"
#include "experiments/record/results_columns.hpp"
#include "experiments/record/results_groups.hpp"

namespace chunkstate {

// Both directions of the way from the child. Not in the unnamed namespace: an archive finds them
// by the namespace of the struct.
template <class Archive>
void transfer(Archive& archive, ModelFacts& facts) {
  visit_model_columns([&](const h5::Label&, auto field) { archive(facts.*field); });
}
template <class Archive>
void transfer(Archive& archive, RankProvenance& rank) {
  visit_rank_columns([&](const h5::Label&, auto field) { archive(rank.*field); });
}
template <class Archive>
void transfer(Archive& archive, Prompt& prompt) {
  visit_prompt_columns([&](const h5::Label&, auto field) { archive(prompt.*field); });
  archive(prompt.extra);
}
template <class Archive>
void transfer(Archive& archive, AxisValue& axis) {
  archive(axis.path);
  archive(axis.value);
}
template <class Archive>
void transfer(Archive& archive, SweepPoint& point) {
  archive(point.index);
  archive(point.axes);
}
template <class Archive>
void transfer(Archive& archive, RequestRecord& r) {
  visit_request_integers([&](const h5::Label&, auto field) { archive(r.*field); });
  visit_request_reals([&](const char*, auto field) { archive(r.*field); });
  archive(r.tokens_in);
  archive(r.status);
  archive(r.item_id);
  archive(r.error);
  archive(r.stop_reason);
  archive(r.text);
  archive(r.token_ids);
  archive(r.logprobs);
  archive(r.t_emit);
}
template <class Archive>
void transfer(Archive& archive, StoredResults& results) {
  archive(results.spec.name);
  archive(results.spec.yaml_source);
  archive(results.spec.yaml_resolved);
  archive(results.spec.config_hash);
  archive(results.spec.measure.repeats);
  archive(results.spec.axis_paths);
  archive(results.spec.points);
  archive(results.prompts.digest);
  archive(results.prompts.prompts);
  archive(results.models);
  archive(results.model_of_point);
  archive(results.processes);
  archive(results.requests);
}

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
  visit_request_integers(column);
  visit_request_reals([&](const char* name, double RequestRecord::*field) {
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
    requests[i].status = status[i] == "done" ? RequestStatus::done : RequestStatus::failed;
    requests[i].stop_reason = stop_reason[i] == "none" ? "" : stop_reason[i];
  }
  const h5::Group outputs = root.open_group("outputs");
  column_reader(outputs, requests)({"text", "", ""}, &RequestRecord::text);
  read_tokens(root.open_group("tokens"), requests);
}

StoredResults read_in_this_process(const std::filesystem::path& path) {
  const h5::Handle file = h5::open_file(path.string());
  h5::check_contained(file, path.string());
  const h5::Group root = h5::root_group(file, path.string());
  check_schema(root, path.string());
  StoredResults results = read_groups(root);
  const std::string stated = root.text_attribute("content_digest");
  if (const std::string digest = content_digest(results); digest != stated) {
    throw InputError(path.string() + ": damaged: content_digest is " + stated +
                     ", the content gives " + digest);
  }
  return results;
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

void check_signature(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw InputError(path.string() + ": " + std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) throw InputError(path.string() + ": not a regular file");
  constexpr std::array<char, 8> signature{'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  std::array<char, 8> found{};
  ssize_t got = 0;
  try {
    const FileDescriptor file(path, O_RDONLY);
    got = ::read(file.get(), found.data(), found.size());
  } catch (const FileError& error) {
    throw InputError(error.what());
  }
  if (got == static_cast<ssize_t>(found.size()) && found == signature) return;
  throw InputError(path.string() + ": not an HDF5 file (" +
                   (status.st_size < 8 ? std::to_string(status.st_size) + " bytes"
                                       : std::string("no signature at its start")) +
                   ")");
}

void check_schema(const h5::Group& root, const std::string& path) {
  std::string conventions;
  std::int64_t version = 0;
  try {
    conventions = root.text_attribute("Conventions");
    version = root.integer_attribute("schema_version");
  } catch (const h5::Error&) {
    throw InputError(path +
                     ": an HDF5 file, but not a Chunkstate results file (no Conventions and "
                     "schema_version)");
  }
  if (conventions.rfind("Chunkstate-", 0) != 0) {
    throw InputError(path + ": Conventions is '" + conventions + "', expected 'Chunkstate-1.0'");
  }
  if (version != results_schema_version) {
    throw InputError(path + ": schema_version " + std::to_string(version) +
                     ", this program reads " + std::to_string(results_schema_version));
  }
}

std::string call_on_foreign_file(const std::filesystem::path& path,
                                 const std::function<std::string()>& body) {
  check_signature(path);
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  // 100,000 requests of four tokens take 8 times their file's bytes.
  const std::int64_t memory = (std::int64_t{256} << 20) + 64 * file_bytes;
  const auto seconds = static_cast<unsigned>(20 + file_bytes / 1'000'000);
  const IsolatedResult result = run_isolated(
      [&]() noexcept -> std::string {
        try {
          return "=" + body();
        } catch (const std::bad_alloc&) {
          return "!" + path.string() + ": damaged: takes more memory than its " +
                 std::to_string(file_bytes) + " bytes can need";
        } catch (const std::exception& error) {
          const std::string text = error.what();
          return "!" + (text.find(path.string()) == 0 ? text : path.string() + ": " + text);
        }
      },
      memory, seconds);
  if (!result.failure.empty() || result.text.empty()) {
    throw InputError(path.string() + ": damaged: HDF5 cannot read it (" + result.failure + ")");
  }
  if (result.text[0] == '!') throw InputError(result.text.substr(1));
  return result.text.substr(1);
}

StoredResults read_results(const std::filesystem::path& path) {
  const std::string bytes = call_on_foreign_file(path, [&] {
    ByteWriter archive;
    StoredResults results = read_in_this_process(path);
    archive(results);
    return archive.take();
  });
  StoredResults results;
  ByteReader archive(bytes);
  archive(results);
  return results;
}

}  // namespace chunkstate
