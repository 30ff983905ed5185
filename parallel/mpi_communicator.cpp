// SPDX-License-Identifier: Apache-2.0
#include <mpi.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <numeric>
#include <stdexcept>

#include "parallel/communicator.hpp"

namespace chunkstate {
namespace {

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(call) + ": " +
                           std::string(text, static_cast<std::size_t>(length)));
}

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(std::size_t message_bytes)
      : message_bytes_(std::clamp<std::size_t>(message_bytes, sizeof(float), largest_mpi_message)),
        exceptions_(std::uncaught_exceptions()) {
    int initialized = 0;
    MPI_Initialized(&initialized);
    if (initialized != 0) throw std::runtime_error("make_mpi_communicator: MPI is in use already");
    int provided = 0;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    check(MPI_Comm_dup(MPI_COMM_WORLD, &world_), "MPI_Comm_dup");
    MPI_Comm_set_errhandler(world_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(world_, &rank_);
    MPI_Comm_size(world_, &size_);
    check(MPI_Comm_split_type(world_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &host_world_),
          "MPI_Comm_split_type");
    MPI_Comm_set_errhandler(host_world_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(host_world_, &local_rank_);
    MPI_Comm_size(host_world_, &local_size_);
    number_hosts();
  }

  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  ~MpiCommunicator() override {
    // MPI_Finalize would wait for ranks that know nothing of this one's exception.
    if (std::uncaught_exceptions() > exceptions_) {
      std::fflush(nullptr);
      MPI_Abort(world_, EXIT_FAILURE);
    }
    for (MPI_Win& window : windows_) MPI_Win_free(&window);
    MPI_Comm_free(&host_world_);
    MPI_Comm_free(&world_);
    MPI_Finalize();
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
    // MPI's own waits spin. Ranks that wait for the last one would take its memory bandwidth, and
    // its core where there are more ranks than cores.
    constexpr timespec pause{0, 200'000};
    int done = 0;
    for (int tries = 0; done == 0; ++tries) {
      check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done == 0 && tries > 100) nanosleep(&pause, nullptr);
    }
  }

  void all_reduce_sum(std::span<float> values) override {
    if (size_ == 1) return;
    // MPI_Allreduce may add in any order; here rank 0 adds, 0 + 1 + 2 + ...
    const std::size_t block =
        std::max<std::size_t>(1, message_bytes_ / sizeof(float) / static_cast<std::size_t>(size_));
    std::vector<float> gathered;
    for (std::size_t begin = 0; begin < values.size(); begin += block) {
      const std::span<float> part = values.subspan(begin, std::min(block, values.size() - begin));
      const int count = static_cast<int>(part.size());
      if (rank_ == 0) gathered.resize(part.size() * static_cast<std::size_t>(size_));
      check(MPI_Gather(part.data(), count, MPI_FLOAT, gathered.data(), count, MPI_FLOAT, 0, world_),
            "MPI_Gather");
      for (std::size_t i = 0; rank_ == 0 && i < part.size(); ++i) {
        double sum = 0;
        for (std::size_t from = i; from < gathered.size(); from += part.size()) {
          sum += static_cast<double>(gathered[from]);
        }
        part[i] = static_cast<float>(sum);
      }
      check(MPI_Bcast(part.data(), count, MPI_FLOAT, 0, world_), "MPI_Bcast");
    }
  }

  void broadcast(std::string& bytes, int root) override {
    std::uint64_t length = bytes.size();
    check(MPI_Bcast(&length, 1, MPI_UINT64_T, root, world_), "MPI_Bcast");
    bytes.resize(length);
    in_blocks(length, [&](std::size_t begin, int count) {
      check(MPI_Bcast(bytes.data() + begin, count, MPI_BYTE, root, world_), "MPI_Bcast");
    });
  }

  std::vector<std::string> all_gather(const std::string& bytes) override {
    const std::uint64_t length = bytes.size();
    std::vector<std::uint64_t> lengths(static_cast<std::size_t>(size_));
    check(MPI_Allgather(&length, 1, MPI_UINT64_T, lengths.data(), 1, MPI_UINT64_T, world_),
          "MPI_Allgather");
    std::vector<std::string> all(lengths.size());
    const std::uint64_t total = std::accumulate(lengths.begin(), lengths.end(), std::uint64_t{0});
    if (total > message_bytes_) {
      all[static_cast<std::size_t>(rank_)] = bytes;
      for (int from = 0; from < size_; ++from) broadcast(all[static_cast<std::size_t>(from)], from);
      return all;
    }
    std::vector<int> counts(lengths.begin(), lengths.end());
    std::vector<int> offsets(lengths.size());
    std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
    std::string joined(total, '\0');
    check(MPI_Allgatherv(bytes.data(), static_cast<int>(length), MPI_BYTE, joined.data(),
                         counts.data(), offsets.data(), MPI_BYTE, world_),
          "MPI_Allgatherv");
    for (std::size_t from = 0; from < all.size(); ++from) {
      all[from] = joined.substr(static_cast<std::size_t>(offsets[from]), lengths[from]);
    }
    return all;
  }

  void send(std::span<const std::byte> bytes, int to) override {
    in_blocks(bytes.size(), [&](std::size_t begin, int count) {
      check(MPI_Send(bytes.data() + begin, count, MPI_BYTE, to, 0, world_), "MPI_Send");
    });
  }

  void receive(std::span<std::byte> bytes, int from) override {
    in_blocks(bytes.size(), [&](std::size_t begin, int count) {
      MPI_Status status;
      check(MPI_Recv(bytes.data() + begin, count, MPI_BYTE, from, 0, world_, &status), "MPI_Recv");
      int received = 0;
      MPI_Get_count(&status, MPI_BYTE, &received);
      if (received != count) {
        throw std::runtime_error("receive from rank " + std::to_string(from) + ": " +
                                 std::to_string(received) + " bytes, expected " +
                                 std::to_string(count));
      }
    });
  }

  void abort(int exit_code) override {
    std::fflush(nullptr);
    MPI_Abort(world_, exit_code);
    std::_Exit(exit_code);
  }

  std::span<std::byte> host_memory(std::size_t bytes) override {
    void* own = nullptr;
    MPI_Win window = MPI_WIN_NULL;
    // Only the host's first rank gives memory, in whole cache lines, so that nothing else shares
    // one.
    const auto lines = static_cast<MPI_Aint>((bytes + 63) / 64 * 64);
    check(MPI_Win_allocate_shared(local_rank_ == 0 ? lines : 0, 1, MPI_INFO_NULL, host_world_,
                                  static_cast<void*>(&own), &window),
          "MPI_Win_allocate_shared");
    windows_.push_back(window);
    MPI_Aint found_bytes = 0;
    int unit = 0;
    std::byte* shared = nullptr;
    check(MPI_Win_shared_query(window, 0, &found_bytes, &unit, static_cast<void*>(&shared)),
          "MPI_Win_shared_query");
    return {shared, bytes};
  }

 private:
  template <class Body>
  void in_blocks(std::size_t bytes, const Body& body) const {
    for (std::size_t begin = 0; begin < bytes; begin += message_bytes_) {
      body(begin, static_cast<int>(std::min(message_bytes_, bytes - begin)));
    }
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

  const std::size_t message_bytes_;
  const int exceptions_;
  MPI_Comm world_ = MPI_COMM_NULL;
  MPI_Comm host_world_ = MPI_COMM_NULL;
  std::vector<MPI_Win> windows_;
  int rank_ = 0;
  int size_ = 1;
  int local_rank_ = 0;
  int local_size_ = 1;
  int host_ = 0;
  int hosts_ = 1;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(std::size_t message_bytes) {
  return std::make_unique<MpiCommunicator>(message_bytes);
}

std::string mpi_library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown";
  const std::string version(text, static_cast<std::size_t>(length));
  return version.substr(0, version.find('\n'));
}

}  // namespace chunkstate
