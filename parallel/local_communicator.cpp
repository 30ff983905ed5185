// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

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
  void send(std::span<const std::byte>, int to) override { refuse("send to", to); }
  void receive(std::span<std::byte>, int from) override { refuse("receive from", from); }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    std::_Exit(exit_code);
  }

 private:
  static void check_rank(const char* what, int rank) {
    if (rank != 0) refuse(what, rank);
  }
  [[noreturn]] static void refuse(const char* what, int rank) {
    throw std::runtime_error(std::string(what) + " rank " + std::to_string(rank) +
                             ": this process runs alone");
  }
};

}  // namespace

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

std::unique_ptr<Communicator> make_world(std::size_t message_bytes) {
  return launched_by_mpi() ? make_mpi_communicator(message_bytes) : make_local_communicator();
}

}  // namespace chunkstate
