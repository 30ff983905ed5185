// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "experiments/record/journal.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// The file that a run directory's first start writes: a results file without requests. With the
/// journals it is all that a merge needs, no model and no prompt file.
inline constexpr const char* manifest_name = "manifest.h5";

/// One directory or results file to be merged.
struct MergeInput {
  std::filesystem::path path;
  StoredResults results;
  std::int64_t duplicates = 0;      // within it, dropped
  std::vector<Conflict> conflicts;  // within it
  std::vector<std::string> notes;   // lines for the user: damaged journals, live processes
};

/// A run directory: its manifest and all its journals, which may be growing. A file: as
/// read_results(). Throws InputError, OtherExperimentError (journals of another experiment than the
/// manifest's), FileError.
MergeInput read_merge_input(const std::filesystem::path& path);

/// The union of results of one experiment, whoever ran which of its items, any of them repeatedly.
class ResultsMerge {
 public:
  /// Adds an input. An item that is there already is dropped and counted if its results are equal,
  /// and a conflict if not; a success replaces a failure, of two failures the later stays. Throws
  /// OtherExperimentError that names what differs from the first input, InputError for requests
  /// that are no items of the experiment.
  void add(MergeInput input);

  const std::vector<ShardFacts>& shards() const { return shards_; }  // one per input
  const std::vector<Conflict>& conflicts() const { return conflicts_; }
  std::int64_t expected() const { return expected_; }  // points x prompts x repeats
  std::int64_t missing() const;
  std::int64_t unevaluated() const;  // outcomes whose evaluation is missing
  /// "point 0, prompt 'item-3', repeat 1" of the first items without an outcome.
  std::vector<std::string> first_missing(std::size_t most) const;

  /// What write_results() takes; valid while this object is, once.
  ResultsContent take(const RunProvenance& provenance);

 private:
  void add_request(RequestRecord request, const std::filesystem::path& path, ShardFacts& shard);
  std::int64_t place_of(const RequestRecord& request, const std::filesystem::path& path) const;
  std::string name_of(std::int64_t place) const;

  StoredResults all_;
  std::int64_t expected_ = 0;
  std::vector<std::filesystem::path> paths_;
  std::vector<ShardFacts> shards_;
  std::vector<Conflict> conflicts_;
  std::vector<std::size_t> input_of_request_;
  std::unordered_map<std::int64_t, std::size_t> request_at_;  // place -> index into requests
  std::unordered_map<std::string, std::int64_t> process_row_;
};

}  // namespace chunkstate
