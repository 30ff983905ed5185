// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/telemetry.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>

namespace chunkstate {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> read_count(const fs::path& file) {
  std::ifstream in(file);
  std::uint64_t value = 0;
  if (!(in >> value)) return std::nullopt;
  return value;
}

// "intel-rapl:0" is a package, "intel-rapl:0:1" a part of it, "intel-rapl-mmio:0" the same package
// again.
bool is_package_zone(const std::string& name) {
  constexpr std::string_view prefix = "intel-rapl:";
  return name.starts_with(prefix) && name.find(':', prefix.size()) == std::string::npos;
}

std::string first_word(const fs::path& file) {
  std::ifstream in(file);
  std::string word;
  in >> word;
  return word;
}

}  // namespace

PackageEnergy::PackageEnergy(const fs::path& powercap) {
  std::error_code error;
  std::vector<fs::path> folders;
  for (fs::directory_iterator entry(powercap, error), end; !error && entry != end;
       entry.increment(error)) {
    if (is_package_zone(entry->path().filename())) folders.push_back(entry->path());
  }
  std::sort(folders.begin(), folders.end());
  std::string names;
  for (const fs::path& folder : folders) {
    const std::string name = first_word(folder / "name");
    if (!name.starts_with("package")) continue;  // psys counts the packages again
    Zone zone{folder / "energy_uj", 0, 0};
    errno = 0;
    const auto range = read_count(folder / "max_energy_range_uj");
    if (!range || !read_count(zone.counter)) {
      description_ = zone.counter.string() + ": " + std::strerror(errno != 0 ? errno : EIO);
      zones_.clear();
      return;
    }
    zone.range = *range;
    zones_.push_back(zone);
    names += (names.empty() ? "RAPL " : ", ") + name;
  }
  description_ = names.empty() ? "no RAPL in " + powercap.string() : names;
}

void PackageEnergy::start() {
  for (Zone& zone : zones_) zone.begin = read_count(zone.counter).value_or(0);
}

double PackageEnergy::stop() const {
  if (zones_.empty()) return std::numeric_limits<double>::quiet_NaN();
  double microjoules = 0;
  for (const Zone& zone : zones_) {
    const auto end = read_count(zone.counter);
    if (!end) return std::numeric_limits<double>::quiet_NaN();
    microjoules += *end >= zone.begin ? static_cast<double>(*end - zone.begin)
                                      : static_cast<double>(zone.range - zone.begin + *end);
  }
  return 1e-6 * microjoules;
}

Telemetry::Telemetry(const Sources& sources) : packages_(sources.powercap) {
  if (sources.pci_bus_id.empty()) return;
  gpu_ = std::make_unique<GpuMeter>(sources.nvml, sources.pci_bus_id);
}

std::string Telemetry::description() const {
  return gpu_ ? gpu_->description() + "; " + packages_.description() : packages_.description();
}

void Telemetry::start(bool on_gpu) {
  on_gpu_ = on_gpu;
  if (!on_gpu) return packages_.start();
  if (gpu_) gpu_->start();
}

GpuMeter::Use Telemetry::stop() {
  if (on_gpu_ && gpu_) return gpu_->stop();
  GpuMeter::Use use;
  if (!on_gpu_) use.energy = packages_.stop();
  return use;
}

}  // namespace chunkstate
