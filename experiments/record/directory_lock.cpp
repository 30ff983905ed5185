// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/directory_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

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

std::filesystem::path lock_path(const std::filesystem::path& directory, Shard shard = {}) {
  if (shard.whole()) return directory / "lock";
  return directory /
         ("lock.shard-" + std::to_string(shard.index) + "-of-" + std::to_string(shard.count));
}

/// Lock files of shards, of any count.
std::vector<std::filesystem::path> shard_lock_paths(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> paths;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(directory, failed)) {
    if (entry.path().filename().string().starts_with("lock.shard-")) paths.push_back(entry.path());
  }
  return paths;
}

/// The earliest holder among these files that is not known to be dead, or with `alive`, that is
/// known to live.
std::optional<Holder> first_holder(const std::vector<std::filesystem::path>& paths, bool alive) {
  std::optional<Holder> first;
  for (const auto& path : paths) {
    Holder holder;
    if (!read_holder(path, holder)) continue;
    const Liveness state = liveness(holder.process);
    if (alive ? state != Liveness::alive : state == Liveness::dead) continue;
    if (!first || holder.since < first->since) first = holder;
  }
  return first;
}

[[noreturn]] void throw_locked(const std::filesystem::path& directory,
                               const std::optional<Holder>& holder) {
  throw LockedError(directory.string() + " is in use by " +
                    (holder ? holder->text() : "a process that started a moment ago") +
                    "; wait for it or stop it, then run again");
}

/// 0 or the errno of flock(2), not waiting.
int lock_file(const FileDescriptor& file, int kind) {
  while (::flock(file.get(), kind | LOCK_NB) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

}  // namespace

DirectoryLock::DirectoryLock(const std::filesystem::path& directory, Shard shard) {
  make_directories(directory);
  const std::filesystem::path whole = lock_path(directory);
  const std::filesystem::path path = lock_path(directory, shard);
  // Refuses because of the first holder of `rivals`. Without kernel locks (ENOLCK, ENOSYS,
  // EOPNOTSUPP: Lustre without -o flock, some NFS) only one that is known to live is in the way.
  const auto acquire = [&](const FileDescriptor& file, int kind,
                           std::vector<std::filesystem::path> rivals) {
    const int error = lock_file(file, kind);
    if (error == EWOULDBLOCK) {
      // If it can be shared, shards have it, whatever a killed run left in the file.
      if (shard.whole() && lock_file(file, LOCK_SH) == 0) rivals.pop_back();
      throw_locked(directory, first_holder(rivals, false));
    }
    if (error == 0) return;
    if (const auto holder = first_holder(rivals, true)) throw_locked(directory, holder);
  };
  if (shard.whole()) {
    file_ = FileDescriptor(whole, O_RDWR | O_CREAT);
    std::vector<std::filesystem::path> rivals = shard_lock_paths(directory);
    rivals.push_back(whole);
    acquire(file_, LOCK_EX, rivals);
  } else {
    shared_ = FileDescriptor(whole, O_RDWR | O_CREAT);  // not written to
    acquire(shared_, LOCK_SH, {whole});
    file_ = FileDescriptor(path, O_RDWR | O_CREAT);
    acquire(file_, LOCK_EX, {path});
  }
  Holder before;
  if (read_holder(path, before)) taken_over_from_ = before.text();

  const ProcessIdentity self = this_process();
  const nlohmann::json json = {{"host", self.host},
                               {"pid", self.pid},
                               {"boot_id", self.boot_id},
                               {"start_ticks", self.start_ticks},
                               {"since", utc_now()}};
  if (const int failed = cut_file(file_.get(), 0); failed != 0) {
    throw FileError(failed, path, "ftruncate");
  }
  if (const int failed = write_all(file_.get(), json.dump() + '\n'); failed != 0) {
    throw FileError(failed, path, "write");
  }
  if (const int failed = sync_data(file_.get()); failed != 0) {
    throw FileError(failed, path, "fdatasync");
  }
}

DirectoryLock::~DirectoryLock() {
  // Not unlinked: a waiting process could hold the old file while a third one creates a new file.
  if (file_.is_open() && cut_file(file_.get(), 0) != 0) {
    // The content stays behind and is recognised as that of a dead process.
  }
}

}  // namespace chunkstate
