// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

#include <memory>
#include <vector>

#include "parallel/communicator.hpp"
#include "parallel/watch.hpp"

namespace chunkstate {

/// Throws std::runtime_error with MPI's own words.
void check_mpi(int code, const char* call);

/// Rows of the watch sent between ranks of different hosts, which share no memory. A rank that
/// lives sends its row to every rank of another host when the last one is `seconds` old; it does so
/// when it marks a sign of life, so a stopped rank sends none.
class MpiBeats {
 public:
  MpiBeats(int rank, std::vector<WatchRow*> far_rows, double seconds);
  ~MpiBeats();
  MpiBeats(const MpiBeats&) = delete;
  MpiBeats& operator=(const MpiBeats&) = delete;

  /// Takes what has come; sends if it is time, or if the row says something new of note.
  void exchange(const WatchRow& mine);

 private:
  struct Message {
    std::int64_t sequence;
    std::int32_t rank, pid, color, blames, peer;
    std::uint8_t operation, level, waiting, busy, left;
  };
  void take();
  void send(const WatchRow& mine);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_;
  std::vector<WatchRow*> far_rows_;  // nullptr for ranks of this host
  double seconds_;
  double last_sent_ = 0;
  bool sent_busy_ = false;
  Message incoming_{};
  MPI_Request receive_ = MPI_REQUEST_NULL;
  std::vector<Message> outgoing_;
  std::vector<MPI_Request> sends_;
};

/// From MPI_Init_thread to MPI_Finalize: what all communicators of a job share.
struct MpiSession {
  explicit MpiSession(std::size_t message_bytes_);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  /// Collective over `world`, all ranks of the job. Throws std::logic_error the second time.
  void start_watch(Communicator& world, const Deadline& deadline);
  /// Before the memory of the rows is freed. What follows, up to MPI_Finalize, has a deadline as a
  /// whole.
  void end_watch();

  const std::size_t message_bytes;
  const int exceptions;  // in flight when it began
  int color = -1;        // of this rank's part of the job
  std::vector<WatchRow> far_rows;
  std::unique_ptr<MpiBeats> beats;  // if there are other hosts
  std::unique_ptr<Watch> watch;     // after start_watch()
};

}  // namespace chunkstate
