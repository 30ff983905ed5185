// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "core/errors.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/isolated.hpp"
#include "experiments/record/result_digest.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {
namespace {

void check_signature(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw InputError(path.string() + ": " + std::strerror(errno));
  }
  if (!S_ISREG(status.st_mode)) throw InputError(path.string() + ": not a regular file");
  constexpr std::array<char, 8> signature{'\x89', 'H', 'D', 'F', '\r', '\n', '\x1a', '\n'};
  std::array<char, 8> found{};
  ssize_t got = 0;
  try {
    const FileDescriptor file(path, O_RDONLY);
    got = ::read(file.get(), found.data(), found.size());
  } catch (const FileError& error) {
    throw InputError(error.what());
  }
  if (got == static_cast<ssize_t>(found.size()) && found == signature) return;
  throw InputError(path.string() + ": not an HDF5 file (" +
                   (status.st_size < 8 ? std::to_string(status.st_size) + " bytes"
                                       : std::string("no signature at its start")) +
                   ")");
}

void check_schema(const h5::Group& root, const std::string& path) {
  std::string conventions;
  std::int64_t version = 0;
  try {
    conventions = root.text_attribute("Conventions");
    version = root.integer_attribute("schema_version");
  } catch (const h5::Error&) {
    throw InputError(path +
                     ": an HDF5 file, but not a Chunkstate results file (no Conventions and "
                     "schema_version)");
  }
  if (conventions.rfind("Chunkstate-", 0) != 0) {
    throw InputError(path + ": Conventions is '" + conventions + "', expected 'Chunkstate-1.0'");
  }
  if (version != results_schema_version) {
    throw InputError(path + ": schema_version " + std::to_string(version) +
                     ", this program reads " + std::to_string(results_schema_version));
  }
}

/// Reads the file's columns and judges them.
class Verifier {
 public:
  explicit Verifier(const h5::Group& root) : root_(root) {}

  VerifyReport run() {
    report_.stored_digest = root_.text_attribute("content_digest");
    check_columns(root_, "");
    read_requests();
    count_items();
    report_.digest = recompute_digest();
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
      if (const std::string error = group.unreadable(name); !error.empty()) problem(error);
    }
  }

  void read_requests() {
    const h5::Group requests = root_.open_group("requests");
    const auto point = requests.read<std::int64_t>("point");
    const auto prompt = requests.read<std::int64_t>("prompt");
    const auto repeat = requests.read<std::int64_t>("repeat");
    const auto tokens_in = requests.read<std::int64_t>("tokens_in");
    const auto flops = requests.read<double>("flops");
    const auto bytes_moved = requests.read<double>("bytes_moved");
    const auto status = requests.read_flags("status");
    const auto stop_reason = requests.read_flags("stop_reason");
    const auto error = requests.read_texts("error");
    const auto item_id = requests.read_texts("item_id");
    const auto text = root_.open_group("outputs").read_texts("text");
    const std::size_t rows = item_id.size();
    for (const std::size_t size :
         {point.size(), prompt.size(), repeat.size(), tokens_in.size(), flops.size(),
          bytes_moved.size(), status.size(), stop_reason.size(), error.size(), text.size()}) {
      if (size != rows) throw h5::Error("/requests: columns of different lengths");
    }
    records_.resize(rows);
    for (std::size_t i = 0; i < rows; ++i) {
      RequestRecord& r = records_[i];
      r.item_id = item_id[i];
      r.point = point[i];
      r.prompt = prompt[i];
      r.repeat = repeat[i];
      r.status = status[i] == "done" ? RequestStatus::done : RequestStatus::failed;
      r.error = error[i];
      r.tokens_in = tokens_in[i];
      r.stop_reason = stop_reason[i] == "none" ? "" : stop_reason[i];
      r.text = text[i];
      r.flops = flops[i];
      r.bytes_moved = bytes_moved[i];
    }
    read_tokens();
  }

  void read_tokens() {
    const h5::Group tokens = root_.open_group("tokens");
    const auto offsets = tokens.read<std::int64_t>("offsets");
    const auto token_id = tokens.read<std::int32_t>("token_id");
    const auto logprob = tokens.read<float>("logprob");
    const auto t_emit = tokens.read<double>("t_emit");
    const auto tokens_out = root_.open_group("requests").read<std::int64_t>("tokens_out");
    const auto count = static_cast<std::int64_t>(token_id.size());
    const bool consistent =
        offsets.size() == records_.size() + 1 && offsets.front() == 0 && offsets.back() == count &&
        std::is_sorted(offsets.begin(), offsets.end()) && logprob.size() == token_id.size() &&
        t_emit.size() == token_id.size() && tokens_out.size() == records_.size();
    if (!consistent) {
      problem("/tokens/offsets do not divide the " + std::to_string(count) + " tokens among the " +
              std::to_string(records_.size()) + " requests");
      return;
    }
    for (std::size_t i = 0; i < records_.size(); ++i) {
      RequestRecord& r = records_[i];
      r.token_ids.assign(token_id.begin() + offsets[i], token_id.begin() + offsets[i + 1]);
      r.logprobs.assign(logprob.begin() + offsets[i], logprob.begin() + offsets[i + 1]);
      if (r.status == RequestStatus::done && tokens_out[i] != r.tokens_out()) {
        problem("/requests/tokens_out[" + std::to_string(i) + "] is " +
                std::to_string(tokens_out[i]) + ", /tokens holds " +
                std::to_string(r.tokens_out()));
      }
    }
  }

  void count_items() {
    const auto points =
        static_cast<std::int64_t>(root_.open_group("sweep").read<std::int64_t>("point").size());
    const auto prompts =
        static_cast<std::int64_t>(root_.open_group("prompts").read<std::int64_t>("prompt").size());
    const std::int64_t repeats = root_.open_group("requests").integer_attribute("repeats");
    if (repeats < 1 || __builtin_mul_overflow(points, prompts, &report_.items_expected) ||
        __builtin_mul_overflow(report_.items_expected, repeats, &report_.items_expected)) {
      throw h5::Error("/requests@repeats: " + std::to_string(repeats));
    }
    std::set<std::tuple<std::int64_t, std::int64_t, std::int64_t>> seen;
    std::set<std::string> ids;
    for (const RequestRecord& r : records_) {
      const std::string place = "point " + std::to_string(r.point) + ", prompt " +
                                std::to_string(r.prompt) + ", repeat " + std::to_string(r.repeat);
      if (r.point < 0 || r.point >= points || r.prompt < 0 || r.prompt >= prompts || r.repeat < 0 ||
          r.repeat >= repeats) {
        problem("/requests: " + place + " is no item of the experiment");
      } else if (!seen.emplace(r.point, r.prompt, r.repeat).second) {
        problem("/requests: " + place + " is there twice");
      } else if (!ids.insert(r.item_id).second) {
        problem("/requests: item_id " + r.item_id + " is there twice");
      } else {
        ++(r.status == RequestStatus::done ? report_.items_done : report_.items_failed);
      }
    }
    report_.items_missing = report_.items_expected - static_cast<std::int64_t>(seen.size());
    report_.complete = report_.items_missing == 0;
    if (report_.complete != (root_.integer_attribute("complete") == 1)) {
      problem(report_.complete ? "marked incomplete, but no item is missing"
                               : "marked complete, but " + std::to_string(report_.items_missing) +
                                     " items are missing");
    }
  }

  std::string recompute_digest() {
    const auto model_of_point = root_.open_group("sweep").read<std::int64_t>("model");
    const auto model_digests = root_.open_group("model").read_texts("digest");
    std::vector<std::string> digests;
    for (const std::int64_t model : model_of_point) {
      if (model < 0 || model >= static_cast<std::int64_t>(model_digests.size())) {
        throw h5::Error("/sweep/model: there is no model " + std::to_string(model));
      }
      digests.push_back(model_digests[static_cast<std::size_t>(model)]);
    }
    const h5::Group group = root_.open_group("prompts");
    const auto id = group.read_texts("id");
    const auto text = group.read_texts("text");
    const auto answer = group.read_texts("answer");
    if (text.size() != id.size() || answer.size() != id.size()) {
      throw h5::Error("/prompts: columns of different lengths");
    }
    PromptSet prompts;
    prompts.digest = group.text_attribute("digest");
    for (std::size_t i = 0; i < id.size(); ++i) {
      prompts.prompts.push_back({.id = id[i], .text = text[i], .answer = answer[i]});
    }
    const h5::Group config = root_.open_group("config");
    ContentDigest digest(config.text_attribute("config_hash"), config.read_text("yaml_resolved"),
                         digests, prompts);
    for (const RequestRecord& record : records_) digest.add(record);
    return digest.hex();
  }

  const h5::Group& root_;
  std::vector<RequestRecord> records_;
  VerifyReport report_;
};

nlohmann::json json_of(const VerifyReport& report) {
  return {{"expected", report.items_expected}, {"done", report.items_done},
          {"failed", report.items_failed},     {"missing", report.items_missing},
          {"complete", report.complete},       {"stored", report.stored_digest},
          {"digest", report.digest},           {"problems", report.problems}};
}

VerifyReport report_from_json(const nlohmann::json& json) {
  return {.items_expected = json.at("expected"),
          .items_done = json.at("done"),
          .items_failed = json.at("failed"),
          .items_missing = json.at("missing"),
          .complete = json.at("complete"),
          .stored_digest = json.at("stored"),
          .digest = json.at("digest"),
          .problems = json.at("problems")};
}

/// What verify_own_results() does, as JSON: the report, or {"error": message}.
std::string verify_as_json(const std::filesystem::path& path) noexcept {
  nlohmann::json json;
  try {
    json = json_of(verify_own_results(path));
  } catch (const std::exception& error) {
    json = {{"error", error.what()}};
  }
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

VerifyReport verify_own_results(const std::filesystem::path& path) {
  check_signature(path);
  try {
    const h5::Handle file = h5::open_file(path.string());
    const h5::Group root = h5::root_group(file, path.string());
    check_schema(root, path.string());
    return Verifier(root).run();
  } catch (const h5::Error& error) {
    const std::string text = error.what();
    throw InputError(text.find(path.string()) == 0 ? text : path.string() + ": " + text);
  }
}

VerifyReport verify_results(const std::filesystem::path& path) {
  check_signature(path);
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  // Every column is in memory twice at most, and gzip shrinks ours to a third at best.
  const std::int64_t memory = (std::int64_t{1} << 30) + 16 * file_bytes;
  const auto seconds = static_cast<unsigned>(60 + file_bytes / 5'000'000);
  const IsolatedResult result = run_isolated([&] { return verify_as_json(path); }, memory, seconds);
  if (!result.failure.empty()) {
    throw InputError(path.string() + ": damaged: HDF5 cannot read it (" + result.failure + ")");
  }
  const nlohmann::json json = nlohmann::json::parse(result.text);
  if (json.contains("error")) throw InputError(json.at("error").get<std::string>());
  return report_from_json(json);
}

}  // namespace chunkstate
