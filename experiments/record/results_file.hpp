// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "experiments/record/provenance.hpp"
#include "experiments/record/request_record.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "experiments/spec/prompt_set.hpp"

namespace chunkstate {

inline constexpr std::int64_t results_schema_version = 1;

/// One model that the experiment ran: a row of /model. -1 and NaN mean unknown.
struct ModelFacts {
  std::string name;
  std::string architecture;  // "bamba", "llama"
  std::string dtype;
  std::string digest;  // of the weights and the tokenizer
  std::int64_t parameters = -1;
  std::int64_t weight_bytes = -1;
  std::int64_t state_bytes = -1;         // recurrent state of one sequence
  std::int64_t kv_bytes_per_token = -1;  // of one sequence
  double flops_per_token =
      std::numeric_limits<double>::quiet_NaN();  // one decoded token, no context
  double bytes_per_token = std::numeric_limits<double>::quiet_NaN();  // one decoded token, batch 1
};

/// One input of a merge: a row of /shards.
struct ShardFacts {
  std::string name;             // of the file or directory, without the path to it
  std::int64_t items = 0;       // with an outcome
  std::int64_t duplicates = 0;  // of those: dropped, because an equal result was there already
};

/// All that goes into a results file. `spec` and `prompts` must outlive it.
struct ResultsContent {
  const ExperimentSpec& spec;
  const PromptSet& prompts;
  std::vector<ModelFacts> models;            // distinct
  std::vector<std::int64_t> model_of_point;  // index into models, per sweep point
  RunProvenance run;
  std::vector<RankProvenance>
      processes;  // RequestRecord::process is the index; JournalContents::files
  std::vector<RequestRecord> requests;  // in any order; each item at most once
  std::vector<ShardFacts> shards = {};  // of merged files only
  EvaluationFacts evaluation = {};
};

/// The digest that the results file of this content carries. Requests in any order.
std::string content_digest(const ResultsContent& content);

/// Writes the file under a temporary name, syncs it, reads it back, compares counts and digest, and
/// renames it to `path`: a file of this name is complete or the previous one. Layout:
/// experiments/record/README.md. Returns the content digest. Throws FileError, h5::Error,
/// std::invalid_argument (content that contradicts itself), std::runtime_error (what was read back
/// differs).
std::string write_results(const std::filesystem::path& path, const ResultsContent& content);

/// What a results file holds. Of `spec`, what is written to the file: name, texts, config_hash,
/// repeats, axes and their values per point.
struct StoredResults {
  ExperimentSpec spec;
  PromptSet prompts;
  std::vector<ModelFacts> models;
  std::vector<std::int64_t> model_of_point;
  std::vector<RankProvenance> processes;
  std::vector<RequestRecord> requests;  // by point, prompt, repeat
  EvaluationFacts evaluation;
};

/// The inverse of write_results(), for files from anywhere: in a child process with limits on
/// memory and time, after the checks of verify_results(). Throws InputError.
StoredResults read_results(const std::filesystem::path& path);

/// What verify_results() found. The file is sound if there are no problems; it may still be
/// incomplete.
struct VerifyReport {
  std::int64_t items_expected = 0;  // points x prompts x repeats
  std::int64_t items_done = 0;
  std::int64_t items_failed = 0;
  std::int64_t items_missing = 0;
  std::int64_t evaluations_missing = 0;
  bool complete = false;  // every expected item has an outcome, as the file itself claims
  std::string stored_digest;
  std::string digest;  // computed from what the file holds
  std::vector<std::string> problems;
  bool sound() const { return problems.empty(); }
};

/// Reads everything (so that HDF5 checks the checksums), recomputes the digest, counts the items,
/// checks the token offsets and that every column has its dimension. In a child process with limits
/// on memory and time, because HDF5 itself crashes on some damaged files. Throws InputError if it
/// is no results file of a schema that this version knows, or cannot be read: missing, truncated,
/// not HDF5, columns that do not belong together.
VerifyReport verify_results(const std::filesystem::path& path);

/// The same in this process, for a file that this process has just written.
VerifyReport verify_own_results(const std::filesystem::path& path);

}  // namespace chunkstate
