// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/evaluation.hpp"

#include <cmath>

#include "experiments/record/journal.hpp"
#include "experiments/record/merge.hpp"
#include "experiments/record/results_file.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/example_results.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

std::shared_ptr<const Evaluation> shared(Evaluation evaluation) {
  return std::make_shared<const Evaluation>(std::move(evaluation));
}

Evaluation failed(const std::string& error) {
  Evaluation evaluation;
  evaluation.error = error;
  return evaluation;
}

/// Every request that wants one has an evaluation.
ResultsContent evaluated_content(const ExampleExperiment& experiment) {
  ResultsContent content = example_content(experiment);
  content.evaluation = {"exact_fp32", "judge", "cccc", {"a {given}", "b {given}", "c {given}"}};
  unsigned seed = 0;
  for (RequestRecord& request : content.requests) {
    if (request.is_to_evaluate()) request.evaluation = shared(example_evaluation(++seed));
  }
  return content;
}

}  // namespace

TEST_CASE("The digest of an evaluation covers every number and the class of its error") {
  const Evaluation whole = example_evaluation(1);
  const std::string digest = evaluation_digest(whole);
  Evaluation copy = whole;
  std::vector<double*> numbers;
  const auto collect = [&](const auto&, const char*, double& value) { numbers.push_back(&value); };
  visit_comparison(copy, collect);
  visit_gptscore(copy, collect);
  CHECK(numbers.size() == 8 + 15);
  for (double* number : numbers) {
    const double kept = *number;
    *number += 1;
    CHECK(evaluation_digest(copy) != digest);
    *number = kept;
  }
  copy.first_divergence += 1;
  CHECK(evaluation_digest(copy) != digest);
  copy = whole;
  copy.state_drift.pop_back();
  CHECK(evaluation_digest(copy) != digest);
  CHECK(evaluation_digest(failed("out_of_memory: 3 GB")) ==
        evaluation_digest(failed("out_of_memory: 4 GB")));
}

TEST_CASE("Of two evaluations the one without error is kept, and two that differ are noticed") {
  std::shared_ptr<const Evaluation> kept;
  CHECK(keep_one(kept, nullptr));
  CHECK_FALSE(kept);
  CHECK(keep_one(kept, shared(failed("error: first"))));
  CHECK(keep_one(kept, shared(failed("error: second"))));
  CHECK(kept->error == "error: second");
  CHECK(keep_one(kept, shared(example_evaluation(1))));
  CHECK(kept->error.empty());
  CHECK(keep_one(kept, shared(failed("error: third"))));
  CHECK(keep_one(kept, shared(example_evaluation(1))));
  CHECK_FALSE(keep_one(kept, shared(example_evaluation(2))));
  CHECK(kept->first_divergence == 1);
}

TEST_CASE("An evaluation in a journal is read back bit for bit, onto its request") {
  const TemporaryFolder directory;
  const RequestRecord first = example_record(0, 0, 0);
  const RequestRecord other = failed_record(0, 1, 0, "nan_logits: layer 3");
  {
    JournalWriter writer(directory.path(), example_start(), Durability::item);
    writer.claim(evaluation_claim(first.item_id));
    writer.append(first.item_id, example_evaluation(7));
    writer.append(first);
    writer.append(other);
    writer.append(other.item_id, example_evaluation(8));  // of an output that is no more
    CHECK(writer.acknowledged() == 4);
    writer.end("done");
  }
  const JournalContents contents = read_journals(directory.path());
  REQUIRE(contents.find(first.item_id)->evaluation);
  CHECK(evaluation_digest(*contents.find(first.item_id)->evaluation) ==
        evaluation_digest(example_evaluation(7)));
  CHECK_FALSE(contents.find(other.item_id)->evaluation);
  CHECK(contents.files[0].evaluated == 2);
  CHECK(contents.files[0].open_claims.empty());
}

TEST_CASE("Numbers that an evaluation lacks stay missing") {
  const TemporaryFolder directory;
  const RequestRecord record = example_record(0, 0, 0);
  {
    JournalWriter writer(directory.path(), example_start(), Durability::none);
    writer.append(record);
    writer.append(record.item_id, failed("error: \"no\" memory"));
  }
  const auto found = read_journals(directory.path()).find(record.item_id)->evaluation;
  REQUIRE(found);
  CHECK(found->error == "error: \"no\" memory");
  CHECK(std::isnan(found->kl_mean));
  CHECK(std::isnan(found->gptscore[2].harmonic));
  CHECK(found->first_divergence == -1);
}

TEST_CASE("Different evaluations of one output are a conflict") {
  const TemporaryFolder directory;
  const RequestRecord record = example_record(0, 0, 0);
  for (const unsigned seed : {1U, 1U, 2U}) {
    JournalWriter writer(directory.path(), example_start(), Durability::none);
    writer.append(record);
    writer.append(record.item_id, example_evaluation(seed));
    writer.end("done");
  }
  const JournalContents contents = read_journals(directory.path());
  REQUIRE(contents.conflicts.size() == 1);
  CHECK(contents.conflicts[0].item_id == evaluation_claim(record.item_id));
  CHECK(contents.find(record.item_id)->evaluation->first_divergence == 1);
}

TEST_CASE("A results file holds evaluations, and is incomplete while one is missing") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  ResultsContent content = evaluated_content(experiment);
  const auto path = directory.path() / "results.h5";
  const std::string digest = write_results(path, content);
  CHECK(digest != content_digest(example_content(experiment)));
  CHECK(verify_results(path).complete);
  CHECK(verify_results(path).sound());

  const StoredResults stored = read_results(path);
  CHECK(stored.evaluation.reference == "exact_fp32");
  CHECK(stored.evaluation.judge == "judge");
  CHECK(stored.evaluation.judge_digest == "cccc");
  CHECK(stored.evaluation.instructions[1] == "b {given}");
  std::size_t evaluated = 0;
  for (const RequestRecord& request : stored.requests) {
    CHECK((request.evaluation != nullptr) == request.is_to_evaluate());
    for (const RequestRecord& written : content.requests) {
      if (written.item_id != request.item_id || !written.evaluation) continue;
      CHECK(evaluation_digest(*request.evaluation) == evaluation_digest(*written.evaluation));
      ++evaluated;
    }
  }
  CHECK(evaluated > 2);

  for (RequestRecord& request : content.requests) {
    if (!request.evaluation) continue;
    request.evaluation = nullptr;
    break;
  }
  write_results(path, content);
  const VerifyReport report = verify_results(path);
  CHECK(report.sound());
  CHECK_FALSE(report.complete);
  CHECK(report.evaluations_missing == 1);
}

TEST_CASE("A merge takes an evaluation from whichever part has it") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const ResultsContent whole = evaluated_content(experiment);
  ResultsContent without = evaluated_content(experiment);
  for (RequestRecord& request : without.requests) request.evaluation = nullptr;
  const std::string digest = write_results(directory.path() / "whole.h5", whole);
  write_results(directory.path() / "without.h5", without);
  const auto merged = [&](std::initializer_list<const char*> names, ResultsMerge& merge) {
    for (const char* name : names) merge.add(read_merge_input(directory.path() / name));
  };
  ResultsMerge both;
  merged({"without.h5", "whole.h5"}, both);
  CHECK(both.unevaluated() == 0);
  CHECK(both.conflicts().empty());
  CHECK(content_digest(both.take({})) == digest);
  ResultsMerge alone;
  merged({"without.h5"}, alone);
  CHECK(alone.unevaluated() > 0);

  ResultsContent other = evaluated_content(experiment);
  other.requests[0].evaluation = shared(example_evaluation(99));
  write_results(directory.path() / "other.h5", other);
  ResultsMerge conflict;
  merged({"whole.h5", "other.h5"}, conflict);
  CHECK(conflict.conflicts().size() == 1);
}
