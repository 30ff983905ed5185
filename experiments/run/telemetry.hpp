// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace chunkstate {

/// Energy of the processor packages that Linux counts (RAPL): all of this host, whoever used them.
class PackageEnergy {
 public:
  /// The zones `intel-rapl:N` of this folder; AMD's have the same names.
  explicit PackageEnergy(const std::filesystem::path& powercap);

  bool available() const { return !zones_.empty(); }
  /// "RAPL package-0, package-1", or why there is nothing.
  const std::string& description() const { return description_; }

  void start();
  /// Joules since start(), NaN if unknown. Each counter may have wrapped once.
  double stop() const;

 private:
  struct Zone {
    std::filesystem::path counter;  // microjoules
    std::uint64_t range = 0;        // where it wraps
    std::uint64_t begin = 0;
  };
  std::vector<Zone> zones_;
  std::string description_;
};

/// What NVML, looked up at run time, tells of one GPU.
class GpuMeter {
 public:
  struct Use {
    double energy = std::numeric_limits<double>::quiet_NaN();    // J
    double busy = std::numeric_limits<double>::quiet_NaN();      // percent of the time
    double sm_clock = std::numeric_limits<double>::quiet_NaN();  // MHz, at the end
    double power = std::numeric_limits<double>::quiet_NaN();     // W, at the end
    std::int64_t throttled = -1;  // sum of throttle_reasons at start and end; -1: not known
  };

  /// `pci_bus_id` as CUDA gives it, "0000:3b:00.0".
  GpuMeter(const std::string& library, const std::string& pci_bus_id);
  ~GpuMeter();
  GpuMeter(const GpuMeter&) = delete;
  GpuMeter& operator=(const GpuMeter&) = delete;

  bool available() const;
  /// "NVML 0000:3b:00.0", or why there is nothing.
  const std::string& description() const { return description_; }
  std::string name() const;  // empty if unknown, as the next two
  std::string uuid() const;
  std::string driver() const;

  void start();
  /// The driver's energy counter moves every 20 to 100 ms; `busy` is the mean of its samples (one
  /// in 20 ms to 1 s) of this time, NaN if none fell into it.
  Use stop();

 private:
  struct Library;
  std::unique_ptr<Library> library_;
  std::string description_;
  unsigned long long start_millijoules_ = 0;
  unsigned long long start_microseconds_ = 0;
  unsigned long long start_reasons_ = 0;
};

/// Energy and utilisation of the device that computes a request.
class Telemetry {
 public:
  struct Sources {
    std::filesystem::path powercap = "/sys/class/powercap";
    std::string nvml = "libnvidia-ml.so.1";
    std::string pci_bus_id;  // of this process' GPU; empty: it has none
  };
  explicit Telemetry(const Sources& sources);

  /// Of the GPU, if there is one, and of the processors.
  std::string description() const;
  const GpuMeter* gpu() const { return gpu_.get(); }

  void start(bool on_gpu);
  /// Of processors: the energy only.
  GpuMeter::Use stop();

 private:
  std::unique_ptr<GpuMeter> gpu_;
  PackageEnergy packages_;
  bool on_gpu_ = false;
};

}  // namespace chunkstate
