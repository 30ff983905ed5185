// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cctype>
#include <utility>

#include "experiments/record/journal.hpp"
#include "experiments/record/journal_line.hpp"

namespace chunkstate {
namespace {

constexpr std::int64_t results_per_sync = 16;
constexpr std::chrono::seconds longest_unsynced{1};

std::string file_name(const RunStart& start) {
  std::string name = start.process.host + '-' + std::to_string(start.process.pid) + '-';
  for (const char c : start.start_utc) {
    if (c != ':' && c != '-') name += c;
  }
  for (char& c : name) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '.' && c != '-') c = '_';
  }
  return name + ".jsonl";
}

}  // namespace

Durability durability_named(const std::string& name) {
  if (name == "item") return Durability::item;
  if (name == "group") return Durability::group;
  if (name == "none") return Durability::none;
  throw std::invalid_argument("durability '" + name + "'; known: item, group, none");
}

JournalWriter::JournalWriter(const std::filesystem::path& directory, RunStart start,
                             Durability durability)
    : durability_(durability), begin_(std::chrono::steady_clock::now()) {
  start.process = this_process();
  start.start_utc = utc_now();
  make_directories(directory / "journal");
  path_ = directory / "journal" / file_name(start);
  file_ = FileDescriptor(path_, O_WRONLY | O_CREAT | O_EXCL | O_APPEND);
  write_line(json_of(start), false);
  flush();
  sync_directory(directory / "journal");
  if (durability_ == Durability::group) {
    // Signals are for the main thread: it looks at their flags, this one would swallow an EINTR.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    syncer_ = std::thread([this] { sync_when_due(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
}

JournalWriter::~JournalWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (syncer_.joinable()) syncer_.join();
  if (file_.is_open() && durability_ != Durability::none && error_ == 0) sync();
}

void JournalWriter::claim(const std::string& item_id) {
  write_line({{"kind", "claim"}, {"item", item_id}}, false);
}

void JournalWriter::append(const RequestRecord& record) { write_line(json_of(record), true); }

void JournalWriter::append(const std::string& item_id, const Evaluation& evaluation) {
  write_line(json_of(item_id, evaluation), true);
}

void JournalWriter::cancel(const std::string& item_id, const std::string& reason) {
  write_line({{"kind", "cancelled"}, {"item", item_id}, {"reason", reason}}, false);
}

void JournalWriter::flush() {
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  sync();
  throw_if_failed();
}

void JournalWriter::end(const std::string& reason) {
  write_line({{"kind", "run_end"}, {"reason", reason}}, false);
  const std::lock_guard lock(mutex_);
  if (durability_ != Durability::none) sync();
  throw_if_failed();
  if (const int error = file_.close(); error != 0) throw FileError(error, path_, "close");
}

std::int64_t JournalWriter::acknowledged() const {
  const std::lock_guard lock(mutex_);
  return acknowledged_results_;
}

void JournalWriter::write_line(nlohmann::json object, bool is_result) {
  object["t"] = seconds();
  const std::string line = encode_line(object);
  const std::lock_guard lock(mutex_);
  throw_if_failed();
  if (const int error = write_all(file_.get(), line); error != 0) {
    cut_back(error, "write");
    throw_if_failed();
  }
  written_bytes_ += static_cast<std::int64_t>(line.size());
  if (durability_ == Durability::none) acknowledged_bytes_ = written_bytes_;
  if (!is_result) return;

  const auto now = std::chrono::steady_clock::now();
  if (written_results_++ == acknowledged_results_) oldest_unsynced_ = now;
  const bool due = durability_ == Durability::item ||
                   (durability_ == Durability::group &&
                    (written_results_ - acknowledged_results_ >= results_per_sync ||
                     now - oldest_unsynced_ >= longest_unsynced));
  if (durability_ == Durability::none) acknowledged_results_ = written_results_;
  if (due) sync();
  throw_if_failed();
  if (!due) wake_.notify_one();
}

/// With the mutex held. Notes a failure instead of throwing, because the syncer thread calls it
/// too.
void JournalWriter::sync() {
  if (const int error = sync_data(file_.get()); error != 0) {
    cut_back(error, "fdatasync");
    return;
  }
  acknowledged_bytes_ = written_bytes_;
  acknowledged_results_ = written_results_;
}

void JournalWriter::cut_back(int error, const char* operation) {
  error_ = error;
  failed_operation_ = operation;
  // If this fails too, the reader drops the torn line; complete lines behind the cut are merely not
  // promised.
  if (cut_file(file_.get(), acknowledged_bytes_) != 0) return;
  written_bytes_ = acknowledged_bytes_;
  written_results_ = acknowledged_results_;
}

void JournalWriter::throw_if_failed() const {
  if (error_ != 0) throw FileError(error_, path_, failed_operation_);
}

void JournalWriter::sync_when_due() {
  std::unique_lock lock(mutex_);
  while (!stopping_ && error_ == 0) {
    if (written_results_ == acknowledged_results_) {
      wake_.wait(lock);
    } else if (const auto due = oldest_unsynced_ + longest_unsynced;
               std::chrono::steady_clock::now() < due) {
      wake_.wait_until(lock, due);
    } else {
      sync();
    }
  }
}

double JournalWriter::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

}  // namespace chunkstate
