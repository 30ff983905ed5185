// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <vector>

#include "parallel/communicator.hpp"

namespace chunkstate {
namespace {

class LocalCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  int host() const override { return 0; }
  int hosts() const override { return 1; }

  void barrier() override {}
  void all_reduce_sum(std::span<float>) override {}
  void broadcast(std::string&, int root) override { check_rank("broadcast", root); }
  std::vector<std::string> all_gather(const std::string& bytes) override { return {bytes}; }
  void post(std::span<const std::byte>, int to) override { refuse("post to", to); }
  void receive(std::span<std::byte>, int from) override { refuse("receive from", from); }
  void flush() override {}

  std::unique_ptr<Communicator> split(int) override { return make_local_communicator(); }
  void watch(const Deadline&) override {}
  void busy(bool) override {}
  void wait_for(Operation, std::int64_t, int, const std::function<bool()>& done) override {
    while (!done()) {
    }
  }

  std::span<std::byte> host_memory(std::size_t bytes) override {
    // 64-byte lines, as the vector kernels like their operands.
    memory_.push_back(
        std::make_unique<std::vector<Line>>((bytes + sizeof(Line) - 1) / sizeof(Line)));
    return {reinterpret_cast<std::byte*>(memory_.back()->data()), bytes};
  }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    std::_Exit(exit_code);
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<std::unique_ptr<std::vector<Line>>> memory_;

  static void check_rank(const char* what, int rank) {
    if (rank != 0) refuse(what, rank);
  }
  [[noreturn]] static void refuse(const char* what, int rank) {
    throw std::runtime_error(std::string(what) + " rank " + std::to_string(rank) +
                             ": this process runs alone");
  }
};

/// Draws by an atomic instruction on memory, without an MPI call: MPI's own Fetch_and_op across a
/// network waits until the target rank enters MPI (measured: the whole 2 s of its computation).
class AtomicCounter final : public SharedCounter {
 public:
  explicit AtomicCounter(std::int64_t& value) : value_(value) {}
  std::int64_t next() override { return value_.fetch_add(1); }

 private:
  std::atomic_ref<std::int64_t> value_;
};

}  // namespace

std::unique_ptr<SharedCounter> make_shared_counter(Communicator& world) {
  auto* value = reinterpret_cast<std::int64_t*>(world.host_memory(sizeof(std::int64_t)).data());
  if (world.local_rank() == 0) std::atomic_ref<std::int64_t>(*value).store(0);
  world.barrier();
  return std::make_unique<AtomicCounter>(*value);
}

std::unique_ptr<Communicator> make_local_communicator() {
  return std::make_unique<LocalCommunicator>();
}

bool launched_by_mpi() {
  // Set per process by: Open MPI's mpirun; PMIx (srun --mpi=pmix, prrte); PMI-1 and PMI-2 (Hydra,
  // srun).
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK", "PMI_SIZE"}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') return true;
  }
  return false;
}

int launched_processes() {
  const char* const pmix_rank = std::getenv("PMIX_RANK");
  // PMIx tells its rank only; the step's size is Slurm's to say.
  const bool slurm_step = pmix_rank != nullptr && *pmix_rank != '\0';
  for (const char* variable :
       {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", slurm_step ? "SLURM_STEP_NUM_TASKS" : ""}) {
    const char* value = std::getenv(variable);
    if (value != nullptr && *value != '\0') return std::atoi(value);
  }
  return 0;
}

std::unique_ptr<Communicator> make_world(std::size_t message_bytes) {
  return launched_by_mpi() ? make_mpi_communicator(message_bytes) : make_local_communicator();
}

}  // namespace chunkstate
