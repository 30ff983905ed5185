// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/directory_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

namespace chunkstate {
namespace {

struct Holder {
  ProcessIdentity process;
  std::string since;
  std::string text() const {
    return "pid " + std::to_string(process.pid) + " on " + process.host + " since " + since;
  }
};

/// False if the file is empty or was not written completely: then nobody got as far as holding the
/// lock.
bool read_holder(const std::filesystem::path& path, Holder& holder) {
  std::ifstream file(path);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  const nlohmann::json json = nlohmann::json::parse(bytes, nullptr, false);
  if (!json.is_object()) return false;
  try {
    holder.process = {json.at("host"), json.at("pid"), json.at("boot_id"), json.at("start_ticks")};
    holder.since = json.at("since");
  } catch (const nlohmann::json::exception&) {
    return false;
  }
  return true;
}

[[noreturn]] void throw_locked(const std::filesystem::path& directory, const Holder& holder) {
  throw LockedError(directory.string() + " is in use by " + holder.text() +
                    "; wait for it or stop it, then run again");
}

}  // namespace

DirectoryLock::DirectoryLock(const std::filesystem::path& directory) {
  make_directories(directory);
  const std::filesystem::path path = directory / "lock";
  FileDescriptor file(path, O_RDWR | O_CREAT);
  int error = 0;
  while (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    error = errno;
    break;
  }
  Holder holder;
  const bool held = read_holder(path, holder);
  if (error == EWOULDBLOCK) {
    if (!held) holder.since = "a moment ago";
    throw_locked(directory, holder);
  }
  // ENOLCK, ENOSYS, EOPNOTSUPP: a mount without kernel locks (Lustre without -o flock, some NFS).
  if (error != 0 && held && liveness(holder.process) == Liveness::alive) {
    throw_locked(directory, holder);
  }
  if (held) taken_over_from_ = holder.text();

  const ProcessIdentity self = this_process();
  const nlohmann::json json = {{"host", self.host},
                               {"pid", self.pid},
                               {"boot_id", self.boot_id},
                               {"start_ticks", self.start_ticks},
                               {"since", utc_now()}};
  if (const int failed = cut_file(file.get(), 0); failed != 0) {
    throw FileError(failed, path, "ftruncate");
  }
  if (const int failed = write_all(file.get(), json.dump() + '\n'); failed != 0) {
    throw FileError(failed, path, "write");
  }
  if (const int failed = sync_data(file.get()); failed != 0) {
    throw FileError(failed, path, "fdatasync");
  }
  file_ = std::move(file);
}

DirectoryLock::~DirectoryLock() {
  // Not unlinked: a waiting process could hold the old file while a third one creates a new file.
  if (file_.is_open() && cut_file(file_.get(), 0) != 0) {
    // The content stays behind and is recognised as that of a dead process.
  }
}

std::string lock_holder(const std::filesystem::path& directory) {
  Holder holder;
  if (!read_holder(directory / "lock", holder)) return "";
  return liveness(holder.process) == Liveness::dead ? "" : holder.text();
}

}  // namespace chunkstate
