// SPDX-License-Identifier: Apache-2.0

#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "core/errors.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/results_reader.hpp"

namespace chunkstate {
namespace {

/// Reads the file's columns and judges them.
class Verifier {
 public:
  explicit Verifier(h5::Group& root) : root_(root) { root.note_reads(reads_); }

  VerifyReport run() {
    report_.stored_digest = root_.text_attribute("content_digest");
    stored_ = read_groups(root_);
    check_columns(root_, "");
    check_token_counts();
    count_items();
    report_.digest = content_digest(stored_);
    if (report_.digest != report_.stored_digest) {
      problem("content_digest is " + report_.stored_digest + ", the content gives " +
              report_.digest);
    }
    return std::move(report_);
  }

 private:
  void problem(const std::string& text) { report_.problems.push_back(text); }

  /// Every dataset: readable to its last byte (checksums), and every dimension attached to a scale
  /// in its group.
  void check_columns(const h5::Group& group, const std::string& path) {
    for (const std::string& name : group.children()) {
      const std::string place = path + "/" + name;
      if (group.is_group(name)) {
        check_columns(group.open_group(name), place);
        continue;
      }
      const std::string missing = group.dimension_without_scale(name);
      if (!missing.empty())
        problem(place + ": dimension " + missing + " has no scale in its group");
      if (reads_.count(group.path() + "/" + name) > 0) continue;
      if (const std::string error = group.unreadable(name); !error.empty()) problem(error);
    }
  }

  void check_token_counts() {
    const auto tokens_out = root_.open_group("requests").read<std::int64_t>("tokens_out");
    if (tokens_out.size() != stored_.requests.size()) {
      problem("/requests/tokens_out: " + std::to_string(tokens_out.size()) + " values, expected " +
              std::to_string(stored_.requests.size()));
      return;
    }
    for (std::size_t i = 0; i < tokens_out.size(); ++i) {
      const RequestRecord& r = stored_.requests[i];
      if (r.status == RequestStatus::done && tokens_out[i] != r.tokens_out()) {
        problem("/requests/tokens_out[" + std::to_string(i) + "] is " +
                std::to_string(tokens_out[i]) + ", /tokens holds " +
                std::to_string(r.tokens_out()));
      }
    }
  }

  void count_items() {
    const auto points = static_cast<std::int64_t>(stored_.spec.points.size());
    const auto prompts = static_cast<std::int64_t>(stored_.prompts.prompts.size());
    const std::int64_t repeats = stored_.spec.measure.repeats;
    if (repeats < 1 || __builtin_mul_overflow(points, prompts, &report_.items_expected) ||
        __builtin_mul_overflow(report_.items_expected, repeats, &report_.items_expected)) {
      throw h5::Error("/requests@repeats: " + std::to_string(repeats));
    }
    std::unordered_set<std::int64_t> seen;
    std::unordered_set<std::string_view> ids;
    for (const RequestRecord& r : stored_.requests) {
      const std::string place = "point " + std::to_string(r.point) + ", prompt " +
                                std::to_string(r.prompt) + ", repeat " + std::to_string(r.repeat);
      if (r.point < 0 || r.point >= points || r.prompt < 0 || r.prompt >= prompts || r.repeat < 0 ||
          r.repeat >= repeats) {
        problem("/requests: " + place + " is no item of the experiment");
      } else if (!seen.insert((r.point * prompts + r.prompt) * repeats + r.repeat).second) {
        problem("/requests: " + place + " is there twice");
      } else if (!ids.insert(r.item_id).second) {
        problem("/requests: item_id " + r.item_id + " is there twice");
      } else {
        ++(r.status == RequestStatus::failed ? report_.items_failed : report_.items_done);
      }
    }
    report_.items_missing = report_.items_expected - static_cast<std::int64_t>(seen.size());
    for (const RequestRecord& r : stored_.requests) {
      const bool missing = stored_.evaluation.any() && r.is_to_evaluate() && !r.evaluation;
      report_.evaluations_missing += missing ? 1 : 0;
    }
    report_.complete = report_.items_missing == 0 && report_.evaluations_missing == 0;
    if (report_.complete != (root_.integer_attribute("complete") == 1)) {
      problem(report_.complete ? "marked incomplete, but no item is missing"
                               : "marked complete, but " + std::to_string(report_.items_missing) +
                                     " items and " + std::to_string(report_.evaluations_missing) +
                                     " evaluations are missing");
    }
  }

  const h5::Group& root_;
  std::set<std::string> reads_;  // columns that read_groups() has read
  StoredResults stored_;
  VerifyReport report_;
};

nlohmann::json json_of(const VerifyReport& report) {
  return {{"expected", report.items_expected},
          {"done", report.items_done},
          {"failed", report.items_failed},
          {"missing", report.items_missing},
          {"unevaluated", report.evaluations_missing},
          {"complete", report.complete},
          {"stored", report.stored_digest},
          {"digest", report.digest},
          {"problems", report.problems}};
}

VerifyReport report_from_json(const nlohmann::json& json) {
  return {.items_expected = json.at("expected"),
          .items_done = json.at("done"),
          .items_failed = json.at("failed"),
          .items_missing = json.at("missing"),
          .evaluations_missing = json.at("unevaluated"),
          .complete = json.at("complete"),
          .stored_digest = json.at("stored"),
          .digest = json.at("digest"),
          .problems = json.at("problems")};
}

}  // namespace

VerifyReport verify_own_results(const std::filesystem::path& path) {
  check_signature(path);
  try {
    const h5::Handle file = h5::open_file(path.string());
    h5::check_contained(file, path.string());
    h5::Group root = h5::root_group(file, path.string());
    check_schema(root, path.string());
    return Verifier(root).run();
  } catch (const h5::Error& error) {
    const std::string text = error.what();
    throw InputError(text.find(path.string()) == 0 ? text : path.string() + ": " + text);
  }
}

VerifyReport verify_results(const std::filesystem::path& path) {
  const std::string json = call_on_foreign_file(path, [&] {
    return json_of(verify_own_results(path))
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  });
  return report_from_json(nlohmann::json::parse(json));
}

}  // namespace chunkstate
