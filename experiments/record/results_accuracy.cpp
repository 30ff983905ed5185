// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "experiments/record/checksum.hpp"
#include "experiments/record/results_groups.hpp"

namespace chunkstate {
namespace {

const Evaluation no_evaluation;

const Evaluation& evaluation_of(const RequestRecord& request) {
  return request.evaluation ? *request.evaluation : no_evaluation;
}

template <class T, class Field>
std::vector<T> collect(const SortedRequests& requests, const Field& field) {
  std::vector<T> values;
  values.reserve(requests.size());
  for (const RequestRecord* request : requests) values.push_back(field(evaluation_of(*request)));
  return values;
}

/// The numbers of one visit as columns.
template <class VisitAll>
void write_columns(const h5::Group& group, const SortedRequests& requests,
                   const VisitAll& visit_all) {
  std::vector<h5::Label> labels;
  visit_all(no_evaluation, [&](const std::string& name, const char* meaning, double) {
    labels.push_back({name, "1", meaning});
  });
  std::vector<std::vector<double>> columns(labels.size());
  for (const RequestRecord* request : requests) {
    std::size_t column = 0;
    visit_all(evaluation_of(*request), [&](const std::string&, const char*, double value) {
      columns[column++].push_back(value);
    });
  }
  for (std::size_t i = 0; i < labels.size(); ++i) {
    group.write<double>(labels[i], columns[i], {"request"}, std::nan(""));
  }
}

/// One row per request, as long as the longest; nothing if there is no drift.
void write_state_drift(const h5::Group& group, const SortedRequests& requests) {
  std::size_t layers = 0;
  for (const RequestRecord* request : requests) {
    layers = std::max(layers, evaluation_of(*request).state_drift.size());
  }
  if (layers == 0) return;
  std::vector<double> rows;
  for (const RequestRecord* request : requests) {
    std::vector<double> row = evaluation_of(*request).state_drift;
    row.resize(layers, std::nan(""));
    rows.insert(rows.end(), row.begin(), row.end());
  }
  group.write_dimension({"mamba_layer", "1", "index of the mamba layer"},
                        static_cast<std::int64_t>(layers));
  group.write<double>(
      {"state_drift", "1", "|S - S_ref| / |S_ref| after the last token, Euclidean norm"}, rows,
      {"request", "mamba_layer"}, std::nan(""));
}

void read_state_drift(const h5::Group& group, std::vector<Evaluation>& evaluations) {
  const std::size_t layers = group.read<std::int64_t>("mamba_layer").size();
  const std::vector<double> rows = group.read_table("state_drift", layers);
  if (rows.size() != evaluations.size() * layers) {
    throw h5::Error(group.path() + "/state_drift: " + std::to_string(rows.size()) +
                    " values, expected " + std::to_string(evaluations.size() * layers));
  }
  for (std::size_t i = 0; i < evaluations.size(); ++i) {
    std::vector<double>& drift = evaluations[i].state_drift;
    const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(i * layers);
    drift.assign(begin, begin + static_cast<std::ptrdiff_t>(layers));
    while (!drift.empty() && std::isnan(drift.back())) drift.pop_back();
  }
}

std::string instruction_attribute(std::size_t aspect) {
  return std::string("instruction_") + judged_aspects[aspect];
}

}  // namespace

void write_accuracy(const h5::Group& root, const ResultsContent& content,
                    const SortedRequests& requests) {
  const EvaluationFacts& facts = content.evaluation;
  if (!facts.any()) return;
  const h5::Group group = root.create_group("accuracy");
  group.set_attribute("reference", facts.reference);
  group.set_attribute("judge", canonical_text(facts.judge));
  group.set_attribute("judge_digest", facts.judge_digest);
  group.write_dimension({"request", "1", "index of the request, by point, prompt, repeat"},
                        static_cast<std::int64_t>(requests.size()));
  std::vector<std::uint8_t> evaluated;
  for (const RequestRecord* request : requests) evaluated.push_back(request->evaluation ? 1 : 0);
  group.write_flags({"evaluated", "1", "whether this request was evaluated: repeat 0 only"},
                    evaluated, "request", {"no", "yes"});
  group.write_texts(
      {"error", "1", "class: message of an evaluation that failed"},
      collect<std::string>(requests, [](const Evaluation& e) { return canonical_text(e.error); }),
      "request");
  if (facts.compares()) {
    write_columns(group, requests,
                  [](const Evaluation& e, const auto& visit) { visit_comparison(e, visit); });
    group.write<std::int64_t>(
        {"first_divergence", "1",
         "generated tokens before the first that differs from the reference's; tokens_out if none"},
        collect<std::int64_t>(requests, [](const Evaluation& e) { return e.first_divergence; }),
        {"request"}, -1);
    write_state_drift(group, requests);
  }
  if (!facts.judges()) return;
  for (std::size_t i = 0; i < judged_aspects.size(); ++i) {
    group.set_attribute(instruction_attribute(i), canonical_text(facts.instructions[i]));
  }
  write_columns(group, requests,
                [](const Evaluation& e, const auto& visit) { visit_gptscore(e, visit); });
}

void read_accuracy(const h5::Group& group, StoredResults& results) {
  EvaluationFacts& facts = results.evaluation;
  facts.reference = group.text_attribute("reference");
  facts.judge = group.text_attribute("judge");
  facts.judge_digest = group.text_attribute("judge_digest");
  const std::size_t count = results.requests.size();
  const auto rows = [&](auto values, const std::string& name) {
    if (values.size() == count) return values;
    throw h5::Error(group.path() + "/" + name + ": " + std::to_string(values.size()) +
                    " values, expected " + std::to_string(count));
  };
  std::vector<Evaluation> evaluations(count);
  const auto read_columns = [&](const auto& visit_all) {
    std::vector<std::string> names;
    visit_all(no_evaluation,
              [&](const std::string& name, const char*, double) { names.push_back(name); });
    std::vector<std::vector<double>> columns;
    for (const std::string& name : names) columns.push_back(rows(group.read<double>(name), name));
    for (std::size_t i = 0; i < count; ++i) {
      std::size_t column = 0;
      visit_all(evaluations[i], [&](const std::string&, const char*, double& value) {
        value = columns[column++][i];
      });
    }
  };
  const auto errors = rows(group.read_texts("error"), "error");
  for (std::size_t i = 0; i < count; ++i) evaluations[i].error = errors[i];
  if (facts.compares()) {
    read_columns([](auto& e, const auto& visit) { visit_comparison(e, visit); });
    const auto divergence = rows(group.read<std::int64_t>("first_divergence"), "first_divergence");
    for (std::size_t i = 0; i < count; ++i) evaluations[i].first_divergence = divergence[i];
    if (group.has("state_drift")) read_state_drift(group, evaluations);
  }
  if (facts.judges()) {
    for (std::size_t i = 0; i < judged_aspects.size(); ++i) {
      facts.instructions[i] = group.text_attribute(instruction_attribute(i));
    }
    read_columns([](auto& e, const auto& visit) { visit_gptscore(e, visit); });
  }
  const auto evaluated = rows(group.read_flags("evaluated"), "evaluated");
  for (std::size_t i = 0; i < count; ++i) {
    if (evaluated[i] != "yes") continue;
    results.requests[i].evaluation = std::make_shared<Evaluation>(std::move(evaluations[i]));
  }
}

}  // namespace chunkstate
