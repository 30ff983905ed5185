// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <stdexcept>

#include "parallel/communicator.hpp"
#include "tests/catch.hpp"

using namespace chunkstate;

namespace {

/// Takes the launchers' variables away and puts them back, so that the test may itself run under
/// mpirun.
class NoLauncher {
 public:
  NoLauncher() {
    for (const char* name : names) {
      const char* value = std::getenv(name);
      values_.emplace_back(value == nullptr ? "" : value);
      unsetenv(name);
    }
  }
  ~NoLauncher() {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      if (!values_[i].empty()) setenv(names[i], values_[i].c_str(), 1);
    }
  }
  static constexpr const char* names[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK",
                                          "PMI_SIZE"};

 private:
  std::vector<std::string> values_;
};

}  // namespace

TEST_CASE("a launcher is known by its variables, a Slurm allocation is none") {
  const NoLauncher guard;
  setenv("SLURM_JOB_ID", "7", 1);
  setenv("SLURM_NTASKS", "4", 1);
  CHECK_FALSE(launched_by_mpi());
  CHECK(make_world()->size() == 1);
  for (const char* name : NoLauncher::names) {
    CAPTURE(name);
    setenv(name, "2", 1);
    CHECK(launched_by_mpi());
    setenv(name, "", 1);
    CHECK_FALSE(launched_by_mpi());
    unsetenv(name);
  }
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_NTASKS");
}

TEST_CASE("one rank is a group") {
  const auto world = make_local_communicator();
  CHECK(world->rank() == 0);
  CHECK(world->size() == 1);
  CHECK(world->local_rank() == 0);
  CHECK(world->local_size() == 1);
  CHECK(world->host() == 0);
  CHECK(world->hosts() == 1);
  world->barrier();
  std::vector<float> values{1, 2};
  world->all_reduce_sum(values);
  CHECK(values == std::vector<float>{1, 2});
  std::string bytes = "text";
  world->broadcast(bytes, 0);
  CHECK(bytes == "text");
  CHECK(world->all_gather("x") == std::vector<std::string>{"x"});
}

TEST_CASE("one rank has nobody to talk to") {
  const auto world = make_local_communicator();
  std::string bytes = "text";
  CHECK_THROWS_WITH(world->broadcast(bytes, 1), "broadcast rank 1: this process runs alone");
  CHECK_THROWS_AS(world->post({}, 0), std::runtime_error);
  CHECK_THROWS_AS(world->receive({}, 0), std::runtime_error);
}

TEST_CASE("every local counter starts at zero") {
  const auto world = make_local_communicator();
  const auto counter = make_shared_counter(*world);
  const auto other = make_shared_counter(*world);
  CHECK(counter->next() == 0);
  CHECK(counter->next() == 1);
  CHECK(other->next() == 0);
}

TEST_CASE("the MPI library names itself before MPI_Init") {
  CHECK_FALSE(mpi_library_version().empty());
  CHECK(mpi_library_version().find('\n') == std::string::npos);
}
