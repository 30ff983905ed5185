// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>
#include <time.h>

#include <array>
#include <type_traits>

#include "experiments/record/request_record.hpp"
#include "experiments/run/telemetry.hpp"

namespace chunkstate {

// Of NVML's public interface what is used here: builds without CUDA lack its header.
struct GpuMeter::Library {
  using Result = int;  // 0 is success
  using Device = void*;
  struct Sample {
    unsigned long long microseconds;  // since 1970
    union {
      double real;
      unsigned int integer;
      unsigned long long wide;
    } value;
  };
  static constexpr int utilisation_samples = 1;
  static constexpr int sm_clock = 1;
  static constexpr int integer_value = 1;

  Result (*init)() = nullptr;
  Result (*shut_down)() = nullptr;
  const char* (*words)(Result) = nullptr;
  Result (*find)(const char* bus_id, Device*) = nullptr;
  Result (*energy)(Device, unsigned long long* millijoules) = nullptr;
  Result (*samples)(Device, int type, unsigned long long since, int* value_type,
                    unsigned int* count, Sample*) = nullptr;
  Result (*clock)(Device, int type, unsigned int* megahertz) = nullptr;
  Result (*power)(Device, unsigned int* milliwatts) = nullptr;
  Result (*reasons)(Device, unsigned long long*) = nullptr;
  Result (*name)(Device, char*, unsigned int) = nullptr;
  Result (*uuid)(Device, char*, unsigned int) = nullptr;
  Result (*driver)(char*, unsigned int) = nullptr;

  void* handle = nullptr;
  bool started = false;
  Device device = nullptr;

  ~Library() {
    if (started) shut_down();
    if (handle != nullptr) dlclose(handle);
  }

  template <class Function>
  bool get(Function& function, const char* symbol) {
    function = reinterpret_cast<Function>(dlsym(handle, symbol));
    return function != nullptr;
  }

  // Empty, or why there is no device.
  std::string open(const std::string& library, const std::string& bus_id) {
    handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return library + " not found";
    if (!get(init, "nvmlInit_v2") || !get(shut_down, "nvmlShutdown") ||
        !get(words, "nvmlErrorString") || !get(find, "nvmlDeviceGetHandleByPciBusId_v2")) {
      return library + " lacks a function";
    }
    get(energy, "nvmlDeviceGetTotalEnergyConsumption");
    get(samples, "nvmlDeviceGetSamples");
    get(clock, "nvmlDeviceGetClockInfo");
    get(power, "nvmlDeviceGetPowerUsage");
    if (!get(reasons, "nvmlDeviceGetCurrentClocksEventReasons")) {
      get(reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");  // its name before driver 535
    }
    get(name, "nvmlDeviceGetName");
    get(uuid, "nvmlDeviceGetUUID");
    get(driver, "nvmlSystemGetDriverVersion");
    Result result = init();
    started = result == 0;
    if (started) result = find(bus_id.c_str(), &device);
    if (result == 0) return "";
    device = nullptr;
    return "NVML: " + std::string(words(result));
  }
};

namespace {

constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

// NVML's bits of throttle_reasons. Idle clocks and clocks that somebody set are no throttling.
constexpr std::array<unsigned long long, throttle_reasons.size()> reason_bits = {0x4, 0x8, 0x20,
                                                                                 0x40, 0x80};

unsigned long long microseconds_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<unsigned long long>(now.tv_sec) * 1'000'000 +
         static_cast<unsigned long long>(now.tv_nsec) / 1000;
}

// What a function of the device gives, or a default where there is no such function.
template <class Value, class... Types, class... Arguments>
bool ask(int (*function)(Types...), Value& value, Arguments... arguments) {
  return function != nullptr && function(arguments..., &value) == 0;
}

}  // namespace

GpuMeter::GpuMeter(const std::string& library, const std::string& pci_bus_id)
    : library_(std::make_unique<Library>()) {
  const std::string problem = library_->open(library, pci_bus_id);
  description_ = problem.empty() ? "NVML " + pci_bus_id : problem;
}

GpuMeter::~GpuMeter() = default;

bool GpuMeter::available() const { return library_->device != nullptr; }

std::string GpuMeter::name() const {
  std::array<char, 96> text{};
  const bool known = available() && library_->name != nullptr &&
                     library_->name(library_->device, text.data(), text.size()) == 0;
  return known ? text.data() : "";
}

std::string GpuMeter::uuid() const {
  std::array<char, 96> text{};
  const bool known = available() && library_->uuid != nullptr &&
                     library_->uuid(library_->device, text.data(), text.size()) == 0;
  return known ? text.data() : "";
}

std::string GpuMeter::driver() const {
  std::array<char, 80> text{};
  const bool known =
      available() && library_->driver != nullptr && library_->driver(text.data(), text.size()) == 0;
  return known ? text.data() : "";
}

void GpuMeter::start() {
  if (!available()) return;
  start_reasons_ = 0;
  ask(library_->reasons, start_reasons_, library_->device);
  start_microseconds_ = microseconds_now();
  start_millijoules_ = 0;
  ask(library_->energy, start_millijoules_, library_->device);
}

GpuMeter::Use GpuMeter::stop() {
  Use use;
  if (!available()) return use;
  const Library& nvml = *library_;
  unsigned long long millijoules = 0;
  if (ask(nvml.energy, millijoules, nvml.device) && start_millijoules_ > 0) {
    use.energy = 1e-3 * static_cast<double>(millijoules - start_millijoules_);
  }
  unsigned int value = 0;
  if (ask(nvml.clock, value, nvml.device, Library::sm_clock)) use.sm_clock = value;
  if (ask(nvml.power, value, nvml.device)) use.power = 1e-3 * value;
  unsigned long long reasons = 0;
  if (ask(nvml.reasons, reasons, nvml.device)) {
    use.throttled = 0;
    for (std::size_t i = 0; i < reason_bits.size(); ++i) {
      if (((reasons | start_reasons_) & reason_bits[i]) != 0) use.throttled |= 1 << i;
    }
  }

  // The driver keeps the last 120 or so.
  std::array<Library::Sample, 256> samples{};
  auto count = static_cast<unsigned int>(samples.size());
  int type = 0;
  use.busy = unknown;
  if (nvml.samples != nullptr &&
      nvml.samples(nvml.device, Library::utilisation_samples, start_microseconds_, &type, &count,
                   samples.data()) == 0 &&
      type == Library::integer_value && count > 0 && count <= samples.size()) {
    double sum = 0;
    for (unsigned int i = 0; i < count; ++i) sum += samples[i].value.integer;
    use.busy = sum / count;
  }
  return use;
}

}  // namespace chunkstate
