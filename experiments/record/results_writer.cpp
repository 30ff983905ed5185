// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <future>
#include <set>
#include <stdexcept>
#include <string_view>
#include <tuple>

#include "experiments/record/checksum.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/result_digest.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/record/results_groups.hpp"
#include "experiments/record/temporary_file.hpp"

namespace chunkstate {
namespace {

using Requests = std::vector<const RequestRecord*>;

std::string item_name(const RequestRecord& r) {
  return "point " + std::to_string(r.point) + ", prompt " + std::to_string(r.prompt) + ", repeat " +
         std::to_string(r.repeat);
}

/// The requests in the file's order, each of them one of the experiment's.
Requests sorted_requests(const ResultsContent& content) {
  const auto points = static_cast<std::int64_t>(content.spec.points.size());
  const auto prompts = static_cast<std::int64_t>(content.prompts.prompts.size());
  if (static_cast<std::int64_t>(content.model_of_point.size()) != points) {
    throw std::invalid_argument("results: a model for each of the " + std::to_string(points) +
                                " points is needed");
  }
  for (const std::int64_t model : content.model_of_point) {
    if (model < 0 || model >= static_cast<std::int64_t>(content.models.size())) {
      throw std::invalid_argument("results: model " + std::to_string(model) + " is not listed");
    }
  }
  Requests requests;
  requests.reserve(content.requests.size());
  for (const RequestRecord& r : content.requests) {
    if (r.point < 0 || r.point >= points || r.prompt < 0 || r.prompt >= prompts || r.repeat < 0 ||
        r.repeat >= content.spec.measure.repeats) {
      throw std::invalid_argument("results: " + item_name(r) + " is no item of this experiment");
    }
    requests.push_back(&r);
  }
  const auto place = [](const RequestRecord* r) {
    return std::tuple(r->point, r->prompt, r->repeat);
  };
  std::sort(requests.begin(), requests.end(),
            [&](const auto* a, const auto* b) { return place(a) < place(b); });
  const auto twice =
      std::adjacent_find(requests.begin(), requests.end(),
                         [&](const auto* a, const auto* b) { return place(a) == place(b); });
  if (twice != requests.end()) {
    throw std::invalid_argument("results: " + item_name(**twice) + " is there twice");
  }
  return requests;
}

std::string digest_of(const ResultsContent& content, const Requests& requests) {
  std::vector<std::string> models;
  for (const std::int64_t model : content.model_of_point) {
    models.push_back(content.models[static_cast<std::size_t>(model)].digest);
  }
  ContentDigest digest(content.spec.config_hash, content.spec.yaml_resolved, models,
                       content.prompts);
  for (const RequestRecord* request : requests) digest.add(*request);
  return digest.hex();
}

std::int64_t expected_items(const ResultsContent& content) {
  return static_cast<std::int64_t>(content.spec.points.size() * content.prompts.prompts.size()) *
         content.spec.measure.repeats;
}

std::string file_bytes(const std::filesystem::path& path, const ResultsContent& content,
                       const Requests& requests, const std::string& digest) {
  // The bootstrap takes an eighth of the time and no HDF5: it runs beside the rest.
  auto summary = std::async([&] { return summary_values(content, requests); });
  const h5::Handle file = h5::create_file(path.string());
  const h5::Group root = h5::root_group(file, path.string());
  root.set_attribute("Conventions", "Chunkstate-1.0");
  root.set_attribute("schema_version", results_schema_version);
  root.set_attribute("title", canonical_text(content.spec.name));
  root.set_attribute("software", "chunkstate");
  root.set_attribute("software_version", build_info().version);
  root.set_attribute("git_commit",
                     build_info().git_commit + (build_info().git_dirty ? "-dirty" : ""));
  root.set_attribute("run_id", content.run.run_id);
  const bool evaluated =
      !content.evaluation.any() ||
      std::all_of(requests.begin(), requests.end(), [](const RequestRecord* request) {
        return request->evaluation || !request->is_to_evaluate();
      });
  const bool complete =
      evaluated && static_cast<std::int64_t>(requests.size()) == expected_items(content);
  root.set_attribute("complete", std::int64_t{complete});
  root.set_attribute("content_digest", digest);
  write_config(root, content);
  write_provenance(root, content);
  write_model(root, content);
  write_sweep(root, content, requests);
  write_prompts(root, content);
  write_requests(root, content, requests);
  write_outputs(root, requests);
  write_tokens(root, requests);
  write_accuracy(root, content, requests);
  write_summary(root, content, summary.get());
  write_shards(root, content);
  return h5::file_image(file, path.string());
}

}  // namespace

std::string content_digest(const ResultsContent& content) {
  return digest_of(content, sorted_requests(content));
}

std::string write_results(const std::filesystem::path& path, const ResultsContent& content) {
  const Requests requests = sorted_requests(content);
  const std::string digest = digest_of(content, requests);
  const TemporaryFile temporary(path);
  VerifyReport report;
  write_durably(temporary.path(), file_bytes(path, content, requests, digest),
                [&] { report = verify_own_results(temporary.path()); });
  std::string problem = report.sound() ? "" : report.problems.front();
  if (report.digest != digest) problem = "digest " + report.digest + ", expected " + digest;
  if (report.items_done + report.items_failed != static_cast<std::int64_t>(requests.size())) {
    problem = std::to_string(report.items_done + report.items_failed) + " items, expected " +
              std::to_string(requests.size());
  }
  if (!problem.empty()) {
    throw std::runtime_error(path.string() +
                             ": what was written reads back differently: " + problem);
  }
  rename_durably(temporary.path(), path);
  return digest;
}

}  // namespace chunkstate
