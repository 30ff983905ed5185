// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "kernels/base/executor.hpp"

struct CUevent_st;
struct CUgraphExec_st;

namespace chunkstate {

/// A stream of launches on the current device; none (nullptr) on other backends. Launches of
/// different streams are not ordered, those of the default stream included.
class LaunchStream {
 public:
  explicit LaunchStream(Backend backend);
  ~LaunchStream();
  LaunchStream(const LaunchStream&) = delete;
  LaunchStream& operator=(const LaunchStream&) = delete;
  CUstream_st* get() const { return stream_; }

 private:
  CUstream_st* stream_ = nullptr;
};

/// Launches recorded once, replayed as one. What they read and write is fixed at recording; memory
/// that operators took meanwhile belongs to the recording.
class Recording {
 public:
  /// Runs `launch` with the stream of `exec` recording. Everything that operators make on first use
  /// (libraries' plans) should exist, so run the same launches once before. Throws as `launch`
  /// does.
  Recording(const Executor& exec, const std::function<void()>& launch);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  /// In the order of the stream. Asynchronous.
  void replay(const Executor& exec) const;

 private:
  CUgraphExec_st* graph_ = nullptr;
  unsigned long long id_ = 0;
};

/// A place in a stream that the host can wait for.
class Marker {
 public:
  Marker();
  ~Marker();
  Marker(const Marker&) = delete;
  Marker& operator=(const Marker&) = delete;

  void set(const Executor& exec);
  /// Until everything launched before set() is done.
  void wait() const;
  bool reached() const;

 private:
  CUevent_st* event_ = nullptr;
};

/// Host memory that the device writes directly. Zero at first. Throws std::bad_alloc.
std::shared_ptr<std::byte> shared_with_device(std::size_t bytes);

/// Such memory for something that repeats: what the device reads at its next step, or has written.
class HostBlock {
 public:
  /// `bytes` of it that the device is done with: waits for the last mark(). Their contents are
  /// undefined. Throws std::bad_alloc.
  std::byte* take(std::size_t bytes);
  /// The device uses it until everything launched so far is done.
  void mark(const Executor& exec) { marker_->set(exec); }
  void wait() const { marker_->wait(); }

 private:
  std::shared_ptr<std::byte> data_;
  std::size_t bytes_ = 0;
  std::unique_ptr<Marker> marker_;
};

/// Bytes of the current device that are in use by all processes, and its size; 0 without one.
struct DeviceMemory {
  std::size_t used = 0;
  std::size_t total = 0;
};
DeviceMemory device_memory();

}  // namespace chunkstate
