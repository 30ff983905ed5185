// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/finalise.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "core/cost.hpp"
#include "experiments/analysis/summary.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/record/metrics.hpp"

namespace chunkstate {
namespace {

ModelFacts facts_of(const PointSettings& settings, EnginePool& engines) {
  const OpenModel& files = engines.files(settings);
  const Model& model = engines.model(settings);
  const SsdSettings ssd =
      ssd_settings(settings.variant, settings.chunk_size, settings.lookback, model.config());
  const SequenceStateBytes state =
      sequence_state_bytes(model.config(), model.options().dtype, model.options().state_dtype, ssd);
  CostSizes sizes;
  sizes.weight_bytes_per_pass = model.weights().streamed_bytes();
  sizes.activation = static_cast<std::int64_t>(bytes_of(model.options().dtype));
  const Cost token = forward_cost(model.config(), sizes, ssd, 0, 1, 1);
  ModelFacts facts;
  facts.name = files.name;
  facts.architecture = model.config().family;
  facts.dtype = settings.model_dtype;
  facts.digest = files.digest();
  facts.parameters = model.config().parameters();
  facts.weight_bytes = files.checkpoint->bytes();
  facts.state_bytes = state.fixed;
  facts.kv_bytes_per_token = state.per_token;
  facts.flops_per_token = token.flops;
  facts.bytes_per_token = token.bytes;
  return facts;
}

bool same_model(const ModelFacts& a, const ModelFacts& b) {
  return a.digest == b.digest && a.dtype == b.dtype && a.parameters == b.parameters &&
         a.state_bytes == b.state_bytes;
}

// The statistics of one metric over a point's requests.
struct PointSamples {
  std::vector<double> ttft, tpot, throughput, memory;
  std::vector<double> nll_lost, kl;            // of outputs compared with the reference
  std::vector<const RequestRecord*> requests;  // done
  std::int64_t done = 0;
  std::int64_t failed = 0;
};

std::string median_text(std::vector<double>& values,
                        const std::function<std::string(double)>& format) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  std::sort(values.begin(), values.end());
  return values.empty() ? "-" : format(quantile(values, 0.5));
}

std::string mean_text(const std::vector<double>& values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return values.empty() ? "-" : format_number(sum / static_cast<double>(values.size()));
}

}  // namespace

std::vector<std::string> journal_notes(const JournalContents& journals) {
  std::vector<std::string> notes;
  for (const BadLine& bad : journals.bad_lines) {
    notes.push_back(fmt::format("{}:{}: {}: the line is left out, its item ran again",
                                bad.path.string(), bad.line, bad.reason));
  }
  for (const Conflict& conflict : journals.conflicts) {
    notes.push_back(
        fmt::format("item {} has two different results ({} in {}, {} in {}); the first is kept",
                    conflict.item_id, conflict.kept_digest, conflict.kept_path.string(),
                    conflict.other_digest, conflict.other_path.string()));
  }
  return notes;
}

Outcome count_outcomes(const std::vector<WorkItem>& plan, const JournalContents& journals) {
  Outcome outcome;
  for (const WorkItem& item : plan) {
    const RequestRecord* record = journals.find(item.id);
    if (record == nullptr) {
      ++outcome.missing;
    } else if (record->status == RequestStatus::failed) {
      ++outcome.failed;
    } else if (record->status == RequestStatus::skipped) {
      ++outcome.skipped;
    } else {
      ++outcome.done;
      if (record->is_to_evaluate())
        ++(record->evaluation ? outcome.evaluated : outcome.unevaluated);
      if (record->evaluation && !record->evaluation->error.empty()) ++outcome.evaluations_failed;
    }
  }
  return outcome;
}

ResultsContent gather_results(const ExperimentSetup& setup, EnginePool& engines,
                              JournalContents& journals, const RunProvenance& provenance) {
  ResultsContent content{setup.spec, setup.prompts};
  content.run = provenance;
  content.evaluation = setup.evaluation;
  for (const SweepPoint& point : setup.spec.points) {
    const ModelFacts facts = facts_of(point.settings, engines);
    const auto found = std::find_if(content.models.begin(), content.models.end(),
                                    [&](const ModelFacts& m) { return same_model(m, facts); });
    content.model_of_point.push_back(found - content.models.begin());
    if (found == content.models.end()) content.models.push_back(facts);
  }
  for (const JournalFile& file : journals.files) content.processes.push_back(file.start.provenance);
  content.requests.reserve(journals.records.size());
  for (const WorkItem& item : setup.plan) {
    const auto found = journals.index.find(item.id);
    if (found == journals.index.end()) continue;
    content.requests.push_back(std::move(journals.records[found->second]));
  }
  return content;
}

std::string summary_table(const ResultsContent& content) {
  std::map<std::int64_t, PointSamples> samples;
  for (const RequestRecord& request : content.requests) {
    PointSamples& point = samples[request.point];
    if (request.status == RequestStatus::failed) ++point.failed;
    if (request.status != RequestStatus::done) continue;
    point.ttft.push_back(request.ttft);
    point.tpot.push_back(request.tpot());
    point.throughput.push_back(request.throughput());
    point.memory.push_back(request.peak_memory_bytes);
    point.requests.push_back(&request);
    ++point.done;
    if (!request.evaluation || std::isnan(request.evaluation->kl_mean)) continue;
    point.nll_lost.push_back(request.evaluation->nll_mean - request.evaluation->reference_nll_mean);
    point.kl.push_back(request.evaluation->kl_mean);
  }
  const bool batched = std::ranges::any_of(content.spec.points, [](const SweepPoint& point) {
    return point.settings.scenario == "offline";
  });

  std::vector<std::string> header = content.spec.axis_paths;
  if (header.empty()) header.push_back("point");
  header.insert(header.end(),
                {"requests", "failed", "first token", "per token", "tokens/s", "memory"});
  if (batched) header.emplace_back("tokens/s of a rank");
  const bool compared = content.evaluation.compares();
  if (compared) header.insert(header.end(), {"NLL lost", "KL"});
  Table table(header);
  for (const SweepPoint& point : content.spec.points) {
    PointSamples& s = samples[point.index];
    std::vector<std::string> cells;
    for (const AxisValue& axis : point.axes) cells.push_back(axis.value);
    if (cells.empty()) cells.push_back(std::to_string(point.index));
    cells.insert(cells.end(),
                 {std::to_string(s.done), std::to_string(s.failed),
                  median_text(s.ttft, format_seconds), median_text(s.tpot, format_seconds),
                  median_text(s.throughput, format_number), median_text(s.memory, format_bytes)});
    if (batched) cells.push_back(format_number(tokens_per_rank_second(s.requests)));
    if (compared) cells.insert(cells.end(), {mean_text(s.nll_lost), mean_text(s.kl)});
    table.add(cells);
  }
  const std::string means =
      compared ? "NLL lost, KL: means over prompts against exact fp32, nats per token\n" : "";
  return "medians over prompts and repeats\n" + table.text() + means;
}

}  // namespace chunkstate
