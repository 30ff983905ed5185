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

namespace chunkstate {
namespace {

std::string json_object(const std::vector<std::pair<std::string, std::string>>& pairs) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (const auto& [key, value] : pairs) object[key] = canonical_text(value);
  return object.dump();
}

template <class Row, class Field>
void write_integers(const h5::Group& group, const h5::Label& label, const std::vector<Row>& rows,
                    Field Row::*field, const std::string& dimension) {
  std::vector<std::int64_t> values;
  for (const Row& row : rows) values.push_back(row.*field);
  group.write<std::int64_t>(label, values, {dimension}, -1);
}

template <class Row>
void write_strings(const h5::Group& group, const h5::Label& label, const std::vector<Row>& rows,
                   std::string Row::*field, const std::string& dimension) {
  std::vector<std::string> values;
  for (const Row& row : rows) values.push_back(canonical_text(row.*field));
  group.write_texts(label, values, dimension);
}

template <class Row>
void write_reals(const h5::Group& group, const h5::Label& label, const std::vector<Row>& rows,
                 double Row::*field, const std::string& dimension) {
  std::vector<double> values;
  for (const Row& row : rows) values.push_back(row.*field);
  group.write<double>(label, values, {dimension}, std::nan(""));
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
  using Rank = RankProvenance;
  const h5::Group ranks = group.create_group("ranks");
  const std::string process = "process";
  ranks.write_dimension({process, "1", "index of the process: one per rank and start"},
                        static_cast<std::int64_t>(rows.size()));
  write_integers(ranks, {"rank", "1", "rank"}, rows, &Rank::rank, process);
  write_integers(ranks, {"ranks", "1", "ranks of its job"}, rows, &Rank::ranks, process);
  write_strings(ranks, {"host", "1", "host name"}, rows, &Rank::host, process);
  write_integers(ranks, {"local_rank", "1", "rank on its host"}, rows, &Rank::local_rank, process);
  write_strings(ranks, {"gpu_name", "1", "GPU"}, rows, &Rank::gpu_name, process);
  write_strings(ranks, {"gpu_uuid", "1", "GPU's UUID"}, rows, &Rank::gpu_uuid, process);
  write_strings(ranks, {"pci_bus_id", "1", "GPU's PCI address"}, rows, &Rank::pci_bus_id, process);
  write_strings(ranks, {"numa", "1", "NUMA nodes it may run on"}, rows, &Rank::numa, process);
  write_strings(ranks, {"cpus", "1", "logical processors it may run on"}, rows, &Rank::cpus,
                process);
  write_strings(ranks, {"driver", "1", "GPU driver's version"}, rows, &Rank::driver, process);
  write_strings(ranks, {"backend", "1", "backend"}, rows, &Rank::backend, process);
  write_integers(ranks, {"threads", "1", "threads"}, rows, &Rank::threads, process);
  write_strings(ranks, {"cpu_model", "1", "processor"}, rows, &Rank::cpu_model, process);
  write_integers(ranks, {"cores", "1", "physical cores of the host"}, rows, &Rank::cores, process);
  write_integers(ranks, {"processors", "1", "logical processors of the host"}, rows,
                 &Rank::processors, process);
  write_strings(ranks, {"governor", "1", "frequency governor"}, rows, &Rank::governor, process);
  write_integers(ranks, {"memory_bytes", "byte", "memory of the host"}, rows, &Rank::memory_bytes,
                 process);
  write_strings(ranks, {"os", "1", "operating system"}, rows, &Rank::os, process);
  write_strings(ranks, {"kernel", "1", "kernel"}, rows, &Rank::kernel, process);
  write_integers(ranks, {"pid", "1", "process id"}, rows, &Rank::pid, process);
  write_strings(ranks, {"start_utc", "1", "start, UTC"}, rows, &Rank::start_utc, process);
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
  using Facts = ModelFacts;
  write_strings(group, {"name", "1", "folder or synthetic name"}, rows, &Facts::name, model);
  write_strings(group, {"architecture", "1", "family"}, rows, &Facts::architecture, model);
  write_strings(group, {"dtype", "1", "type of activations"}, rows, &Facts::dtype, model);
  write_strings(group, {"digest", "1", "digest of weights and tokenizer"}, rows, &Facts::digest,
                model);
  write_integers(group, {"parameters", "1", "parameters"}, rows, &Facts::parameters, model);
  write_integers(group, {"weight_bytes", "byte", "weights"}, rows, &Facts::weight_bytes, model);
  write_integers(group, {"state_bytes", "byte", "recurrent state of one sequence"}, rows,
                 &Facts::state_bytes, model);
  write_integers(group, {"kv_bytes_per_token", "byte", "KV cache per token of one sequence"}, rows,
                 &Facts::kv_bytes_per_token, model);
  write_reals(group, {"flops_per_token", "1", "operations of one decoded token without context"},
              rows, &Facts::flops_per_token, model);
  write_reals(group,
              {"bytes_per_token", "byte", "least bytes moved for one decoded token, batch 1"}, rows,
              &Facts::bytes_per_token, model);
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
    } else if (failed[point]++ == 0) {
      errors[point] = canonical_text(request->error);
    }
  }
  std::vector<std::uint8_t> status;
  for (std::size_t point = 0; point < points.size(); ++point) {
    status.push_back(failed[point] > 0 ? 1 : done[point] > 0 ? 0 : 2);
  }
  group.write<std::int64_t>({"done", "1", "requests done"}, done, {"point"});
  group.write<std::int64_t>({"failed", "1", "requests failed"}, failed, {"point"});
  group.write_flags({"status", "1", "outcome of the point: failed if any of its requests did"},
                    status, "point", {"done", "failed", "skipped"});
  group.write_texts({"error", "1", "the first failed request's error"}, errors, "point");
}

void write_prompts(const h5::Group& root, const ResultsContent& content) {
  const auto& prompts = content.prompts.prompts;
  const h5::Group group = root.create_group("prompts");
  group.set_attribute("digest", content.prompts.digest);
  const std::string dimension = "prompt";
  group.write_dimension({dimension, "1", "index of the prompt"},
                        static_cast<std::int64_t>(prompts.size()));
  write_strings(group, {"id", "1", "the prompt's id"}, prompts, &Prompt::id, dimension);
  write_strings(group, {"text", "1", "the prompt"}, prompts, &Prompt::text, dimension);
  write_strings(group, {"answer", "1", "the expected answer"}, prompts, &Prompt::answer, dimension);
  write_integers(group, {"token_len", "1", "tokens, as stated by the prompt file"}, prompts,
                 &Prompt::token_len, dimension);
  write_integers(group, {"num_chunks", "1", "chunks, as stated by the prompt file"}, prompts,
                 &Prompt::num_chunks, dimension);

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

}  // namespace chunkstate
