// SPDX-License-Identifier: Apache-2.0
#include "experiments/doctor/folder_findings.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <vector>

#include "experiments/analysis/table.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/process_identity.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/run/clock.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;

constexpr const char* another_folder = "name another folder (--out, output.dir)";

std::string file_system_of(const fs::path& directory) {
  constexpr std::pair<std::uint64_t, const char*> names[] = {
      {0x6969, "nfs"},      {0x0BD00BD0, "lustre"}, {0x47504653, "gpfs"},  {0x19830326, "beegfs"},
      {0x00C36400, "ceph"}, {0x65735546, "fuse"},   {0x01021994, "tmpfs"}, {0x794C7630, "overlay"},
      {0xEF53, "ext4"},     {0x58465342, "xfs"},    {0x9123683E, "btrfs"}, {0x2FC12FC1, "zfs"}};
  struct statfs facts {};
  if (statfs(directory.c_str(), &facts) != 0) return "an unknown file system";
  for (const auto& [magic, name] : names) {
    if (static_cast<std::uint64_t>(facts.f_type) == magic) return name;
  }
  return fmt::format("file system {:#x}", static_cast<std::uint64_t>(facts.f_type));
}

/// A name of this process' own in the directory, gone at the end of the scope.
class Scratch {
 public:
  Scratch(const fs::path& directory, const char* end)
      : path_(directory / fmt::format(".doctor.{}.{}.{}", this_process().host, getpid(), end)) {}
  ~Scratch() {
    std::error_code failed;
    fs::remove(path_, failed);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// A results file in small: made in memory, written, synced, renamed, read back.
Finding write_and_read(const fs::path& directory) {
  const Scratch before(directory, "tmp"), after(directory, "h5");
  std::vector<double> values(10000);
  std::iota(values.begin(), values.end(), 0.5);
  const double start = monotonic_seconds();
  std::string image;
  {
    const h5::Handle file = h5::create_file(before.path());
    const h5::Group root = h5::root_group(file, before.path());
    root.write_dimension({"value", "1", "index"}, static_cast<std::int64_t>(values.size()));
    root.write<double>({"values", "1", "numbers"}, values, {"value"});
    image = h5::file_image(file, before.path());
  }
  write_durably(before.path(), image);
  rename_durably(before.path(), after.path());
  const h5::Handle file = h5::open_file(after.path());
  const auto found = h5::root_group(file, after.path()).read<double>("values");
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  if (found != values) {
    return {Severity::problem, "hdf5",
            fmt::format("{}: other numbers were read than written", directory.string()),
            "the same ones", another_folder};
  }
  return {Severity::ok, "hdf5",
          fmt::format("HDF5 {}.{}.{}: a file written, synced, renamed and read back in {}", major,
                      minor, release, format_seconds(monotonic_seconds() - start)),
          "", ""};
}

Finding lock(const fs::path& directory, const std::string& system) {
  const Scratch scratch(directory, "lock");
  const FileDescriptor file(scratch.path(), O_RDWR | O_CREAT);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) {
    return {Severity::ok, "locks", fmt::format("files can be locked ({})", system), "", ""};
  }
  return {Severity::warning, "locks",
          fmt::format("no file locks on {}: {}", system, std::strerror(errno)),
          "locks, which end with their process",
          "start no two runs in one folder at a time; h5py and others need "
          "HDF5_USE_FILE_LOCKING=FALSE there"};
}

Finding space(const fs::path& directory, const std::string& system) {
  struct statvfs facts {};
  if (statvfs(directory.c_str(), &facts) != 0) {
    return {Severity::warning, "space", fmt::format("unknown: {}", std::strerror(errno)), "", ""};
  }
  const double bytes = static_cast<double>(facts.f_bavail) * static_cast<double>(facts.f_frsize);
  const std::string found =
      fmt::format("{} free in {} ({})", format_bytes(bytes), directory.string(), system);
  if (bytes < 64.0 * (1 << 20)) {
    return {Severity::problem, "space", found, "64 MiB or more", another_folder};
  }
  if (bytes < 1024.0 * (1 << 20)) {
    return {Severity::warning, "space", found, "1 GiB or more for long runs", another_folder};
  }
  if (system == "tmpfs") {
    return {Severity::note, "space", found + ": in memory, lost with the machine", "", ""};
  }
  return {Severity::ok, "space", found, "", ""};
}

}  // namespace

Findings folder_findings(const fs::path& directory) {
  Findings findings;
  std::error_code failed;
  const bool made = !fs::exists(directory, failed);
  try {
    make_directories(directory);
    const std::string system = file_system_of(directory);
    findings.push_back(write_and_read(directory));
    findings.push_back(lock(directory, system));
    findings.push_back(space(directory, system));
  } catch (const std::exception& error) {
    findings.push_back({Severity::problem, "folder", error.what(), "a folder to write results to",
                        another_folder});
  }
  if (made) fs::remove(directory, failed);
  return findings;
}

Findings shared_folder_findings(Communicator& world, const fs::path& directory) {
  Findings findings;
  if (world.hosts() == 1) return findings;
  const Scratch scratch(directory, "shared");
  std::string name = scratch.path();
  world.broadcast(name, 0);
  bool written = true;
  if (world.rank() == 0) {
    try {
      write_durably(name, "here\n");
    } catch (const std::exception&) {
      written = false;  // folder_findings() has said why
    }
  }
  world.barrier();
  std::error_code failed;
  const bool seen = fs::exists(name, failed);
  std::string missing;
  for (const std::string& host : world.all_gather(seen ? "" : this_process().host)) {
    if (!host.empty() && missing.find(host) == std::string::npos) missing += " " + host;
  }
  std::string known = written ? "1" : "0";
  world.broadcast(known, 0);
  if (known == "0") return findings;
  if (missing.empty()) {
    findings.push_back(
        {Severity::ok, "folder",
         fmt::format("{} is the same on all {} hosts", directory.string(), world.hosts()), "", ""});
  } else {
    findings.push_back(
        {Severity::problem, "folder",
         fmt::format("what is written to {} is not seen on:{}", directory.string(), missing),
         "one folder that all hosts share", another_folder});
  }
  return findings;
}

}  // namespace chunkstate
