// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/gpu_facts.hpp"

#if CHUNKSTATE_HAS_CUDA
#include <cuda_runtime_api.h>

#include <algorithm>
#include <stdexcept>
#endif

namespace chunkstate {

#if CHUNKSTATE_HAS_CUDA

namespace {

std::string words_of(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw std::runtime_error(std::string(what) + ": " + words_of(error));
}

/// Words that depend on their place and on the seed, so that bytes of another place or of another
/// copy do not pass (splitmix64).
std::vector<std::uint64_t> pattern(std::size_t bytes, std::uint64_t seed) {
  std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
  std::uint64_t state = seed;
  for (std::uint64_t& word : words) {
    state += 0x9E3779B97F4A7C15U;
    word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9U;
    word = (word ^ (word >> 27)) * 0x94D049BB133111EBU;
    word ^= word >> 31;
  }
  return words;
}

/// Memory of one GPU, which is the current one where it is made; a stream and a clock on it.
class Place {
 public:
  explicit Place(std::size_t bytes)
      : bytes_(bytes / sizeof(std::uint64_t) * sizeof(std::uint64_t)) {
    check(cudaMalloc(&data_, bytes_), "cudaMalloc");
  }
  ~Place() {
    for (cudaEvent_t event : {begin_, end_}) {
      if (event != nullptr) static_cast<void>(cudaEventDestroy(event));
    }
    static_cast<void>(cudaFree(data_));
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  void fill(const std::vector<std::uint64_t>& words) const {
    check(cudaMemcpy(data_, words.data(), bytes_, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  void clear() const {
    check(cudaMemset(data_, 0, bytes_), "cudaMemset");
    check(cudaDeviceSynchronize(), "cudaMemset");
  }
  bool holds(const std::vector<std::uint64_t>& words) const {
    std::vector<std::uint64_t> found(words.size());
    check(cudaMemcpy(found.data(), data_, bytes_, cudaMemcpyDeviceToHost), "cudaMemcpy");
    return found == words;
  }

  /// Bytes per second of `copy`, which launches into stream 0 of the current GPU.
  template <class Copy>
  double rate(const Copy& copy) {
    if (begin_ == nullptr) check(cudaEventCreate(&begin_), "cudaEventCreate");
    if (end_ == nullptr) check(cudaEventCreate(&end_), "cudaEventCreate");
    check(cudaEventRecord(begin_), "cudaEventRecord");
    copy();
    check(cudaEventRecord(end_), "cudaEventRecord");
    check(cudaEventSynchronize(end_), "peer copy");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return milliseconds > 0 ? static_cast<double>(bytes_) / (1e-3 * milliseconds) : 0;
  }

 private:
  std::size_t bytes_;
  void* data_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

/// From now on the current GPU reads the memory of `peer` itself.
bool enable_peer(int current, int peer) {
  int can = 0;
  check(cudaDeviceCanAccessPeer(&can, current, peer), "cudaDeviceCanAccessPeer");
  if (can == 0) return false;
  const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
  if (error == cudaErrorPeerAccessAlreadyEnabled) {
    static_cast<void>(cudaGetLastError());
    return true;
  }
  check(error, "cudaDeviceEnablePeerAccess");
  return true;
}

/// Fills `result` by `copy`, twice into a cleared place: once to connect, once for the clock.
template <class Copy>
void measure(PeerCopy& result, Place& into, const std::vector<std::uint64_t>& expected,
             const Copy& copy) {
  for (int round = 0; round < 2; ++round) {
    into.clear();
    result.bytes_per_second = into.rate(copy);
    result.equal = into.holds(expected);
    if (!result.equal) return;
  }
}

PeerCopy tried_between_gpus(int source, int target, std::size_t bytes) {
  PeerCopy result;
  const auto words = pattern(bytes, static_cast<std::uint64_t>(source) * 1000 + target);
  check(cudaSetDevice(source), "cudaSetDevice");
  const Place from(bytes);
  from.fill(words);
  enable_peer(source, target);
  check(cudaSetDevice(target), "cudaSetDevice");
  Place into(bytes);
  result.direct = enable_peer(target, source);
  measure(result, into, words, [&] {
    check(cudaMemcpyPeerAsync(into.data(), target, from.data(), source, into.bytes(), nullptr),
          "cudaMemcpyPeerAsync");
  });
  return result;
}

}  // namespace

GpuSoftware gpu_software() {
  GpuSoftware software;
  static_cast<void>(cudaRuntimeGetVersion(&software.runtime));
  static_cast<void>(cudaDriverGetVersion(&software.driver));
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());
  if (error != cudaSuccess) software.problem = words_of(error);
  return software;
}

std::vector<GpuFacts> visible_gpus() {
  std::vector<GpuFacts> gpus;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties{};
    char bus_id[32] = "";
    int mode = cudaComputeModeDefault;
    if (cudaGetDeviceProperties(&properties, device) != cudaSuccess ||
        cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, device) != cudaSuccess) {
      break;
    }
    GpuFacts gpu;
    gpu.name = properties.name;
    gpu.pci_bus_id = bus_id;
    std::transform(gpu.pci_bus_id.begin(), gpu.pci_bus_id.end(), gpu.pci_bus_id.begin(),
                   [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
    for (const char byte : properties.uuid.bytes) {
      constexpr char digits[] = "0123456789abcdef";
      gpu.uuid += digits[static_cast<unsigned char>(byte) / 16];
      gpu.uuid += digits[static_cast<unsigned char>(byte) % 16];
    }
    gpu.memory_bytes = static_cast<std::int64_t>(properties.totalGlobalMem);
    gpu.exclusive = mode == cudaComputeModeExclusiveProcess;
    gpus.push_back(gpu);
  }
  static_cast<void>(cudaGetLastError());
  return gpus;
}

PeerCopy copy_between_gpus(int source, int target, std::size_t bytes) {
  int before = 0;
  static_cast<void>(cudaGetDevice(&before));
  PeerCopy result;
  try {
    result = tried_between_gpus(source, target, bytes);
  } catch (const std::exception& error) {
    result.problem = error.what();
  }
  static_cast<void>(cudaSetDevice(before));
  return result;
}

LentGpuMemory::LentGpuMemory(std::size_t bytes, std::uint64_t seed) {
  try {
    const auto words = pattern(bytes, seed);
    check(cudaMalloc(&data_, words.size() * sizeof(words[0])), "cudaMalloc");
    check(cudaMemcpy(data_, words.data(), words.size() * sizeof(words[0]), cudaMemcpyHostToDevice),
          "cudaMemcpy");
    check(cudaDeviceSynchronize(), "cudaMemcpy");
    cudaIpcMemHandle_t handle;
    check(cudaIpcGetMemHandle(&handle, data_), "cudaIpcGetMemHandle");
    ticket_.assign(handle.reserved, sizeof handle.reserved);
  } catch (const std::exception& error) {
    problem_ = error.what();
  }
}

LentGpuMemory::~LentGpuMemory() { static_cast<void>(cudaFree(data_)); }

PeerCopy copy_from_lender(const std::string& ticket, std::size_t bytes, std::uint64_t seed) {
  PeerCopy result;
  void* lent = nullptr;
  try {
    const auto words = pattern(bytes, seed);
    cudaIpcMemHandle_t handle;
    if (ticket.size() != sizeof handle.reserved) throw std::runtime_error("nothing was lent");
    ticket.copy(handle.reserved, sizeof handle.reserved);
    check(cudaIpcOpenMemHandle(&lent, handle, cudaIpcMemLazyEnablePeerAccess),
          "cudaIpcOpenMemHandle");
    Place into(bytes);
    measure(result, into, words, [&] {
      check(cudaMemcpyAsync(into.data(), lent, into.bytes(), cudaMemcpyDeviceToDevice, nullptr),
            "cudaMemcpyAsync");
    });
    result.direct = true;  // another process' memory is not opened in any other way
  } catch (const std::exception& error) {
    result.problem = error.what();
  }
  if (lent != nullptr) static_cast<void>(cudaIpcCloseMemHandle(lent));
  return result;
}

#else

GpuSoftware gpu_software() { return {0, 0, "not in this build"}; }
std::vector<GpuFacts> visible_gpus() { return {}; }
PeerCopy copy_between_gpus(int, int, std::size_t) { return {false, false, 0, "not in this build"}; }
LentGpuMemory::LentGpuMemory(std::size_t, std::uint64_t) : problem_("not in this build") {}
LentGpuMemory::~LentGpuMemory() = default;
PeerCopy copy_from_lender(const std::string&, std::size_t, std::uint64_t) {
  return {false, false, 0, "not in this build"};
}

#endif

}  // namespace chunkstate
