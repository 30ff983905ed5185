// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

// What a program can find out about its GPUs, and whether they really read each other's memory. A
// build without CUDA sees none.
namespace chunkstate {

struct GpuFacts {
  std::string name;
  std::string pci_bus_id;         // "0000:3b:00.0"
  std::string uuid;               // 32 hex digits; of parts of one GPU (MIG) they differ
  std::int64_t memory_bytes = 0;  // all of it
  bool exclusive = false;         // one process only may compute on it
};

struct GpuSoftware {
  int driver = 0;       // the newest CUDA that the driver serves, 13000 for 13.0; 0: no driver
  int runtime = 0;      // the CUDA of this build; 0: none
  std::string problem;  // why there is no GPU, in CUDA's words; empty if there is one
};

GpuSoftware gpu_software();
/// The GPUs that this process may use, in CUDA's order.
std::vector<GpuFacts> visible_gpus();

/// One GPU's memory copied to another and compared. An IOMMU that is in the way lets such copies
/// succeed and deliver other bytes.
struct PeerCopy {
  bool direct = false;          // by the GPUs themselves, not through host memory
  bool equal = false;           // the bytes that arrived are those that were sent
  double bytes_per_second = 0;  // of the second copy
  std::string problem;          // in CUDA's words; empty if it could be done
};

/// Between two of visible_gpus(), both used by this process. The current GPU stays.
PeerCopy copy_between_gpus(int source, int target, std::size_t bytes);

/// Memory of the current GPU, filled with a pattern, that other processes of this host may read.
class LentGpuMemory {
 public:
  LentGpuMemory(std::size_t bytes, std::uint64_t seed);
  ~LentGpuMemory();
  LentGpuMemory(const LentGpuMemory&) = delete;
  LentGpuMemory& operator=(const LentGpuMemory&) = delete;

  /// What the others need; empty if it could not be lent.
  const std::string& ticket() const { return ticket_; }
  const std::string& problem() const { return problem_; }

 private:
  void* data_ = nullptr;
  std::string ticket_;
  std::string problem_;
};

/// Copies what another process, with the same `bytes` and `seed`, has lent to the current GPU.
PeerCopy copy_from_lender(const std::string& ticket, std::size_t bytes, std::uint64_t seed);

}  // namespace chunkstate
