// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/recording.hpp"

#include <bit>
#include <cstring>
#include <new>

#include "kernels/base/check.hpp"
#include "kernels/base/launches.hpp"

#if CHUNKSTATE_HAS_CUDA
#include "kernels/base/cuda_check.cuh"
#include "kernels/base/workspace.cuh"
#endif

namespace chunkstate {

#if CHUNKSTATE_HAS_CUDA

LaunchStream::LaunchStream(Backend backend) {
  if (backend != Backend::cuda) return;
  check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
}
LaunchStream::~LaunchStream() {
  if (stream_ == nullptr) return;
  release_workspaces(stream_, 0);
  static_cast<void>(cudaStreamDestroy(stream_));
}

Recording::Recording(const Executor& exec, const std::function<void()>& launch) {
  check_cuda(cudaStreamBeginCapture(exec.stream, cudaStreamCaptureModeThreadLocal), "recording");
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaGraph_t graph = nullptr;
  try {
    check_cuda(cudaStreamGetCaptureInfo(exec.stream, &status, &id_), "recording");
    const std::int64_t launched = launched_operators.load();
    launch();
    launched_operators.store(launched);  // nothing has run
  } catch (...) {
    static_cast<void>(cudaStreamEndCapture(exec.stream, &graph));
    if (graph != nullptr) static_cast<void>(cudaGraphDestroy(graph));
    static_cast<void>(cudaGetLastError());
    throw;
  }
  check_cuda(cudaStreamEndCapture(exec.stream, &graph), "recording");
  const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
  static_cast<void>(cudaGraphDestroy(graph));
  check_cuda(error, "recording");
}
Recording::~Recording() {
  if (graph_ != nullptr) static_cast<void>(cudaGraphExecDestroy(graph_));
  release_workspaces(nullptr, id_);
}
void Recording::replay(const Executor& exec) const {
  count_launches();
  check_cuda(cudaGraphLaunch(graph_, exec.stream), "replay");
}

Marker::Marker() {
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "marker");
}
Marker::~Marker() { static_cast<void>(cudaEventDestroy(event_)); }
void Marker::set(const Executor& exec) {
  check_cuda(cudaEventRecord(event_, exec.stream), "marker");
}
void Marker::wait() const { check_cuda(cudaEventSynchronize(event_), "marker"); }
bool Marker::reached() const {
  const cudaError_t state = cudaEventQuery(event_);
  if (state == cudaErrorNotReady) {
    static_cast<void>(cudaGetLastError());  // the checks of later launches would take it for theirs
    return false;
  }
  check_cuda(state, "marker");
  return true;
}

std::shared_ptr<std::byte> shared_with_device(std::size_t bytes) {
  void* data = nullptr;
  if (cudaMallocHost(&data, bytes) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    throw std::bad_alloc();
  }
  std::memset(data, 0, bytes);
  return {static_cast<std::byte*>(data), [](std::byte* p) { static_cast<void>(cudaFreeHost(p)); }};
}

DeviceMemory device_memory() {
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return {};
  }
  return {total - free, total};
}

#else

LaunchStream::LaunchStream(Backend) {}
LaunchStream::~LaunchStream() = default;
Recording::Recording(const Executor& exec, const std::function<void()>&) {
  throw BackendError("Recording", exec.backend);
}
Recording::~Recording() = default;
void Recording::replay(const Executor&) const {}
Marker::Marker() = default;
Marker::~Marker() = default;
void Marker::set(const Executor&) {}
void Marker::wait() const {}
bool Marker::reached() const { return true; }
std::shared_ptr<std::byte> shared_with_device(std::size_t) {
  throw BackendError("shared_with_device", Backend::cuda);
}
DeviceMemory device_memory() { return {}; }

#endif

std::byte* HostBlock::take(std::size_t bytes) {
  if (!marker_) marker_ = std::make_unique<Marker>();
  marker_->wait();
  if (bytes > bytes_) {
    bytes_ = std::bit_ceil(bytes);
    data_ = shared_with_device(bytes_);
  }
  return data_.get();
}

}  // namespace chunkstate
