// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/telemetry.hpp"

#include <unistd.h>

#include <cmath>
#include <fstream>

#include "tests/catch.hpp"

using namespace chunkstate;
namespace fs = std::filesystem;

namespace {

/// A folder as /sys/class/powercap, of zones with a name, a counter and its range.
class FakePowercap {
 public:
  FakePowercap()
      : path_(fs::temp_directory_path() / ("chunkstate-powercap-" + std::to_string(getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~FakePowercap() { fs::remove_all(path_); }
  FakePowercap(const FakePowercap&) = delete;
  FakePowercap& operator=(const FakePowercap&) = delete;

  void zone(const std::string& folder, const std::string& name, std::uint64_t microjoules,
            std::uint64_t range = 1'000'000'000) const {
    fs::create_directories(path_ / folder);
    write(folder + "/name", name);
    write(folder + "/max_energy_range_uj", std::to_string(range));
    write(folder + "/energy_uj", std::to_string(microjoules));
  }
  void write(const std::string& file, const std::string& text) const {
    std::ofstream(path_ / file) << text << "\n";
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace

TEST_CASE("energy is that of all packages, each counted once") {
  const FakePowercap host;
  host.zone("intel-rapl:0", "package-0", 5'000'000);
  host.zone("intel-rapl:0:0", "core", 1);
  host.zone("intel-rapl:1", "package-1", 7'000'000);
  host.zone("intel-rapl:2", "psys", 1);
  host.zone("intel-rapl-mmio:0", "package-0", 1);
  host.zone("dtpm", "package-0", 1);
  PackageEnergy energy(host.path());
  CHECK(energy.available());
  CHECK(energy.description() == "RAPL package-0, package-1");
  energy.start();
  CHECK(energy.stop() == 0.0);
  host.write("intel-rapl:0/energy_uj", "8500000");
  host.write("intel-rapl:1/energy_uj", "7250000");
  host.write("intel-rapl:0:0/energy_uj", "900000");
  CHECK(energy.stop() == Approx(3.75));
}

TEST_CASE("a counter that went round is continued") {
  const FakePowercap host;
  host.zone("intel-rapl:0", "package-0", 999'000'000, 1'000'000'000);
  PackageEnergy energy(host.path());
  energy.start();
  host.write("intel-rapl:0/energy_uj", "500000");
  CHECK(energy.stop() == Approx(1.5));
}

TEST_CASE("a host without readable counters has no energy and says why") {
  const FakePowercap host;
  SECTION("no folder") {
    PackageEnergy energy(host.path() / "missing");
    CHECK_FALSE(energy.available());
    CHECK(energy.description() == "no RAPL in " + (host.path() / "missing").string());
    energy.start();
    CHECK(std::isnan(energy.stop()));
  }
  SECTION(
      "no counter") {  // as root reads everything, a file that is not there stands for a locked one
    host.zone("intel-rapl:0", "package-0", 1);
    fs::remove(host.path() / "intel-rapl:0/energy_uj");
    const PackageEnergy energy(host.path());
    CHECK_FALSE(energy.available());
    CHECK(energy.description().find("intel-rapl:0/energy_uj: No such file") != std::string::npos);
  }
  SECTION("a counter that vanishes") {
    host.zone("intel-rapl:0", "package-0", 1);
    PackageEnergy energy(host.path());
    energy.start();
    fs::remove(host.path() / "intel-rapl:0/energy_uj");
    CHECK(std::isnan(energy.stop()));
  }
}

TEST_CASE("what NVML tells of a GPU is what its library says") {
  GpuMeter gpu(FAKE_NVML, "0000:3b:00.0");
  REQUIRE(gpu.available());
  CHECK(gpu.description() == "NVML 0000:3b:00.0");
  CHECK(gpu.name() == "Fake H100");
  CHECK(gpu.uuid() == "GPU-1234");
  CHECK(gpu.driver() == "580.1");
  gpu.start();
  const GpuMeter::Use use = gpu.stop();
  CHECK(use.energy == Approx(2.5));
  CHECK(use.busy == Approx(75));
  CHECK(use.sm_clock == Approx(1755));
  CHECK(use.power == Approx(312.5));
  CHECK(use.throttled == 1);  // the power cap
}

TEST_CASE("no NVML, another library and another GPU leave no numbers and a reason") {
  const auto expect_nothing = [](const std::string& library, const std::string& bus_id,
                                 const std::string& reason) {
    GpuMeter gpu(library, bus_id);
    CHECK_FALSE(gpu.available());
    CHECK(gpu.description() == reason);
    CHECK(gpu.name().empty());
    gpu.start();
    CHECK(std::isnan(gpu.stop().energy));
    CHECK(std::isnan(gpu.stop().busy));
  };
  expect_nothing("libno-such-nvml.so.1", "0000:3b:00.0", "libno-such-nvml.so.1 not found");
  expect_nothing("libm.so.6", "0000:3b:00.0", "libm.so.6 lacks a function");
  expect_nothing(FAKE_NVML, "0000:01:00.0", "NVML: Not Found");
}

TEST_CASE("a request is charged to the device that computes it") {
  const FakePowercap host;
  host.zone("intel-rapl:0", "package-0", 1'000'000);
  Telemetry telemetry({host.path(), FAKE_NVML, "0000:3b:00.0"});
  CHECK(telemetry.description() == "NVML 0000:3b:00.0; RAPL package-0");
  telemetry.start(true);
  CHECK(telemetry.stop().energy == Approx(2.5));
  telemetry.start(false);
  host.write("intel-rapl:0/energy_uj", "1250000");
  const GpuMeter::Use use = telemetry.stop();
  CHECK(use.energy == Approx(0.25));
  CHECK(std::isnan(use.busy));
}
