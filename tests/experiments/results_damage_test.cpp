// SPDX-License-Identifier: Apache-2.0
// What is no results file, damaged ones, and a disk that fills up.
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <random>

#include "core/errors.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/results_file.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/example_results.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

std::string error_of(const std::filesystem::path& path) {
  try {
    verify_results(path);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

void save(const h5::Handle& file, const std::filesystem::path& path) {
  write_bytes(path, h5::file_image(file, path.string()));
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("what is no results file is refused with one clear line") {
  const TemporaryFolder directory;
  const auto path = directory.path() / "x.h5";
  CHECK(contains(error_of(path), "x.h5: No such file"));
  write_bytes(path, "");
  CHECK(contains(error_of(path), "x.h5: not an HDF5 file (0 bytes)"));
  write_bytes(path, "version https://git-lfs.github.com/spec/v1");
  CHECK(contains(error_of(path), "x.h5: not an HDF5 file (no signature at its start)"));
  CHECK(contains(error_of(directory.path()), "not a regular file"));
  const auto error_with = [&](const std::function<void(const h5::Group& root)>& fill) {
    {
      const h5::Handle file = h5::create_file(path.string());
      fill(h5::root_group(file, path.string()));
      save(file, path);
    }
    return error_of(path);
  };
  const auto error_of_kind = [&](const char* conventions, int schema_version) {
    return error_with([&](const h5::Group& root) {
      root.set_attribute("Conventions", conventions);
      root.set_attribute("schema_version", schema_version);
      root.set_attribute("content_digest", "x");
    });
  };
  const std::string other =
      error_with([](const h5::Group& root) { root.set_attribute("title", "another program's"); });
  CHECK(contains(other, "not a Chunkstate results file"));
  CHECK(contains(error_of_kind("CF-1.8", 1), "Conventions is 'CF-1.8'"));
  CHECK(contains(error_of_kind("Chunkstate-2.0", 2), "schema_version 2, this program reads 1"));
  CHECK(contains(error_of_kind("Chunkstate-1.0", 1), "@title"));
}

TEST_CASE("a file cut anywhere is refused") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const auto path = directory.path() / "r.h5";
  write_results(path, example_content(experiment));
  const std::string bytes = read_bytes(path);
  for (std::size_t length = 8; length < bytes.size(); length += 1021) {
    CAPTURE(length);
    write_bytes(path, bytes.substr(0, length));
    CHECK(contains(error_of(path), "r.h5: "));
  }
}

TEST_CASE("a flipped byte in the measurements is found") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const auto path = directory.path() / "r.h5";
  write_results(path, example_content(experiment));
  const std::string bytes = read_bytes(path);
  // The generated texts lie in the file as they are; so do the raw chunks, which carry checksums.
  const std::size_t text = bytes.find("Prompt 1 \xE2\x82\xAC");
  REQUIRE(text != std::string::npos);
  std::string damaged = bytes;
  damaged[text] = 'p';
  write_bytes(path, damaged);
  const VerifyReport report = verify_results(path);
  CHECK_FALSE(report.sound());
  CHECK(contains(report.problems.back(), "content_digest"));

  // Anywhere at all: an error, a problem, or no difference in what is read; never a crash.
  std::mt19937 random(1);
  int found = 0;
  int unseen = 0;
  for (int flip = 0; flip < 150; ++flip) {
    damaged = bytes;
    const std::size_t at = random() % bytes.size();
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    CAPTURE(at);
    write_bytes(path, damaged);
    try {
      const VerifyReport one = verify_results(path);
      ++(one.sound() ? unseen : found);
    } catch (const InputError&) {
      ++found;
    }
  }
  CHECK(found > 0);
  INFO("found " << found << ", without effect on the content " << unseen);
  CHECK(unseen < 150);
}

TEST_CASE("a column that lost its dimension is a problem, one that lost its tokens an error") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const auto path = directory.path() / "r.h5";
  write_results(path, example_content(experiment));
  {
    const h5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
    H5Adelete_by_name(file.get(), "/requests/ttft", "DIMENSION_LIST", H5P_DEFAULT);
  }
  const VerifyReport report = verify_results(path);
  REQUIRE(report.problems.size() == 1);
  CHECK(report.problems[0] == "/requests/ttft: dimension 0 has no scale in its group");
  {
    const h5::Handle file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose);
    const h5::Handle offsets(H5Dopen2(file.get(), "/tokens/offsets", H5P_DEFAULT), H5Dclose);
    std::vector<std::int64_t> wrong(13, 5);
    H5Dwrite(offsets.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, wrong.data());
  }
  CHECK(contains(error_of(path), "/tokens/offsets do not divide"));
}

TEST_CASE("a dataset that claims more than its file can hold is not allocated") {
  const TemporaryFolder directory;
  const auto path = directory.path() / "r.h5";
  {
    const h5::Handle file = h5::create_file(path.string());
    const hsize_t extent = hsize_t{1} << 50;
    const hsize_t chunk = 1024;
    const h5::Handle space(H5Screate_simple(1, &extent, nullptr), H5Sclose);
    const h5::Handle creation(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    H5Pset_chunk(creation.get(), 1, &chunk);
    const h5::Handle dataset(H5Dcreate2(file.get(), "huge", H5T_NATIVE_INT64, space.get(),
                                        H5P_DEFAULT, creation.get(), H5P_DEFAULT),
                             H5Dclose);
    REQUIRE(dataset.get() >= 0);
    save(file, path);
  }
  const h5::Handle file = h5::open_file(path.string());
  const h5::Group root = h5::root_group(file, path.string());
  CHECK_THROWS_AS(root.read<std::int64_t>("huge"), h5::Error);
  CHECK(contains(root.unreadable("huge"), "cannot be in a file of"));
}

TEST_CASE("a disk that fills up while writing leaves the previous file alone") {
  const TemporaryFolder directory;
  const ExampleExperiment experiment;
  const ResultsContent content = example_content(experiment);
  const auto path = directory.path() / "r.h5";
  write_results(path, content);
  const std::string before = read_bytes(path);

  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t limit : {1000, 20000, 60000}) {
    const rlimit small{limit, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    int error = 0;
    try {
      write_results(path, content);
    } catch (const FileError& failure) {
      error = failure.code().value();
    }
    setrlimit(RLIMIT_FSIZE, &old);
    CAPTURE(limit);
    CHECK(error == EFBIG);
    CHECK((read_bytes(path) == before));
    CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);
  }
  std::signal(SIGXFSZ, handler);
}
