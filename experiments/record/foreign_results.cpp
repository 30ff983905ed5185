// SPDX-License-Identifier: Apache-2.0
// Files from anywhere: what is checked before HDF5 sees them, and the child process that reads
// them.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <new>

#include "core/errors.hpp"
#include "experiments/record/byte_archive.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/isolated.hpp"
#include "experiments/record/results_columns.hpp"
#include "experiments/record/results_reader.hpp"

namespace chunkstate {

// Both directions of the way from the child. Not in the unnamed namespace: an archive finds them
// by the namespace of the struct.
template <class Archive>
void transfer(Archive& archive, ModelFacts& facts) {
  visit_model_columns([&](const h5::Label&, auto field) { archive(facts.*field); });
}
template <class Archive>
void transfer(Archive& archive, RankProvenance& rank) {
  visit_rank_columns([&](const h5::Label&, auto field) { archive(rank.*field); });
}
template <class Archive>
void transfer(Archive& archive, Prompt& prompt) {
  visit_prompt_columns([&](const h5::Label&, auto field) { archive(prompt.*field); });
  archive(prompt.extra);
}
template <class Archive>
void transfer(Archive& archive, AxisValue& axis) {
  archive(axis.path);
  archive(axis.value);
}
template <class Archive>
void transfer(Archive& archive, SweepPoint& point) {
  archive(point.index);
  archive(point.axes);
}
template <class Archive>
void transfer(Archive& archive, Evaluation& evaluation) {
  const auto number = [&](const auto&, const char*, double& value) { archive(value); };
  archive(evaluation.error);
  visit_comparison(evaluation, number);
  archive(evaluation.first_divergence);
  archive(evaluation.state_drift);
  visit_gptscore(evaluation, number);
}
template <class Archive>
void transfer(Archive& archive, EvaluationFacts& facts) {
  archive(facts.reference);
  archive(facts.judge);
  archive(facts.judge_digest);
  for (std::string& instruction : facts.instructions) archive(instruction);
}
template <class Archive>
void transfer(Archive& archive, RequestRecord& r) {
  visit_request_integers([&](const h5::Label&, auto field) { archive(r.*field); });
  visit_request_reals([&](const char*, auto field) { archive(r.*field); });
  archive(r.tokens_in);
  archive(r.status);
  archive(r.item_id);
  archive(r.error);
  archive(r.stop_reason);
  archive(r.text);
  archive(r.token_ids);
  archive(r.logprobs);
  archive(r.t_emit);
  std::vector<Evaluation> evaluation;  // none or one
  if (r.evaluation) evaluation.push_back(*r.evaluation);
  archive(evaluation);
  if (!evaluation.empty()) r.evaluation = std::make_shared<const Evaluation>(evaluation.front());
}
template <class Archive>
void transfer(Archive& archive, StoredResults& results) {
  archive(results.spec.name);
  archive(results.spec.yaml_source);
  archive(results.spec.yaml_resolved);
  archive(results.spec.config_hash);
  archive(results.spec.measure.repeats);
  archive(results.spec.axis_paths);
  archive(results.spec.points);
  archive(results.prompts.digest);
  archive(results.prompts.prompts);
  archive(results.models);
  archive(results.model_of_point);
  archive(results.processes);
  archive(results.requests);
  archive(results.evaluation);
}

namespace {

/// Readers index points and prompts by what a request says.
void check_places(const StoredResults& results, const std::filesystem::path& path) {
  const auto points = static_cast<std::int64_t>(results.spec.points.size());
  const auto prompts = static_cast<std::int64_t>(results.prompts.prompts.size());
  for (const RequestRecord& r : results.requests) {
    if (r.point >= 0 && r.point < points && r.prompt >= 0 && r.prompt < prompts && r.repeat >= 0 &&
        r.repeat < results.spec.measure.repeats) {
      continue;
    }
    throw InputError(path.string() + ": point " + std::to_string(r.point) + ", prompt " +
                     std::to_string(r.prompt) + ", repeat " + std::to_string(r.repeat) +
                     " is no item of the experiment");
  }
}

StoredResults read_in_this_process(const std::filesystem::path& path) {
  const h5::Handle file = h5::open_file(path.string());
  h5::check_contained(file, path.string());
  const h5::Group root = h5::root_group(file, path.string());
  check_schema(root, path.string());
  StoredResults results = read_groups(root);
  const std::string stated = root.text_attribute("content_digest");
  if (const std::string digest = content_digest(results); digest != stated) {
    throw InputError(path.string() + ": damaged: content_digest is " + stated +
                     ", the content gives " + digest);
  }
  check_places(results, path);
  return results;
}

}  // namespace

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

std::string call_on_foreign_file(const std::filesystem::path& path,
                                 const std::function<std::string()>& body) {
  check_signature(path);
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
  IsolatedLimits limits;
  // 100,000 requests of four tokens take 8 times their file's bytes.
  limits.more_memory_bytes = (std::int64_t{256} << 20) + 64 * file_bytes;
  // They are read at some 80 MB/s; a heap of objects without size makes HDF5 1.10 loop for ever.
  limits.processor_seconds = static_cast<unsigned>(3 + file_bytes / 2'000'000);
  limits.seconds = 20 * limits.processor_seconds;
  const IsolatedResult result = run_isolated(
      [&]() noexcept -> std::string {
        try {
          return "=" + body();
        } catch (const std::bad_alloc&) {
          return "!" + path.string() + ": damaged: takes more memory than its " +
                 std::to_string(file_bytes) + " bytes can need";
        } catch (const std::exception& error) {
          const std::string text = error.what();
          return "!" + (text.find(path.string()) == 0 ? text : path.string() + ": " + text);
        }
      },
      limits);
  if (!result.failure.empty() || result.text.empty()) {
    throw InputError(path.string() + ": damaged: HDF5 cannot read it (" + result.failure + ")");
  }
  if (result.text[0] == '!') throw InputError(result.text.substr(1));
  return result.text.substr(1);
}

StoredResults read_results(const std::filesystem::path& path) {
  const std::string bytes = call_on_foreign_file(path, [&] {
    ByteWriter archive;
    StoredResults results = read_in_this_process(path);
    archive(results);
    return archive.take();
  });
  StoredResults results;
  ByteReader archive(bytes);
  archive(results);
  return results;
}

}  // namespace chunkstate
