// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/merge.hpp"

#include <algorithm>
#include <utility>

#include "core/digest.hpp"
#include "core/errors.hpp"
#include "experiments/record/result_digest.hpp"
#include "experiments/record/run_status.hpp"

namespace chunkstate {
namespace {

constexpr std::int64_t most_items = std::int64_t{1} << 31;  // as make_work_plan()

/// What a journal of this experiment says at its start.
RunStart identity_of(const StoredResults& results) {
  Digest models;
  for (const std::int64_t model : results.model_of_point) {
    models.text(results.models[static_cast<std::size_t>(model)].digest);
  }
  if (results.evaluation.judges()) models.text(results.evaluation.judge_digest);
  RunStart start;
  start.config_hash = results.spec.config_hash;
  start.prompts_digest = results.prompts.digest;
  start.model_digest = models.hex();
  start.yaml_resolved = results.spec.yaml_resolved;
  return start;
}

MergeInput read_directory(const std::filesystem::path& path) {
  const std::filesystem::path manifest = path / manifest_name;
  if (!std::filesystem::exists(manifest)) {
    throw InputError(path.string() + ": no " + manifest_name + ": no run has started here");
  }
  MergeInput input;
  input.path = path;
  input.results = read_results(manifest);
  JournalContents journals = read_journals(path);
  check_same_experiment(path, journals, identity_of(input.results));
  for (const JournalFile& file : journals.files) {
    input.results.processes.push_back(file.start.provenance);
    if (process_state(file) != "running") continue;
    input.notes.push_back(path.string() + ": " + file.start.process.host + ":" +
                          std::to_string(file.start.process.pid) +
                          " is still running; what it finishes from now on is not merged");
  }
  for (const BadLine& bad : journals.bad_lines) {
    input.notes.push_back(bad.path.string() + ":" + std::to_string(bad.line) + ": " + bad.reason +
                          ": the line is left out");
  }
  input.results.requests = std::move(journals.records);
  input.duplicates = journals.duplicates;
  input.conflicts = std::move(journals.conflicts);
  return input;
}

std::int64_t count_items(const StoredResults& results, const std::filesystem::path& path) {
  const auto points = static_cast<std::int64_t>(results.spec.points.size());
  const auto prompts = static_cast<std::int64_t>(results.prompts.prompts.size());
  const std::int64_t repeats = results.spec.measure.repeats;
  if (points < 1 || prompts < 1 || repeats < 1 || points > most_items / prompts ||
      points * prompts > most_items / repeats) {
    throw InputError(path.string() + ": " + std::to_string(points) + " points x " +
                     std::to_string(prompts) + " prompts x " + std::to_string(repeats) +
                     " repeats, expected 1 to " + std::to_string(most_items) + " items");
  }
  return points * prompts * repeats;
}

}  // namespace

MergeInput read_merge_input(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return read_directory(path);
  MergeInput input;
  input.path = path;
  input.results = read_results(path);
  return input;
}

void ResultsMerge::add(MergeInput input) {
  std::vector<RequestRecord> requests = std::exchange(input.results.requests, {});
  std::vector<RankProvenance> processes = std::exchange(input.results.processes, {});
  const std::int64_t items = count_items(input.results, input.path);
  if (paths_.empty()) {
    expected_ = items;
    all_ = std::move(input.results);
  } else {
    const std::string differences =
        experiment_differences(identity_of(all_), identity_of(input.results));
    if (!differences.empty()) {
      throw OtherExperimentError(input.path.string() + " is of another experiment than " +
                                 paths_[0].string() + " (there): " + differences);
    }
    if (items != expected_) {
      throw InputError(input.path.string() + ": damaged: speaks of " + std::to_string(items) +
                       " items, " + paths_[0].string() + " of " + std::to_string(expected_));
    }
  }
  paths_.push_back(input.path);
  conflicts_.insert(conflicts_.end(), input.conflicts.begin(), input.conflicts.end());

  // The same process may have written to several inputs, or one input be named twice.
  std::vector<std::int64_t> row_of(processes.size());
  for (std::size_t i = 0; i < processes.size(); ++i) {
    const auto next = static_cast<std::int64_t>(all_.processes.size());
    const auto [row, is_new] = process_row_.try_emplace(to_json(processes[i]), next);
    if (is_new) all_.processes.push_back(processes[i]);
    row_of[i] = row->second;
  }
  ShardFacts shard;
  shard.name = std::filesystem::weakly_canonical(input.path).filename();
  shard.items = static_cast<std::int64_t>(requests.size());
  shard.duplicates = input.duplicates;
  for (RequestRecord& request : requests) {
    const bool known =
        request.process >= 0 && request.process < static_cast<std::int64_t>(row_of.size());
    request.process = known ? row_of[static_cast<std::size_t>(request.process)] : -1;
    add_request(std::move(request), input.path, shard);
  }
  shards_.push_back(shard);
}

std::int64_t ResultsMerge::place_of(const RequestRecord& r,
                                    const std::filesystem::path& path) const {
  const auto points = static_cast<std::int64_t>(all_.spec.points.size());
  const auto prompts = static_cast<std::int64_t>(all_.prompts.prompts.size());
  const std::int64_t repeats = all_.spec.measure.repeats;
  if (r.point < 0 || r.point >= points || r.prompt < 0 || r.prompt >= prompts || r.repeat < 0 ||
      r.repeat >= repeats) {
    throw InputError(path.string() + ": point " + std::to_string(r.point) + ", prompt " +
                     std::to_string(r.prompt) + ", repeat " + std::to_string(r.repeat) +
                     " is no item of the experiment");
  }
  return (r.point * prompts + r.prompt) * repeats + r.repeat;
}

std::string ResultsMerge::name_of(std::int64_t place) const {
  const std::int64_t repeats = all_.spec.measure.repeats;
  const auto prompts = static_cast<std::int64_t>(all_.prompts.prompts.size());
  const std::int64_t prompt = place / repeats % prompts;
  return "point " + std::to_string(place / repeats / prompts) + ", prompt '" +
         all_.prompts.prompts[static_cast<std::size_t>(prompt)].id + "', repeat " +
         std::to_string(place % repeats);
}

void ResultsMerge::add_request(RequestRecord request, const std::filesystem::path& path,
                               ShardFacts& shard) {
  const std::int64_t place = place_of(request, path);
  const auto [found, is_new] = request_at_.try_emplace(place, all_.requests.size());
  const std::size_t input = paths_.size() - 1;
  if (is_new) {
    all_.requests.push_back(std::move(request));
    input_of_request_.push_back(input);
    return;
  }
  RequestRecord& kept = all_.requests[found->second];
  std::size_t& kept_input = input_of_request_[found->second];
  if (kept.item_id != request.item_id) {
    throw InputError(path.string() + ": " + name_of(place) + " has the id " + request.item_id +
                     ", in " + paths_[kept_input].string() + " it has " + kept.item_id);
  }
  const std::string kept_digest = result_digest(kept);
  const std::string digest = result_digest(request);
  if (digest == kept_digest) {
    ++shard.duplicates;
    const auto before = kept.evaluation;
    if (!keep_one(kept.evaluation, request.evaluation)) {
      conflicts_.push_back({evaluation_claim(request.item_id) + " (" + name_of(place) + ")",
                            evaluation_digest(*before), evaluation_digest(*request.evaluation),
                            paths_[kept_input], path});
    }
  } else if (kept.status != RequestStatus::done) {
    kept = std::move(request);
    kept_input = input;
  } else if (request.status == RequestStatus::done) {
    conflicts_.push_back({request.item_id + " (" + name_of(place) + ")", kept_digest, digest,
                          paths_[kept_input], path});
  }
}

std::int64_t ResultsMerge::missing() const {
  return expected_ - static_cast<std::int64_t>(all_.requests.size());
}

std::int64_t ResultsMerge::unevaluated() const {
  if (!all_.evaluation.any()) return 0;
  return std::count_if(all_.requests.begin(), all_.requests.end(),
                       [](const RequestRecord& r) { return r.is_to_evaluate() && !r.evaluation; });
}

std::vector<std::string> ResultsMerge::first_missing(std::size_t most) const {
  std::vector<std::string> names;
  for (std::int64_t place = 0; place < expected_ && names.size() < most; ++place) {
    if (request_at_.count(place) == 0) names.push_back(name_of(place));
  }
  return names;
}

ResultsContent ResultsMerge::take(const RunProvenance& provenance) {
  ResultsContent content{all_.spec, all_.prompts};
  content.models = all_.models;
  content.model_of_point = all_.model_of_point;
  content.run = provenance;
  content.processes = all_.processes;
  content.requests = std::move(all_.requests);
  content.shards = shards_;
  content.evaluation = all_.evaluation;
  return content;
}

}  // namespace chunkstate
