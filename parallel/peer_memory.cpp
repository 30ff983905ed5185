// SPDX-License-Identifier: Apache-2.0
#include "parallel/peer_memory.hpp"

#if CHUNKSTATE_HAS_NCCL
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace chunkstate {
namespace {

bool is_forbidden() {
  const char* const value = std::getenv("NCCL_P2P_DISABLE");
  return value != nullptr && std::strcmp(value, "1") == 0;
}

}  // namespace

// A failure only means that NCCL serves. Launches after it ask for the last error.
bool PeerMapping::succeeds(int cuda_error, const char* what) {
  const auto error = static_cast<cudaError_t>(cuda_error);
  if (error == cudaSuccess) return true;
  static_cast<void>(cudaGetLastError());
  if (problem_.empty()) problem_ = std::string(what) + ": " + cudaGetErrorString(error);
  return false;
}

PeerMapping::PeerMapping(Communicator& hosts, std::size_t bytes)
    : hosts_(hosts), blocks_(static_cast<std::size_t>(hosts.size())) {
  const int ranks = hosts_.size();
  if (ranks < 2 || ranks > PeerMemory::most || hosts_.hosts() != 1) return;
  const std::vector<std::string> handles = hosts_.all_gather(make_own(bytes));
  const bool all_have =
      std::none_of(handles.begin(), handles.end(), [](const auto& h) { return h.empty(); });
  const bool mapped = all_agree(all_have && open_others(handles));
  if (!all_agree(mapped && reaches_all())) {
    if (!problem_.empty()) {
      std::fprintf(stderr, "chunkstate: rank %d: sums go through NCCL: %s\n", hosts_.rank(),
                   problem_.c_str());
    }
    unmap();
    hosts_.barrier();
    release();
    return;
  }
  memory_.emplace();
  memory_->bytes = bytes;
  std::copy(blocks_.begin(), blocks_.end(), memory_->block.begin());
  void* word = nullptr;  // the device's address of it
  if (!succeeds(cudaHostGetDevicePointer(&word, ended_, 0), "cudaHostGetDevicePointer"))
    word = ended_;
  memory_->ended = static_cast<const std::uint32_t*>(word);
  set_when_ended(ended_);
}

PeerMapping::~PeerMapping() { close(false); }

void PeerMapping::close(bool together) {
  if (!memory_) return;
  memory_.reset();
  if (!together) {
    ended_->store(1);
    succeeds(cudaDeviceSynchronize(),
             "cudaDeviceSynchronize");  // kernels that are under way still write
  }
  unmap();
  if (together) hosts_.barrier();  // nobody has this rank's block mapped any more
  release();
}

// What other processes need of it; empty: not to be had.
std::string PeerMapping::make_own(std::size_t bytes) {
  void* block = nullptr;
  void* word = nullptr;
  cudaIpcMemHandle_t handle{};
  if (is_forbidden() || !succeeds(cudaMalloc(&block, bytes), "cudaMalloc")) return {};
  blocks_[static_cast<std::size_t>(hosts_.rank())] = static_cast<std::byte*>(block);
  if (!succeeds(cudaHostAlloc(&word, sizeof(*ended_), cudaHostAllocMapped), "cudaHostAlloc"))
    return {};
  ended_ = new (word) std::atomic<std::uint32_t>(0);
  if (!succeeds(cudaMemset(block, 0, bytes), "cudaMemset") ||
      !succeeds(cudaDeviceSynchronize(), "cudaDeviceSynchronize") ||
      !succeeds(cudaIpcGetMemHandle(&handle, block), "cudaIpcGetMemHandle")) {
    return {};
  }
  return {reinterpret_cast<const char*>(&handle), sizeof(handle)};
}

bool PeerMapping::open_others(const std::vector<std::string>& handles) {
  for (std::size_t r = 0; r < handles.size(); ++r) {
    if (static_cast<int>(r) == hosts_.rank()) continue;
    cudaIpcMemHandle_t handle{};
    if (handles[r].size() != sizeof(handle)) return false;
    std::memcpy(&handle, handles[r].data(), sizeof(handle));
    void* block = nullptr;
    if (!succeeds(cudaIpcOpenMemHandle(&block, handle, cudaIpcMemLazyEnablePeerAccess),
                  "cudaIpcOpenMemHandle")) {
      return false;
    }
    blocks_[r] = static_cast<std::byte*>(block);
  }
  return true;
}

// Every rank writes a word of its own into every block, its own included.
bool PeerMapping::reaches_all() {
  const auto ranks = blocks_.size();
  const auto own = static_cast<std::size_t>(hosts_.rank());
  bool written = true;
  for (std::byte* const block : blocks_) {
    const std::uint64_t word = own + 1;
    written = written && succeeds(cudaMemcpy(block + own * sizeof(word), &word, sizeof(word),
                                             cudaMemcpyHostToDevice),
                                  "cudaMemcpy");
  }
  written = succeeds(cudaDeviceSynchronize(), "cudaDeviceSynchronize") && written;
  if (!all_agree(written)) return false;
  std::vector<std::uint64_t> words(ranks);
  const std::size_t bytes = ranks * sizeof(words[0]);
  bool found =
      succeeds(cudaMemcpy(words.data(), blocks_[own], bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  for (std::size_t r = 0; r < ranks; ++r) found = found && words[r] == r + 1;
  if (!found && problem_.empty()) problem_ = "a word written to a rank's memory did not arrive";
  return succeeds(cudaMemset(blocks_[own], 0, bytes), "cudaMemset") &&
         succeeds(cudaDeviceSynchronize(), "cudaDeviceSynchronize") && found;
}

bool PeerMapping::all_agree(bool mine) {
  const std::vector<std::string> all = hosts_.all_gather(mine ? "1" : "0");
  return std::all_of(all.begin(), all.end(), [](const std::string& one) { return one == "1"; });
}

void PeerMapping::unmap() {
  for (std::size_t r = 0; r < blocks_.size(); ++r) {
    if (static_cast<int>(r) == hosts_.rank() || blocks_[r] == nullptr) continue;
    succeeds(cudaIpcCloseMemHandle(blocks_[r]), "cudaIpcCloseMemHandle");
    blocks_[r] = nullptr;
  }
}

void PeerMapping::release() {
  std::byte*& own = blocks_[static_cast<std::size_t>(hosts_.rank())];
  if (own != nullptr) succeeds(cudaFree(own), "cudaFree");
  own = nullptr;
  if (ended_ == nullptr) return;
  forget_when_ended(ended_);
  succeeds(cudaFreeHost(ended_), "cudaFreeHost");
  ended_ = nullptr;
}

}  // namespace chunkstate

#endif
