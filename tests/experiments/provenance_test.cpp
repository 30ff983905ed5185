// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/provenance.hpp"

#include <algorithm>
#include <cstdlib>

#include "tests/catch.hpp"

using namespace chunkstate;

TEST_CASE("cpu_list writes ranges as the kernel does") {
  CHECK(cpu_list({}).empty());
  CHECK(cpu_list({3}) == "3");
  CHECK(cpu_list({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8");
}

TEST_CASE("a rank's provenance tells its host and survives JSON") {
  RankProvenance provenance = collect_rank_provenance();
  CHECK_FALSE(provenance.host.empty());
  CHECK_FALSE(provenance.cpus.empty());
  CHECK(provenance.pid > 0);
  CHECK(provenance.processors > 0);
  CHECK(provenance.memory_bytes > (1 << 20));
  CHECK_FALSE(provenance.kernel.empty());
  provenance.rank = 3;
  provenance.gpu_name = "GPU \"x\"";
  const std::string json = to_json(provenance);
  const RankProvenance back = rank_provenance_from_json(json);
  CHECK(to_json(back) == json);
  CHECK(back.gpu_name == "GPU \"x\"");
  CHECK(back.memory_bytes == provenance.memory_bytes);
}

TEST_CASE("unusable provenance leaves the defaults") {
  CHECK(rank_provenance_from_json("not json").rank == -1);
  CHECK(rank_provenance_from_json(R"({"rank": "three", "host": 4, "new_field": []})").rank == -1);
}

TEST_CASE("a run's provenance names build, libraries and Slurm job, but no secret") {
  setenv("SLURM_JOB_ID", "77", 1);
  setenv("SLURM_JWT", "secret", 1);
  const RunProvenance run = collect_run_provenance({"chunkstate", "run"}, "Open MPI v4");
  unsetenv("SLURM_JOB_ID");
  unsetenv("SLURM_JWT");
  const auto has = [](const auto& pairs, const std::string& key) {
    return std::any_of(pairs.begin(), pairs.end(),
                       [&](const auto& pair) { return pair.first == key && !pair.second.empty(); });
  };
  for (const char* key :
       {"version", "git_commit", "compiler", "hdf5", "yaml-cpp", "mpi", "glibc"}) {
    CAPTURE(key);
    CHECK(has(run.build, key));
  }
  CHECK(has(run.slurm, "SLURM_JOB_ID"));
  CHECK_FALSE(has(run.slurm, "SLURM_JWT"));
  CHECK(run.run_id.size() == 25);
  CHECK(run.run_id != collect_run_provenance({}, "").run_id);
}
