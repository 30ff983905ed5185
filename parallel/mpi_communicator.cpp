// SPDX-License-Identifier: Apache-2.0
#include <mpi.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <stdexcept>

#include "parallel/communicator.hpp"
#include "parallel/mpi_session.hpp"

namespace chunkstate {
namespace {

constexpr auto check = check_mpi;

class MpiCommunicator final : public Communicator {
 public:
  /// Over the ranks of `parent` with the same color.
  MpiCommunicator(std::shared_ptr<MpiSession> session, MPI_Comm parent, int color,
                  std::uint8_t level)
      : session_(std::move(session)), level_(level) {
    int key = 0;
    MPI_Comm_rank(parent, &key);
    check(MPI_Comm_split(parent, color, key, &world_), "MPI_Comm_split");
    MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(world_, &rank_);
    MPI_Comm_size(world_, &size_);
    check(MPI_Comm_split_type(world_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host_world_),
          "MPI_Comm_split_type");
    MPI_Comm_set_errhandler(host_world_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(host_world_, &local_rank_);
    MPI_Comm_size(host_world_, &local_size_);
    number_hosts();
    number_ranks();
  }

  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  ~MpiCommunicator() override {
    // MPI_Finalize would wait for ranks that know nothing of this one's exception.
    if (std::uncaught_exceptions() > session_->exceptions) {
      std::fflush(nullptr);
      MPI_Abort(world_, EXIT_FAILURE);
    }
    if (level_ == 0) session_->end_watch();
    for (MPI_Win& window : windows_) MPI_Win_free(&window);
    MPI_Comm_free(&host_world_);
    MPI_Comm_free(&world_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  int host() const override { return host_; }
  int hosts() const override { return hosts_; }

  void barrier() override {
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ibarrier(world_, &request), "MPI_Ibarrier");
    complete(request, Operation::barrier, ++collectives_);
  }

  void all_reduce_sum(std::span<float> values) override {
    if (size_ == 1) return;
    ++collectives_;
    // MPI_Allreduce may add in any order; here rank 0 adds, 0 + 1 + 2 + ...
    const std::size_t block = std::max<std::size_t>(
        1, session_->message_bytes / sizeof(float) / static_cast<std::size_t>(size_));
    std::vector<float> gathered;
    for (std::size_t begin = 0; begin < values.size(); begin += block) {
      const std::span<float> part = values.subspan(begin, std::min(block, values.size() - begin));
      const int count = static_cast<int>(part.size());
      if (rank_ == 0) gathered.resize(part.size() * static_cast<std::size_t>(size_));
      MPI_Request request = MPI_REQUEST_NULL;
      check(MPI_Igather(part.data(), count, MPI_FLOAT, gathered.data(), count, MPI_FLOAT, 0, world_,
                        &request),
            "MPI_Igather");
      complete(request, Operation::all_reduce_sum, collectives_);
      for (std::size_t i = 0; rank_ == 0 && i < part.size(); ++i) {
        double sum = 0;
        for (std::size_t from = i; from < gathered.size(); from += part.size()) {
          sum += static_cast<double>(gathered[from]);
        }
        part[i] = static_cast<float>(sum);
      }
      check(MPI_Ibcast(part.data(), count, MPI_FLOAT, 0, world_, &request), "MPI_Ibcast");
      complete(request, Operation::all_reduce_sum, collectives_);
    }
  }

  void broadcast(std::string& bytes, int root) override {
    ++collectives_;
    broadcast_as(Operation::broadcast, bytes, root);
  }

  std::vector<std::string> all_gather(const std::string& bytes) override {
    ++collectives_;
    const std::uint64_t length = bytes.size();
    std::vector<std::uint64_t> lengths(static_cast<std::size_t>(size_));
    MPI_Request request = MPI_REQUEST_NULL;
    check(
        MPI_Iallgather(&length, 1, MPI_UINT64_T, lengths.data(), 1, MPI_UINT64_T, world_, &request),
        "MPI_Iallgather");
    complete(request, Operation::all_gather, collectives_);
    std::vector<std::string> all(lengths.size());
    const std::uint64_t total = std::accumulate(lengths.begin(), lengths.end(), std::uint64_t{0});
    if (total > session_->message_bytes) {
      all[static_cast<std::size_t>(rank_)] = bytes;
      for (int from = 0; from < size_; ++from) {
        broadcast_as(Operation::all_gather, all[static_cast<std::size_t>(from)], from);
      }
      return all;
    }
    std::vector<int> counts(lengths.begin(), lengths.end());
    std::vector<int> offsets(lengths.size());
    std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
    std::string joined(total, '\0');
    check(MPI_Iallgatherv(bytes.data(), static_cast<int>(length), MPI_BYTE, joined.data(),
                          counts.data(), offsets.data(), MPI_BYTE, world_, &request),
          "MPI_Iallgatherv");
    complete(request, Operation::all_gather, collectives_);
    for (std::size_t from = 0; from < all.size(); ++from) {
      all[from] = joined.substr(static_cast<std::size_t>(offsets[from]), lengths[from]);
    }
    return all;
  }

  void post(std::span<const std::byte> bytes, int to) override {
    progress_sends();
    in_blocks(bytes.size(), [&](std::size_t begin, int count) {
      MPI_Request request = MPI_REQUEST_NULL;
      check(MPI_Isend(bytes.data() + begin, count, MPI_BYTE, to, 0, world_, &request), "MPI_Isend");
      sends_.push_back({request, to});
    });
    ++posted_;
    beat();
  }

  void receive(std::span<std::byte> bytes, int from) override {
    const std::int64_t sequence = ++received_.at(static_cast<std::size_t>(from));
    in_blocks(bytes.size(), [&](std::size_t begin, int count) {
      MPI_Request request = MPI_REQUEST_NULL;
      check(MPI_Irecv(bytes.data() + begin, count, MPI_BYTE, from, 0, world_, &request),
            "MPI_Irecv");
      MPI_Status status;
      complete(request, Operation::receive, sequence, from, &status);
      int received = 0;
      MPI_Get_count(&status, MPI_BYTE, &received);
      if (received != count) {
        throw std::runtime_error("receive from rank " + std::to_string(from) + ": " +
                                 std::to_string(received) + " bytes, expected " +
                                 std::to_string(count));
      }
    });
  }

  void flush() override {
    for (Send& send : sends_) complete(send.request, Operation::flush, posted_, send.to);
    sends_.clear();
  }

  void beat() override {
    if (session_->watch) session_->watch->mark();
  }

  void busy(bool is_busy) override {
    if (session_->watch) session_->watch->busy(is_busy);
  }

  void wait_for(Operation operation, std::int64_t sequence, int peer,
                const std::function<bool()>& done) override {
    if (!session_->watch) return RankGroup::wait(done);
    const int in_job = peer < 0 ? -1 : ranks_in_job_[static_cast<std::size_t>(peer)];
    session_->watch->wait({operation, level_, in_job, sequence, true}, done);
  }

  std::unique_ptr<Communicator> split(int color) override {
    session_->color = color;
    return std::make_unique<MpiCommunicator>(session_, world_, color,
                                             static_cast<std::uint8_t>(level_ + 1));
  }

  void watch(const Deadline& deadline) override {
    if (level_ != 0) throw std::logic_error("watch: only on all ranks of the job");
    session_->start_watch(*this, deadline);
  }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(world_, exit_code);
    std::_Exit(exit_code);
  }

  std::span<std::byte> host_memory(std::size_t bytes) override {
    if (session_->watch) barrier();  // MPI's own wait in what follows has no deadline
    void* own = nullptr;
    MPI_Win window = MPI_WIN_NULL;
    // Only the host's first rank gives memory, in whole cache lines, so that nothing else shares
    // one, and one more: MPI begins wherever its own bookkeeping ends.
    const auto lines = static_cast<MPI_Aint>((bytes + 63) / 64 * 64 + 64);
    check(MPI_Win_allocate_shared(local_rank_ == 0 ? lines : 0, 1, MPI_INFO_NULL, host_world_,
                                  static_cast<void*>(&own), &window),
          "MPI_Win_allocate_shared");
    windows_.push_back(window);
    MPI_Aint found_bytes = 0;
    int unit = 0;
    std::byte* shared = nullptr;
    check(MPI_Win_shared_query(window, 0, &found_bytes, &unit, static_cast<void*>(&shared)),
          "MPI_Win_shared_query");
    // Memory is mapped by pages, so the next cache line is as far away in every process.
    shared += (64 - reinterpret_cast<std::uintptr_t>(shared) % 64) % 64;
    return {shared, bytes};
  }

 private:
  struct Send {
    MPI_Request request;
    int to;
  };

  template <class Body>
  void in_blocks(std::size_t bytes, const Body& body) const {
    const std::size_t most = session_->message_bytes;
    for (std::size_t begin = 0; begin < bytes; begin += most) {
      body(begin, static_cast<int>(std::min(most, bytes - begin)));
    }
  }

  // Waits without using the CPU that slower ranks of the host may be computing on, and not for
  // ever if the job is watched.
  void complete(MPI_Request& request, Operation operation, std::int64_t sequence, int peer = -1,
                MPI_Status* status = MPI_STATUS_IGNORE) {
    int done = 0;
    const auto test = [&] {
      check(MPI_Test(&request, &done, status), "MPI_Test");
      if (done == 0 && operation == Operation::receive) progress_sends();
      return done != 0;
    };
    if (session_->watch) {
      const int in_job = peer < 0 ? -1 : ranks_in_job_[static_cast<std::size_t>(peer)];
      return session_->watch->wait({operation, level_, in_job, sequence}, test);
    }
    constexpr timespec pause{0, 200'000};
    for (int tries = 0; !test(); ++tries) {
      if (tries > 100) nanosleep(&pause, nullptr);
    }
  }

  // Transports without hardware of their own move long messages only while the sender is in MPI.
  void progress_sends() {
    std::erase_if(sends_, [](Send& send) {
      int done = 0;
      check(MPI_Test(&send.request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      return done != 0;
    });
  }

  void broadcast_as(Operation operation, std::string& bytes, int root) {
    std::uint64_t length = bytes.size();
    MPI_Request request = MPI_REQUEST_NULL;
    check(MPI_Ibcast(&length, 1, MPI_UINT64_T, root, world_, &request), "MPI_Ibcast");
    complete(request, operation, collectives_);
    bytes.resize(length);
    in_blocks(length, [&](std::size_t begin, int count) {
      check(MPI_Ibcast(bytes.data() + begin, count, MPI_BYTE, root, world_, &request),
            "MPI_Ibcast");
      complete(request, operation, collectives_);
    });
  }

  void number_ranks() {
    received_.resize(static_cast<std::size_t>(size_));
    ranks_in_job_.resize(received_.size());
    std::vector<int> own(received_.size());
    std::iota(own.begin(), own.end(), 0);
    MPI_Group group = MPI_GROUP_NULL;
    MPI_Group job = MPI_GROUP_NULL;
    check(MPI_Comm_group(world_, &group), "MPI_Comm_group");
    check(MPI_Comm_group(MPI_COMM_WORLD, &job), "MPI_Comm_group");
    check(MPI_Group_translate_ranks(group, size_, own.data(), job, ranks_in_job_.data()),
          "MPI_Group_translate_ranks");
    MPI_Group_free(&group);
    MPI_Group_free(&job);
  }

  void number_hosts() {
    int first = rank_;  // of this host's ranks: the lowest, because the split keeps their order
    check(MPI_Bcast(&first, 1, MPI_INT, 0, host_world_), "MPI_Bcast");
    std::vector<int> firsts(static_cast<std::size_t>(size_));
    check(MPI_Allgather(&first, 1, MPI_INT, firsts.data(), 1, MPI_INT, world_), "MPI_Allgather");
    std::sort(firsts.begin(), firsts.end());
    firsts.erase(std::unique(firsts.begin(), firsts.end()), firsts.end());
    hosts_ = static_cast<int>(firsts.size());
    host_ =
        static_cast<int>(std::lower_bound(firsts.begin(), firsts.end(), first) - firsts.begin());
  }

  std::shared_ptr<MpiSession> session_;
  const std::uint8_t level_;  // 0: all ranks of the job, 1: a part of it
  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Comm host_world_ = MPI_COMM_NULL;
  std::vector<MPI_Win> windows_;
  std::vector<Send> sends_;  // under way
  std::int64_t collectives_ = 0;
  std::int64_t posted_ = 0;
  std::vector<std::int64_t> received_;  // messages, per rank
  std::vector<int> ranks_in_job_;
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  int host_ = 0;
  int hosts_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(std::size_t message_bytes) {
  return std::make_unique<MpiCommunicator>(std::make_shared<MpiSession>(message_bytes),
                                           MPI_COMM_WORLD, 0, std::uint8_t{0});
}

std::string mpi_library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown";
  const std::string version(text, static_cast<std::size_t>(length));
  return version.substr(0, version.find('\n'));
}

}  // namespace chunkstate
