// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cctype>
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "experiments/analysis/summary.hpp"
#include "experiments/record/checksum.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/record/results_columns.hpp"
#include "experiments/record/results_groups.hpp"

namespace chunkstate {
namespace {

const h5::Label request_dimension{"request", "1", "index of the request, by point, prompt, repeat"};

template <class T, class Field>
std::vector<T> collect(const SortedRequests& requests, const Field& field) {
  std::vector<T> values;
  values.reserve(requests.size());
  for (const RequestRecord* request : requests) values.push_back(field(*request));
  return values;
}

void write_metric(const h5::Group& group, const Metric& metric, const SortedRequests& requests) {
  const h5::Label label{metric.name, metric.units, metric.long_name};
  const auto values = collect<double>(requests, metric.value);
  if (!metric.is_count) {
    group.write<double>(label, values, {"request"}, std::nan(""));
    return;
  }
  std::vector<std::int64_t> counts;
  for (const double value : values) {
    counts.push_back(std::isnan(value) ? -1 : static_cast<std::int64_t>(value));
  }
  group.write<std::int64_t>(label, counts, {"request"}, -1);
}

void write_stop_reasons(const h5::Group& group, const SortedRequests& requests) {
  std::vector<std::string> meanings{"none", "length", "eos"};
  std::vector<std::uint8_t> codes;
  for (const RequestRecord* request : requests) {
    const std::string& reason = request->stop_reason.empty() ? meanings[0] : request->stop_reason;
    auto known = std::find(meanings.begin(), meanings.end(), reason);
    if (known == meanings.end()) {
      const bool one_word = std::all_of(reason.begin(), reason.end(), [](unsigned char c) {
        return std::isalnum(c) != 0 || c == '_';
      });
      if (!one_word || meanings.size() == 255) {
        throw std::invalid_argument("results: stop reason '" + reason + "' is not one word");
      }
      known = meanings.insert(meanings.end(), std::string(reason));
    }
    codes.push_back(static_cast<std::uint8_t>(known - meanings.begin()));
  }
  group.write_flags({"stop_reason", "1", "why the request ended"}, codes, "request", meanings);
}

}  // namespace

void write_requests(const h5::Group& root, const ResultsContent& content,
                    const SortedRequests& requests) {
  const h5::Group group = root.create_group("requests");
  group.set_attribute("repeats", content.spec.measure.repeats);
  group.write_dimension(request_dimension, static_cast<std::int64_t>(requests.size()));
  visit_request_integers([&](const h5::Label& label, std::int64_t RequestRecord::*field) {
    group.write<std::int64_t>(
        label, collect<std::int64_t>(requests, [&](const auto& r) { return r.*field; }),
        {"request"}, -1);
  });
  group.write<double>({"t_start", "s", "request start, since the run began"},
                      collect<double>(requests, [](const auto& r) { return r.t_start; }),
                      {"request"}, std::nan(""));
  for (const Metric& metric : request_metrics()) write_metric(group, metric, requests);
  group.write_flags(
      {"status", "1", "outcome"},
      collect<std::uint8_t>(requests,
                            [](const auto& r) { return static_cast<std::uint8_t>(r.status); }),
      "request", {"done", "failed", "skipped"});
  write_stop_reasons(group, requests);
  group.write_texts(
      {"error", "1", "class: message of a request that failed or was skipped"},
      collect<std::string>(requests, [](const auto& r) { return canonical_text(r.error); }),
      "request");
  group.write_texts({"item_id", "1", "hash of experiment, model, prompt, point and repeat"},
                    collect<std::string>(requests, [](const auto& r) { return r.item_id; }),
                    "request");
}

void write_outputs(const h5::Group& root, const SortedRequests& requests) {
  const h5::Group group = root.create_group("outputs");
  group.write_dimension(request_dimension, static_cast<std::int64_t>(requests.size()));
  group.write_texts(
      {"text", "1", "generated text"},
      collect<std::string>(requests, [](const auto& r) { return canonical_text(r.text); }),
      "request");
}

void write_tokens(const h5::Group& root, const SortedRequests& requests) {
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> token_ids;
  std::vector<double> t_emit;
  std::vector<float> logprobs;
  for (const RequestRecord* r : requests) {
    token_ids.insert(token_ids.end(), r->token_ids.begin(), r->token_ids.end());
    for (std::size_t i = 0; i < r->token_ids.size(); ++i) {
      t_emit.push_back(i < r->t_emit.size() ? r->t_emit[i] : std::nan(""));
      logprobs.push_back(i < r->logprobs.size() ? r->logprobs[i] : std::nanf(""));
    }
    offsets.push_back(static_cast<std::int64_t>(token_ids.size()));
  }
  const h5::Group group = root.create_group("tokens");
  group.write_dimension({"token", "1", "index of the token over all requests"},
                        static_cast<std::int64_t>(token_ids.size()));
  group.write_dimension({"edge", "1", "index into offsets"},
                        static_cast<std::int64_t>(offsets.size()));
  group.write<std::int64_t>(
      {"offsets", "1", "tokens of request i: offsets[i] up to, not including, offsets[i + 1]"},
      offsets, {"edge"});
  group.write<std::int32_t>({"token_id", "1", "token generated"}, token_ids, {"token"});
  group.write<double>({"t_emit", "s", "when it was emitted, since request start"}, t_emit,
                      {"token"}, std::nan(""));
  group.write<float>({"logprob", "1", "its log-probability, nats"}, logprobs, {"token"},
                     std::nanf(""));
}

std::vector<double> summary_values(const ResultsContent& content, const SortedRequests& requests) {
  const auto metrics = request_metrics();
  const std::size_t points = content.spec.points.size();
  std::vector<double> table;
  table.reserve(points * metrics.size() * Statistics::names.size());
  auto begin = requests.begin();
  for (std::size_t point = 0; point < points; ++point) {
    const auto end = std::find_if(begin, requests.end(), [&](const RequestRecord* r) {
      return r->point != static_cast<std::int64_t>(point);
    });
    SortedRequests done;
    std::copy_if(begin, end, std::back_inserter(done),
                 [](const RequestRecord* r) { return r->status == RequestStatus::done; });
    const auto repeats = collect<std::int64_t>(done, [](const auto& r) { return r.repeat; });
    std::vector<std::vector<double>> columns;
    for (const Metric& metric : metrics) columns.push_back(collect<double>(done, metric.value));
    for (const Statistics& statistics : summarize(columns, repeats, point)) {
      const auto values = statistics.values();
      table.insert(table.end(), values.begin(), values.end());
    }
    begin = end;
  }
  return table;
}

void write_summary(const h5::Group& root, const ResultsContent& content,
                   std::span<const double> values) {
  const auto metrics = request_metrics();
  std::vector<std::string> names;
  std::vector<std::string> units;
  for (const Metric& metric : metrics) {
    names.emplace_back(metric.name);
    units.emplace_back(metric.units);
  }
  const std::vector<std::string> statistics(Statistics::names.begin(), Statistics::names.end());
  const h5::Group group = root.create_group("summary");
  group.write_dimension({"point", "1", "index into /sweep"},
                        static_cast<std::int64_t>(content.spec.points.size()));
  group.write_dimension({"metric", "1", "column of /requests"}, names);
  group.write_dimension({"stat", "1", "statistic over the requests done"}, statistics);
  group.write_texts({"metric_units", "1", "units of the metric; n is a pure number"}, units,
                    "metric");
  group.write<double>({"value", "1",
                       "statistics of the metric in metric_units; p90 needs n >= 30, p99 n >= 300; "
                       "ci: 95 % of the median"},
                      values, {"point", "metric", "stat"}, std::nan(""));
}

}  // namespace chunkstate
