// SPDX-License-Identifier: Apache-2.0
#include "parallel/watch.hpp"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "parallel/process_look.hpp"

namespace chunkstate {
namespace {

constexpr double check_seconds = 0.05;  // between two looks at the others
constexpr int quick_tries = 100;
constexpr std::int64_t pause_ns = 200'000;

std::atomic<Watch*> active{nullptr};
std::array<std::atomic<std::atomic<std::uint32_t>*>, 16> words_at_end{};

// Signal handlers end here too.
[[noreturn]] void end_process(int exit_code) {
  for (const auto& word : words_at_end) {
    if (auto* const set = word.load()) set->store(1);
  }
  std::_Exit(exit_code);
}

std::int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return std::int64_t{1'000'000'000} * now.tv_sec + now.tv_nsec;
}

double seconds_of(std::int64_t ns) { return 1e-9 * static_cast<double>(ns); }

// A line built without the heap: signal handlers write it.
class Line {
 public:
  Line& text(const char* words) {
    for (; *words != '\0' && length_ < sizeof(buffer_) - 1; ++words) buffer_[length_++] = *words;
    return *this;
  }
  Line& number(std::int64_t value) {
    char digits[24];
    int count = 0;
    do {
      digits[count++] = static_cast<char>('0' + value % 10);
      value /= 10;
    } while (value > 0);
    while (count > 0 && length_ < sizeof(buffer_) - 1) buffer_[length_++] = digits[--count];
    return *this;
  }
  void write_to_stderr() {
    buffer_[length_++] = '\n';
    for (std::size_t done = 0; done < length_;) {
      const ssize_t written = ::write(STDERR_FILENO, buffer_ + done, length_ - done);
      if (written <= 0) return;
      done += static_cast<std::size_t>(written);
    }
  }

 private:
  char buffer_[1024];
  std::size_t length_ = 0;
};

// "chunkstate: rank 0: receive 12 from rank 1": what the rank waits in, or did last.
void begin_line(Line& line, int rank, const WatchRow& row) {
  line.text("chunkstate: rank ").number(rank).text(row.waiting ? ": " : ": after ");
  line.text(name_of(row.operation)).text(" ").number(row.sequence);
  if (row.peer >= 0) {
    const bool sends = row.operation == Operation::flush || row.operation == Operation::send ||
                       row.operation == Operation::connect;
    line.text(sends ? " to rank " : " from rank ").number(row.peer);
  } else {
    line.text(row.level == 0 ? " of all ranks" : " of its group");
  }
}

void name_rank(Line& line, int rank, const WatchRow& row, const std::string& host) {
  line.text(": rank ").number(rank).text(" (pid ").number(row.pid).text(" on ");
  line.text(host.c_str()).text(") ");
}

}  // namespace

const char* name_of(Operation operation) {
  constexpr const char* names[] = {"start",     "barrier",    "all_reduce_sum",
                                   "broadcast", "all_gather", "receive",
                                   "flush",     "send",       "connect"};
  return names[static_cast<std::size_t>(operation)];
}

void set_when_ended(std::atomic<std::uint32_t>* word) {
  for (auto& place : words_at_end) {
    std::atomic<std::uint32_t>* free = nullptr;
    if (place.compare_exchange_strong(free, word)) return;
  }
}

void forget_when_ended(std::atomic<std::uint32_t>* word) {
  for (auto& place : words_at_end) {
    std::atomic<std::uint32_t>* found = word;
    if (place.compare_exchange_strong(found, nullptr)) return;
  }
}

double watch_seconds() { return seconds_of(monotonic_ns()); }

void end_if_a_rank_is_gone(int signal) {
  if (Watch* const watch = active.load()) watch->end_if_gone(signal);
}

// What a search for the missing has seen.
struct Watch::Search {
  double now;
  double begin;
  double limit;
  std::vector<bool> seen;
  std::vector<Culprit> culprits;
  bool somebody_computes = false;
};

Watch::Watch(const Deadline& deadline, int rank, std::vector<Rank> ranks,
             std::function<void()> exchange)
    : deadline_(deadline), rank_(rank), ranks_(std::move(ranks)), exchange_(std::move(exchange)) {
  for (const Rank& other : ranks_) {
    pid_visible_.push_back(other.same_host &&
                           look_at_process(other.row->pid).start == other.row->start.load());
  }
  active = this;
}

Watch::~Watch() { active = nullptr; }

void Watch::mark() {
  mine().mark = monotonic_ns();
  if (exchange_) exchange_();
}

void Watch::busy(bool is_busy) {
  mine().busy = is_busy;
  mark();
}

void Watch::wait(const Wait& what, const std::function<bool()>& done) {
  WatchRow& row = mine();
  row.operation = what.operation;
  row.level = what.level;
  row.peer = what.peer;
  row.sequence = what.sequence;
  mark();
  row.waiting = true;
  const double begin = watch_seconds();
  last_computing_ = begin;
  double next_check = begin + check_seconds;
  constexpr timespec pause{0, pause_ns};
  for (int tries = 0; !done(); ++tries) {
    // MPI's own waits spin. Ranks that wait for the last one would take its memory bandwidth, and
    // its core where there are more ranks than cores.
    if (tries > quick_tries && !what.spins) nanosleep(&pause, nullptr);
    if (tries % 8 != 0 || watch_seconds() < next_check) continue;
    mark();
    check(begin);
    next_check = watch_seconds() + check_seconds;
  }
  row.waiting = false;
  mark();
  Past& past = past_[static_cast<std::size_t>(what.operation)];
  past.seconds[past.count++ % remembered] = watch_seconds() - begin;
}

double Watch::limit() const {
  const Past& past = past_[static_cast<std::size_t>(ranks_[rank_].row->operation.load())];
  const std::size_t count = std::min(past.count, remembered);
  if (!deadline_.adaptive || count == 0) return deadline_.seconds;
  std::array<double, remembered> sorted = past.seconds;
  std::nth_element(sorted.begin(), sorted.begin() + count / 2, sorted.begin() + count);
  return std::max(deadline_.seconds, 20 * sorted[count / 2]);
}

bool Watch::gone(int rank) const {
  const auto r = static_cast<std::size_t>(rank);
  const WatchRow& row = *ranks_[r].row;
  if (!pid_visible_[r] || row.left) return false;
  const ProcessLook look = look_at_process(row.pid);
  return look.ended() || look.start != row.start;
}

void Watch::search_peers(int waiter, Search& found) const {
  const WatchRow& row = *ranks_[waiter].row;
  if (row.peer >= 0) return search(row.peer, found);
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    const bool same_part = ranks_[r].row->color == row.color;
    if (row.level == 0 || same_part) search(static_cast<int>(r), found);
  }
}

void Watch::search(int rank, Search& found) const {
  if (rank == rank_ || found.seen[rank]) return;
  found.seen[rank] = true;
  const WatchRow& row = *ranks_[rank].row;
  if (gone(rank)) {
    found.culprits.push_back({rank, "is gone", 0});
    return;
  }
  const double silence = found.now - std::max(found.begin, seconds_of(row.mark));
  if (silence > found.limit && !row.left) {
    const char state = pid_visible_[rank] ? look_at_process(row.pid).state : '?';
    const bool stopped = state == 'T' || state == 't';
    if (stopped || !row.busy) {
      found.culprits.push_back(
          {rank, stopped ? "is stopped, no sign of life" : "gives no sign of life", silence});
      return;
    }
  }
  if (row.busy || !row.waiting) {
    found.somebody_computes = true;
  } else {
    search_peers(rank, found);
  }
}

void Watch::leave() {
  check_blames();  // a stopped rank that goes on, or one that did not wait for it
  mine().left = true;
}

void Watch::check_blames() {
  for (std::size_t r = 0; r < ranks_.size(); ++r) {
    const int blamed = ranks_[r].row->blames;
    if (blamed < 0 || static_cast<int>(r) == rank_) continue;
    const Culprit culprit{blamed, "is missing", 0};
    expire({&culprit, 1}, static_cast<int>(r));
  }
}

void Watch::check(double begin) {
  check_blames();
  Search found{watch_seconds(), begin, limit(), std::vector<bool>(ranks_.size()), {}};
  search_peers(rank_, found);
  if (found.somebody_computes) last_computing_ = found.now;
  if (found.culprits.empty() && found.now - last_computing_ > 2 * found.limit) {
    // Everybody waits: a mistake of ours, or of the network.
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      if (!found.seen[r]) continue;
      found.culprits.push_back({static_cast<int>(r), "waits too", found.now - last_computing_});
    }
  }
  if (!found.culprits.empty()) expire(found.culprits, -1);
}

void Watch::expire(std::span<const Culprit> culprits, int found_by) {
  mine().blames = culprits[0].rank;
  if (exchange_) exchange_();
  Line line;
  begin_line(line, rank_, mine());
  for (const Culprit& culprit : culprits) {
    const Rank& missing = ranks_[static_cast<std::size_t>(culprit.rank)];
    name_rank(line, culprit.rank, *missing.row, missing.host);
    line.text(culprit.why);
    if (culprit.silence > 0) {
      const auto tenths = static_cast<std::int64_t>(culprit.silence * 10);
      line.text(" for ").number(tenths / 10).text(".").number(tenths % 10).text(" s");
    }
  }
  if (found_by >= 0) line.text(" (found by rank ").number(found_by).text(")");
  line.text("; exit code ").number(deadline_.exit_code).write_to_stderr();
  end_process(deadline_.exit_code);
}

void Watch::end_if_gone(int signal) {
  int missing = -1;
  int found_by = -1;
  for (std::size_t r = 0; r < ranks_.size() && missing < 0; ++r) {
    if (static_cast<int>(r) == rank_ || !ranks_[r].same_host) continue;
    if (ranks_[r].row->blames >= 0) {
      missing = ranks_[r].row->blames;
      found_by = static_cast<int>(r);
    } else if (gone(static_cast<int>(r))) {
      missing = static_cast<int>(r);
    }
  }
  const bool far =
      !std::all_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.same_host; });
  if (missing < 0 && !(far && mine().waiting)) return;
  Line line;
  begin_line(line, rank_, mine());
  if (missing >= 0) {
    const Rank& rank = ranks_[static_cast<std::size_t>(missing)];
    name_rank(line, missing, *rank.row, rank.host);
    line.text("is missing");
    if (found_by >= 0) line.text(" (found by rank ").number(found_by).text(")");
  }
  line.text("; signal ").number(signal);
  if (missing >= 0) line.text("; exit code ").number(deadline_.exit_code);
  line.write_to_stderr();
  if (missing < 0) return;  // another host's rank may be gone, or the job is asked to stop
  mine().blames = missing;
  end_process(deadline_.exit_code);
}

}  // namespace chunkstate
