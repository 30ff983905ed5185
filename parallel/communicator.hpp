// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/deadline.hpp"
#include "parallel/rank_group.hpp"

namespace chunkstate {

/// A group of ranks that call the same methods in the same order. It moves bytes and floats in host
/// memory and knows nothing of what they mean. Methods throw std::runtime_error with MPI's own
/// message. One thread at a time, the one that made it.
class Communicator : public RankGroup {
 public:
  /// The rank among those of this host, and their number.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  /// The index of this host, 0 .. hosts() - 1, in the order of each host's lowest rank.
  virtual int host() const = 0;
  virtual int hosts() const = 0;

  /// Waits without using the CPU that slower ranks of the host may be computing on.
  virtual void barrier() = 0;
  /// In rank order with double accumulators, so that a group of a given size repeats bit for bit.
  void all_reduce_sum(std::span<float> values) override = 0;
  /// `root`'s bytes on every rank; other ranks' `bytes` are replaced and resized.
  virtual void broadcast(std::string& bytes, int root) = 0;
  /// Every rank's bytes on every rank, in rank order. Lengths may differ.
  virtual std::vector<std::string> all_gather(const std::string& bytes) = 0;

  /// Memory that all ranks of this host see, the same bytes for each, from a multiple of 64 bytes
  /// on; every rank of the group names the same size. Contents start undefined; freed with the
  /// communicator. Collective. Throws std::bad_alloc, std::runtime_error.
  virtual std::span<std::byte> host_memory(std::size_t bytes) = 0;

  /// The ranks that give the same `color`, in their order here. Collective; before watch(). Must
  /// not outlive the job's first communicator.
  virtual std::unique_ptr<Communicator> split(int color) = 0;

  /// From now on every wait in this communicator and in its parts has this deadline. Collective,
  /// once, on the job's first communicator.
  virtual void watch(const Deadline& deadline) = 0;
  /// Between busy(true) and busy(false) a rank may be silent for any time, as long as it lives: it
  /// loads weights or writes results.
  virtual void busy(bool is_busy) = 0;

  /// Returns when `done` does. For what another library does among these ranks: the wait has their
  /// deadline, and its message says `operation`, number `sequence`, with `peer` (-1: all of them).
  /// It spins.
  virtual void wait_for(Operation operation, std::int64_t sequence, int peer,
                        const std::function<bool()>& done) = 0;
  void wait(const std::function<bool()>& done) override {
    wait_for(Operation::all_reduce_sum, 0, -1, done);
  }

  /// Ends every rank of the group now, with this exit code. For errors that only some ranks saw:
  /// the others would wait for ever in their next collective.
  [[noreturn]] virtual void abort(int exit_code) = 0;
};

/// A counter that several ranks draw from: 0, 1, 2, ... each number once. Drawing never waits for
/// another rank's computation: the counter lies in memory shared by the ranks of one host.
class SharedCounter {
 public:
  virtual ~SharedCounter() = default;
  virtual std::int64_t next() = 0;
};

/// One rank and no library behind it: the same code runs without MPI.
std::unique_ptr<Communicator> make_local_communicator();

/// True if a launcher (mpirun, srun with PMI or PMIx) started this process as one of a group. An
/// salloc or sbatch shell alone is none: its Slurm variables are not looked at.
bool launched_by_mpi();

/// How many processes the launcher says it started together with this one; 0 if it does not say.
int launched_processes();

/// Longer transfers are cut into messages of this size: MPI 3 counts in int.
inline constexpr std::size_t largest_mpi_message = std::size_t{1} << 30;

/// All ranks of the job over MPI, host memory. Calls MPI_Init_thread; its destructor calls
/// MPI_Finalize, or MPI_Abort with exit code 1 if it runs because of an exception (catch inside and
/// call abort() to choose the code). At most one per process.
std::unique_ptr<Communicator> make_mpi_communicator(
    std::size_t message_bytes = largest_mpi_message);

/// make_mpi_communicator() if launched_by_mpi(), else make_local_communicator().
std::unique_ptr<Communicator> make_world(std::size_t message_bytes = largest_mpi_message);

/// A counter shared by the ranks of each host (every host has its own). Collective; destroying it
/// is not, and it must not be used after `world` is gone.
std::unique_ptr<SharedCounter> make_shared_counter(Communicator& world);

/// The MPI library's name and version, one line. May be called at any time.
std::string mpi_library_version();

}  // namespace chunkstate
