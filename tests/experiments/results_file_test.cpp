// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/results_file.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <random>

#include "core/errors.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/results_groups.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/example_results.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

TEST_CASE("a written file verifies and carries the digest of its content") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const ResultsContent content = example_content(experiment);
  const auto path = directory.path() / "results.h5";
  const std::string digest = write_results(path, content);
  CHECK(digest == content_digest(content));

  const VerifyReport report = verify_results(path);
  CHECK(report.problems == std::vector<std::string>{});
  CHECK(report.digest == digest);
  CHECK(report.stored_digest == digest);
  CHECK(report.complete);
  CHECK(report.items_expected == 12);
  CHECK(report.items_done == 11);
  CHECK(report.items_failed == 1);
  CHECK(report.items_missing == 0);
  // Nothing else is left in the directory.
  CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);
}

TEST_CASE("columns come back as they were recorded") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const ResultsContent content = example_content(experiment);
  const auto path = directory.path() / "results.h5";
  write_results(path, content);
  const h5::Handle file = h5::open_file(path.string());
  const h5::Group root = h5::root_group(file, path.string());
  CHECK(root.text_attribute("Conventions") == "Chunkstate-1.0");
  CHECK(root.text_attribute("title") == experiment.spec.name);

  const h5::Group requests = root.open_group("requests");
  const auto ttft = requests.read<double>("ttft");
  const auto tpot = requests.read<double>("tpot");
  const auto point = requests.read<std::int64_t>("point");
  const auto item_id = requests.read_texts("item_id");
  const auto stop_reason = requests.read_flags("stop_reason");
  REQUIRE(ttft.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) {
    const RequestRecord& r = content.requests[i];
    CAPTURE(i);
    CHECK(item_id[i] == r.item_id);
    CHECK(point[i] == r.point);
    if (r.status == RequestStatus::failed) {
      CHECK(std::isnan(ttft[i]));
      CHECK(std::isnan(requests.read<double>("throughput")[i]));
      CHECK(requests.read<std::int64_t>("tokens_out")[i] == -1);
      CHECK(stop_reason[i] == "none");
      continue;
    }
    CHECK(ttft[i] == r.ttft);
    CHECK(tpot[i] == (r.e2e - r.ttft) / static_cast<double>(r.token_ids.size() - 1));
    CHECK(stop_reason[i] == r.stop_reason);
    CHECK(root.open_group("outputs").read_texts("text")[i] == r.text);
  }
  const h5::Group tokens = root.open_group("tokens");
  CHECK(tokens.read<std::int64_t>("offsets")[2] == 6);
  CHECK(tokens.read<std::int32_t>("token_id")[3] == content.requests[1].token_ids[0]);
  CHECK(tokens.read<float>("logprob")[3] == content.requests[1].logprobs[0]);
  CHECK(tokens.read<double>("t_emit")[3] == content.requests[1].t_emit[0]);

  const h5::Group sweep = root.open_group("sweep");
  CHECK(sweep.read_texts("ssm.variant") == std::vector<std::string>{"default", "independent"});
  CHECK(sweep.read<std::int64_t>("ssm.chunk_size") == std::vector<std::int64_t>{64, 256});
  CHECK(sweep.read<double>("generation.temperature") == std::vector<double>{0.5, 1});
  CHECK(sweep.read_flags("status") == std::vector<std::string>{"failed", "done"});
  CHECK(sweep.read_texts("error")[0].find("900 tokens") != std::string::npos);

  const h5::Group prompts = root.open_group("prompts");
  CHECK(prompts.read_texts("topic")[0] == "rivers \xE2\x82\xAC");
  CHECK(prompts.read<std::int64_t>("level") == std::vector<std::int64_t>{3, 4, 5});
  CHECK(prompts.read<std::int64_t>("token_len") == std::vector<std::int64_t>{5, -1, 900});
  CHECK(prompts.read<double>("score")[1] == 0.5);
  CHECK(std::isnan(prompts.read<double>("score")[0]));
  CHECK(prompts.read_texts("text_")[0] == "again");
  CHECK(prompts.read_texts("a_b_c")[2] == "[1, 2]");
  CHECK(root.open_group("config").read_text("yaml_source") == experiment.spec.yaml_source);
}

TEST_CASE("the digest ignores order, times, resources and ranks, and nothing else") {
  const ExampleExperiment experiment;
  const ResultsContent content = example_content(experiment);
  const std::string digest = content_digest(content);

  ResultsContent same = example_content(experiment);
  std::shuffle(same.requests.begin(), same.requests.end(), std::mt19937(3));
  for (RequestRecord& r : same.requests) {
    r.rank = 7;
    r.process = 0;
    r.ttft = r.e2e = r.t_start = r.cpu_percent = r.peak_memory_bytes = 1;
    r.t_emit.clear();
  }
  same.processes.resize(1);
  same.run = {};
  CHECK(content_digest(same) == digest);

  const auto digest_after = [&](auto change) {
    ResultsContent other = example_content(experiment);
    change(other);
    return content_digest(other);
  };
  CHECK(digest_after([](auto& c) { c.requests[3].token_ids[0] += 1; }) != digest);
  CHECK(digest_after([](auto& c) { c.requests.pop_back(); }) != digest);
  CHECK(digest_after([](auto& c) { c.models[1].digest = "cccc"; }) != digest);
  ExampleExperiment another;
  another.spec.config_hash[0] = 'f';
  CHECK(content_digest(example_content(another)) != digest);
  another = ExampleExperiment();
  another.prompts.digest[0] = '0';
  CHECK(content_digest(example_content(another)) != digest);
}

TEST_CASE("an unfinished experiment's file is sound and incomplete") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  ResultsContent content = example_content(experiment);
  const auto path = directory.path() / "results.h5";
  content.requests.resize(7);
  write_results(path, content);
  VerifyReport report = verify_results(path);
  CHECK(report.sound());
  CHECK_FALSE(report.complete);
  CHECK(report.items_missing == 5);
  content.requests.clear();  // replaces the file
  write_results(path, content);
  report = verify_results(path);
  CHECK(report.sound());
  CHECK(report.items_missing == 12);
}

TEST_CASE("strange strings survive: NUL, broken UTF-8, an unknown stop reason") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  ResultsContent content = example_content(experiment);
  content.requests[0].text = std::string("a\0b\xFF", 4);
  content.requests[1].stop_reason = "stop_word";
  content.requests[2].logprobs.resize(1);
  const std::string digest = write_results(directory.path() / "r.h5", content);
  CHECK(verify_results(directory.path() / "r.h5").digest == digest);
}

TEST_CASE("content that contradicts itself is refused before anything is written") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const auto refused = [&](auto change, const std::string& part) {
    ResultsContent content = example_content(experiment);
    change(content);
    std::string message;
    try {
      write_results(directory.path() / "r.h5", content);
    } catch (const std::invalid_argument& error) {
      message = error.what();
    }
    CAPTURE(message, part);
    CHECK(message.find(part) != std::string::npos);
    CHECK(std::filesystem::is_empty(directory.path()));
  };
  refused([](auto& c) { c.requests.push_back(c.requests[4]); },
          "point 0, prompt 2, repeat 0 is there twice");
  refused([](auto& c) { c.requests[0].point = 2; }, "is no item of this experiment");
  refused([](auto& c) { c.requests[0].repeat = 2; }, "is no item of this experiment");
  refused([](auto& c) { c.model_of_point.pop_back(); }, "a model for each");
  refused([](auto& c) { c.model_of_point[0] = 9; }, "model 9 is not listed");
  refused([](auto& c) { c.requests[0].stop_reason = "two words"; }, "not one word");
}

TEST_CASE("column names are such as HDF5 and netCDF take") {
  CHECK(column_name("ssm.chunk_size") == "ssm.chunk_size");
  CHECK(column_name("a/b c") == "a_b_c");
  CHECK(column_name(".hidden") == "_hidden");
  CHECK(column_name("") == "_");
  CHECK(column_name("\xC3\xA9") == "__");
}
