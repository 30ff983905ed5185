// SPDX-License-Identifier: Apache-2.0
#include "parallel/mpi_session.hpp"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>

#include "parallel/process_look.hpp"

namespace chunkstate {
namespace {

int alarm_exit_code = EXIT_FAILURE;

void on_alarm(int) {
  constexpr char text[] = "chunkstate: MPI_Finalize: not all ranks arrived within the deadline\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);
  std::_Exit(alarm_exit_code);
}

}  // namespace

void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(call) + ": " +
                           std::string(text, static_cast<std::size_t>(length)));
}

MpiSession::MpiSession(std::size_t message_bytes_)
    : message_bytes(std::clamp<std::size_t>(message_bytes_, sizeof(float), largest_mpi_message)),
      exceptions(std::uncaught_exceptions()) {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized != 0) throw std::runtime_error("make_mpi_communicator: MPI is in use already");
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

MpiSession::~MpiSession() {
  MPI_Finalize();
  alarm(0);
}

void MpiSession::start_watch(Communicator& world, const Deadline& deadline) {
  if (watch) throw std::logic_error("watch: only once");
  const auto ranks = static_cast<std::size_t>(world.size());
  const int rank = world.rank();
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  const std::string place =
      std::to_string(deadline.hosts_apart ? rank : world.host()) + " " + std::string(name);
  const std::vector<std::string> places = world.all_gather(place);
  const auto shared = world.host_memory(ranks * sizeof(WatchRow));
  far_rows = std::vector<WatchRow>(ranks);

  std::vector<Watch::Rank> all;
  std::vector<WatchRow*> far(ranks, nullptr);
  bool any_far = false;
  for (std::size_t r = 0; r < ranks; ++r) {
    const bool same_host = places[r] == place;
    if (!same_host) far[r] = &far_rows[r];
    any_far = any_far || !same_host;
    auto* const near_row = reinterpret_cast<WatchRow*>(shared.data()) + r;
    all.push_back(
        {same_host ? near_row : far[r], places[r].substr(places[r].find(' ') + 1), same_host});
  }
  WatchRow& mine = *new (all[static_cast<std::size_t>(rank)].row) WatchRow;
  mine.pid = getpid();
  mine.start = look_at_process(getpid()).start;
  mine.color = color;
  mine.mark = static_cast<std::int64_t>(1e9 * watch_seconds());
  world.barrier();  // all rows are filled in
  std::function<void()> exchange;
  if (any_far) {
    beats = std::make_unique<MpiBeats>(rank, far, deadline.seconds / 4);
    exchange = [this, &mine] { beats->exchange(mine); };
  }
  watch = std::make_unique<Watch>(deadline, rank, std::move(all), exchange);
  world.barrier();
}

void MpiSession::end_watch() {
  if (!watch) return;
  watch->leave();
  alarm_exit_code = watch->exit_code();
  signal(SIGALRM, on_alarm);
  alarm(static_cast<unsigned>(watch->deadline_seconds()) + 1);
  watch.reset();
  beats.reset();
}

MpiBeats::MpiBeats(int rank, std::vector<WatchRow*> far_rows, double seconds)
    : rank_(rank), far_rows_(std::move(far_rows)), seconds_(seconds) {
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
  outgoing_.reserve(far_rows_.size());
}

MpiBeats::~MpiBeats() {
  // Nobody may be there to take what is still under way.
  for (MPI_Request& request : sends_) {
    if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
  }
  if (receive_ != MPI_REQUEST_NULL) {
    MPI_Cancel(&receive_);
    MPI_Wait(&receive_, MPI_STATUS_IGNORE);
  }
}

void MpiBeats::exchange(const WatchRow& mine) {
  take();
  const double now = watch_seconds();
  if (now - last_sent_ < seconds_ && mine.blames < 0 && mine.busy == sent_busy_) return;
  last_sent_ = now;
  sent_busy_ = mine.busy;
  send(mine);
}

void MpiBeats::take() {
  for (;;) {
    if (receive_ == MPI_REQUEST_NULL) {
      check_mpi(
          MPI_Irecv(&incoming_, sizeof(Message), MPI_BYTE, MPI_ANY_SOURCE, 0, comm_, &receive_),
          "MPI_Irecv");
    }
    int done = 0;
    check_mpi(MPI_Test(&receive_, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done == 0) return;
    WatchRow* const row = far_rows_.at(static_cast<std::size_t>(incoming_.rank));
    if (row == nullptr) continue;
    row->mark = static_cast<std::int64_t>(1e9 * watch_seconds());
    row->sequence = incoming_.sequence;
    row->pid = incoming_.pid;
    row->color = incoming_.color;
    row->blames = incoming_.blames;
    row->peer = incoming_.peer;
    row->operation = static_cast<Operation>(incoming_.operation);
    row->level = incoming_.level;
    row->waiting = incoming_.waiting != 0;
    row->busy = incoming_.busy != 0;
    row->left = incoming_.left != 0;
  }
}

void MpiBeats::send(const WatchRow& mine) {
  int done = 1;
  if (!sends_.empty()) {
    check_mpi(
        MPI_Testall(static_cast<int>(sends_.size()), sends_.data(), &done, MPI_STATUSES_IGNORE),
        "MPI_Testall");
  }
  if (done == 0) return;  // a stopped rank takes none: the living get the next one
  sends_.clear();
  outgoing_.assign(1, {mine.sequence, rank_, mine.pid, mine.color, mine.blames, mine.peer,
                       static_cast<std::uint8_t>(mine.operation.load()), mine.level,
                       mine.waiting ? std::uint8_t{1} : std::uint8_t{0},
                       mine.busy ? std::uint8_t{1} : std::uint8_t{0},
                       mine.left ? std::uint8_t{1} : std::uint8_t{0}});
  for (std::size_t to = 0; to < far_rows_.size(); ++to) {
    if (far_rows_[to] == nullptr) continue;
    sends_.push_back(MPI_REQUEST_NULL);
    check_mpi(MPI_Isend(outgoing_.data(), sizeof(Message), MPI_BYTE, static_cast<int>(to), 0, comm_,
                        &sends_.back()),
              "MPI_Isend");
  }
}

}  // namespace chunkstate
