// SPDX-License-Identifier: Apache-2.0
// Damaged results files, byte by byte. What h5py can make is in merge_test.py.
#include <sys/times.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "core/errors.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/results_file.hpp"
#include "experiments/record/results_reader.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/bad_input.hpp"
#include "tests/experiments/example_results.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

/// Of this process and its children; the clock on the wall also measures what else runs.
double processor_seconds() {
  tms times{};
  ::times(&times);
  return static_cast<double>(times.tms_utime + times.tms_stime + times.tms_cutime +
                             times.tms_cstime) /
         static_cast<double>(sysconf(_SC_CLK_TCK));
}

/// A good file, and what becomes of it.
class Specimen {
 public:
  Specimen() {
    digest_ = write_results(path_, example_content(experiment_));
    bytes = read_bytes(path_);
  }
  const std::filesystem::path& path() const { return path_; }

  /// Reads these bytes as a file: "" if the content is the good one's, else the error.
  std::string read(const std::string& content) {
    write_bytes(path_, content);
    const double begin = processor_seconds();
    std::string outcome;
    try {
      const StoredResults results = read_results(path_);
      CHECK(content_digest(results) == digest_);
    } catch (const InputError& error) {
      outcome = error.what();
      CHECK(outcome.find(path_.string()) == 0);
      CHECK(outcome.find('\n') == std::string::npos);
    }
    CHECK(processor_seconds() - begin < most_seconds);
    return outcome;
  }

  /// Where a contiguous dataset lies in the file.
  std::size_t address_of(const char* dataset) {
    const h5::Handle file = h5::open_file(path_.string());
    const h5::Handle opened(H5Dopen2(file.get(), dataset, H5P_DEFAULT), H5Dclose);
    return H5Dget_offset(opened.get());
  }

  std::string bytes;

 private:
  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "r.h5";
  ExampleExperiment experiment_;
  std::string digest_;
};

template <class Value>
std::string with(std::string bytes, std::size_t at, Value value) {
  REQUIRE(at + sizeof(value) <= bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof(value));
  return bytes;
}

}  // namespace

TEST_CASE("a results file comes back as it was written") {
  const TemporaryFolder folder;
  const ExampleExperiment experiment;
  ResultsContent content = example_content(experiment);
  content.requests[3].t_emit.pop_back();
  write_results(folder.path() / "a.h5", content);
  const StoredResults stored = read_results(folder.path() / "a.h5");
  REQUIRE(stored.requests.size() == content.requests.size());
  for (std::size_t i = 0; i < content.requests.size(); ++i) {
    CHECK(stored.requests[i].process == content.requests[i].process);
    CHECK(stored.requests[i].text == content.requests[i].text);
  }
  // Written again it is the same file: no column is lost, none changes its type.
  ResultsContent again{stored.spec, stored.prompts,   stored.models,  stored.model_of_point,
                       content.run, stored.processes, stored.requests};
  usleep(1'100'000);  // times that HDF5 keeps would be another second's
  write_results(folder.path() / "b.h5", again);
  CHECK((read_bytes(folder.path() / "a.h5") == read_bytes(folder.path() / "b.h5")));
}

TEST_CASE("a results file cut at any KiB is refused") {
  Specimen specimen;
  for (std::size_t length = 0; length < specimen.bytes.size(); length += 1024) {
    CAPTURE(length);
    CHECK_FALSE(specimen.read(specimen.bytes.substr(0, length)).empty());
  }
}

TEST_CASE("a bit flipped anywhere is an error or without effect on the results") {
  Specimen specimen;
  std::mt19937 random(7);
  int refused = 0;
  for (int flip = 0; flip < 300; ++flip) {
    const std::size_t at = random() % specimen.bytes.size();
    const char flipped = static_cast<char>(specimen.bytes[at] ^ (1 << random() % 8));
    CAPTURE(at);
    if (!specimen.read(with(specimen.bytes, at, flipped)).empty()) ++refused;
  }
  CHECK(refused > 30);
}

TEST_CASE("spoilt fields of HDF5's own structures crash nothing") {
  Specimen specimen;
  std::mt19937 random(8);
  for (const std::string signature : {"\x89HDF", "TREE", "SNOD", "HEAP", "GCOL", "OHDR", "OCHK",
                                      "FRHP", "FHDB", "FHIB", "BTHD", "BTLF", "BTIN"}) {
    std::vector<std::size_t> places;
    for (std::size_t at = specimen.bytes.find(signature); at != std::string::npos;
         at = specimen.bytes.find(signature, at + 1)) {
      places.push_back(at);
    }
    if (places.empty()) continue;
    for (int trial = 0; trial < 40; ++trial) {
      const std::size_t at = places[random() % places.size()] + 4 + random() % 44;
      const std::uint64_t values[] = {0, 1, 0xFF, 0xFFFF, 0xFFFFFFFF, ~0ULL, at, random()};
      std::string spoilt = specimen.bytes;
      const std::size_t width = std::size_t{1} << random() % 4;
      std::memcpy(spoilt.data() + at, &values[random() % 8],
                  std::min(width, spoilt.size() - std::min(at, spoilt.size())));
      CAPTURE(signature, at, width);
      specimen.read(spoilt);
    }
  }
}

TEST_CASE("texts whose heap references lead nowhere are refused") {
  Specimen specimen;
  for (const char* dataset : {"/requests/item_id", "/outputs/text", "/prompts/id"}) {
    write_bytes(specimen.path(), specimen.bytes);
    // Each element: length, address of its heap, index in it.
    const std::size_t element = specimen.address_of(dataset);
    REQUIRE(element < specimen.bytes.size());
    const std::size_t address = element + 4;
    const std::size_t index = element + 12;
    CAPTURE(dataset);
    // HDF5 takes the length that the heap states.
    for (const std::uint32_t length : {0x7FFFFFFFU, 0xFFFFFFFFU, 0x100000U, 1U, 0U}) {
      specimen.read(with(specimen.bytes, element, length));
    }
    for (const std::uint64_t heap : {std::uint64_t{8}, std::uint64_t{specimen.bytes.size()},
                                     std::uint64_t{element}, std::uint64_t{1} << 60}) {
      CHECK_FALSE(specimen.read(with(specimen.bytes, address, heap)).empty());
    }
    for (const std::uint32_t number : {0xFFFFU, 0xFFFFFFFFU, 0x8000U}) {
      CHECK_FALSE(specimen.read(with(specimen.bytes, index, number)).empty());
    }
  }
}
