// SPDX-License-Identifier: Apache-2.0
#include "parallel/device_group.hpp"

#include <stdexcept>

#if CHUNKSTATE_HAS_NCCL
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <deque>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

#include "parallel/peer_memory.hpp"
#endif

namespace chunkstate {

#if CHUNKSTATE_HAS_NCCL

namespace {

// A message of 4 MB takes 25 us through so many of NCCL's blocks; more would wait for their peers
// on multiprocessors that a rank's own scan and products could use.
constexpr int message_blocks = 8;
// Calls alternate between two halves, in which eight tokens' logits of Bamba-9B take 8 MB.
constexpr std::size_t peer_bytes = std::size_t{32} << 20;

void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(error) + ": " +
                           cudaGetErrorString(error));
}

class NcclGroup final : public RankGroup {
 public:
  NcclGroup(Communicator& hosts, DeviceTraffic traffic)
      : hosts_(hosts), exceptions_(std::uncaught_exceptions()) {
    try {
      if (traffic == DeviceTraffic::messages) {
        connect_pairs();
      } else {
        connect_all();
        peers_.emplace(hosts_, peer_bytes);
      }
    } catch (...) {
      release();
      throw;
    }
  }

  ~NcclGroup() override {
    if (std::uncaught_exceptions() <= exceptions_) {
      try {
        flush();
        hosts_.barrier();  // a peer may still read what it receives from here
        if (peers_) peers_->close(true);
      } catch (const std::exception&) {  // the next call that matters says it again
      }
    }
    release();
  }
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  int rank() const override { return hosts_.rank(); }
  int size() const override { return hosts_.size(); }
  RankGroup& host_group() override { return hosts_; }
  void beat() override { hosts_.beat(); }

  void use_stream(CUstream_st* stream) override {
    if (stream == stream_) return;
    flush();
    stream_ = stream;
  }

  void post(std::span<const std::byte> bytes, int to) override {
    Link& link = link_to(to);
    // The message must see the launches before it, which do not wait for the receiver.
    order(stream_, link.stream);
    start({Operation::send, ++link.sent, to, link.comm},
          ncclSend(bytes.data(), bytes.size(), ncclUint8, peer_index(to), link.comm, link.stream),
          link.stream);
    link.joined = false;
  }

  void receive(std::span<std::byte> bytes, int from) override {
    Link& link = link_to(from);
    start({Operation::receive, ++link.received, from, link.comm},
          ncclRecv(bytes.data(), bytes.size(), ncclUint8, peer_index(from), link.comm, stream_),
          stream_);
  }

  void receive_beside(std::span<std::byte> bytes, int from) override {
    Link& link = link_to(from);
    order(stream_, link.stream);  // what is there may still be read
    start({Operation::receive, ++link.received, from, link.comm},
          ncclRecv(bytes.data(), bytes.size(), ncclUint8, peer_index(from), link.comm, link.stream),
          link.stream);
    link.joined = false;
  }

  void join() override {
    for (Link& link : links_) {
      if (!std::exchange(link.joined, true)) order(link.stream, stream_);
    }
  }

  const PeerMemory* peer_memory() const override { return peers_ ? peers_->memory() : nullptr; }
  void launched_sum() override {
    start({Operation::all_reduce_sum, ++sums_, -1, nullptr}, ncclSuccess, stream_);
  }

  void all_reduce_sum(std::span<float> values) override {
    if (size() == 1 || values.empty()) return;
    if (all_ == nullptr) throw std::logic_error("device group: made without sums");
    start({Operation::all_reduce_sum, ++sums_, -1, all_},
          ncclAllReduce(values.data(), values.data(), values.size(), ncclFloat, ncclSum, all_,
                        stream_),
          stream_);
  }

  void flush() override {
    // What this rank waits for says more than who waits for this rank.
    for (const bool receives : {true, false}) {
      for (const Open& open : open_) {
        if ((open.operation != Operation::send) == receives) {
          wait_for(open, [] { return false; });
        }
      }
    }
    for (const Open& open : open_) free_events_.push_back(open.done);
    open_.clear();
  }

  void wait(const std::function<bool()>& done) override {
    while (!open_.empty() && !done()) {
      wait_for(open_.front(), done);
      free_events_.push_back(open_.front().done);
      open_.pop_front();
    }
    // A replayed graph has no events of its own.
    hosts_.wait_for(Operation::all_reduce_sum, sums_, -1, [&] {
      if (all_ != nullptr) check_async(all_);
      return done();
    });
  }

 private:
  struct Link {
    ncclComm_t comm = nullptr;  // of two ranks, so that no message waits for one of another pair
    cudaStream_t stream = nullptr;
    std::int64_t sent = 0;
    std::int64_t received = 0;
    bool joined = true;  // whether the launches wait for what is on `stream`
  };
  struct Open {
    Operation operation;
    std::int64_t sequence;
    int peer;
    ncclComm_t comm;  // nullptr: not NCCL's
    cudaEvent_t done = nullptr;
  };

  Link& link_to(int peer) {
    Link& link = links_.at(static_cast<std::size_t>(peer));
    if (link.comm == nullptr) throw std::logic_error("device group: made without messages");
    return link;
  }
  int peer_index(int peer) const { return peer > rank() ? 1 : 0; }

  void check(ncclResult_t result, ncclComm_t comm, const char* what) const {
    if (result == ncclSuccess || result == ncclInProgress) return;
    throw std::runtime_error(std::string("NCCL: ") + what + ": " + ncclGetErrorString(result) +
                             ": " + ncclGetLastError(comm));
  }

  ncclResult_t check_async(ncclComm_t comm) const {
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm, &state), comm, "ncclCommGetAsyncError");
    check(state, comm, "a rank of the group");
    return state;
  }

  // Calls of a communicator that does not block return before they have launched anything.
  void settle(ncclComm_t comm, Operation operation, std::int64_t sequence, int peer) {
    hosts_.wait_for(operation, sequence, peer, [&] { return check_async(comm) != ncclInProgress; });
  }

  void start(Open open, ncclResult_t result, cudaStream_t stream) {
    check(result, open.comm, name_of(open.operation));
    if (result == ncclInProgress) settle(open.comm, open.operation, open.sequence, open.peer);
    hosts_.beat();
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    check_cuda(cudaStreamIsCapturing(stream, &capture), "device group");
    if (capture != cudaStreamCaptureStatusNone) return;
    while (open_.size() > 1024 && reached(open_.front())) {
      free_events_.push_back(open_.front().done);
      open_.pop_front();
    }
    open.done = take_event();
    check_cuda(cudaEventRecord(open.done, stream), "device group");
    open_.push_back(open);
  }

  bool reached(const Open& open) const {
    const cudaError_t state = cudaEventQuery(open.done);
    if (state == cudaErrorNotReady) {
      static_cast<void>(cudaGetLastError());  // launches after this one ask for the last error
      if (open.comm != nullptr) check_async(open.comm);
      return false;
    }
    check_cuda(state, name_of(open.operation));
    return true;
  }

  template <class Done>
  void wait_for(const Open& open, const Done& done) {
    if (reached(open)) return;
    hosts_.wait_for(open.operation, open.sequence, open.peer,
                    [&] { return done() || reached(open); });
  }

  // What `later` is given from now on begins when `earlier` has ended what it has.
  void order(cudaStream_t earlier, cudaStream_t later) {
    const cudaEvent_t reached_here = take_event();
    check_cuda(cudaEventRecord(reached_here, earlier), "device group");
    check_cuda(cudaStreamWaitEvent(later, reached_here, 0), "device group");
    free_events_.push_back(reached_here);
  }

  cudaEvent_t take_event() {
    cudaEvent_t event = nullptr;
    if (free_events_.empty()) {
      check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
    } else {
      event = free_events_.front();  // the one that has been free longest
      free_events_.pop_front();
    }
    return event;
  }

  ncclComm_t connect(int ranks, int rank, const ncclUniqueId& id, int peer, int blocks) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    if (blocks > 0) config.maxCTAs = blocks;
    comms_.push_back(nullptr);
    ncclComm_t& comm = comms_.back();
    check(ncclCommInitRankConfig(&comm, ranks, id, rank, &config), nullptr, "connect");
    settle(comm, Operation::connect, ++connections_, peer);
    return comm;
  }

  ncclUniqueId new_id() const {
    ncclUniqueId id{};
    check(ncclGetUniqueId(&id), nullptr, "ncclGetUniqueId");
    return id;
  }

  void connect_all() {
    std::string bytes;
    if (rank() == 0) {
      const ncclUniqueId made = new_id();
      bytes.assign(made.internal, sizeof(made.internal));
    }
    hosts_.broadcast(bytes, 0);
    ncclUniqueId id{};
    bytes.copy(id.internal, sizeof(id.internal));
    all_ = connect(size(), rank(), id, -1, 0);
  }

  // In one order of the pairs for all ranks, so that nobody waits in a circle.
  void connect_pairs() {
    links_.resize(static_cast<std::size_t>(size()));
    int least = 0, most = 0;
    check_cuda(cudaDeviceGetStreamPriorityRange(&least, &most), "stream");
    for (int low = 0; low < size(); ++low) {
      for (int high = low + 1; high < size(); ++high) {
        if (rank() != low && rank() != high) continue;
        const int peer = rank() == low ? high : low;
        Link& link = links_[static_cast<std::size_t>(peer)];
        check_cuda(cudaStreamCreateWithPriority(&link.stream, cudaStreamNonBlocking, most),
                   "stream");
        ncclUniqueId id{};
        if (rank() == low) {
          id = new_id();
          hosts_.post(std::as_bytes(std::span(id.internal)), peer);
          hosts_.flush();
        } else {
          hosts_.receive(std::as_writable_bytes(std::span(id.internal)), peer);
        }
        link.comm = connect(2, rank() == low ? 0 : 1, id, peer, message_blocks);
        first_message(link, rank() == low);
      }
    }
  }

  // NCCL connects two ranks in their first message, and the sender waits for the receiver there:
  // later, in another order of pairs, that could be in a circle.
  void first_message(const Link& link, bool sends) {
    void* word = nullptr;
    check_cuda(cudaMalloc(&word, sizeof(std::int64_t)), "connect");
    const ncclResult_t result =
        sends ? ncclSend(word, sizeof(std::int64_t), ncclUint8, 1, link.comm, link.stream)
              : ncclRecv(word, sizeof(std::int64_t), ncclUint8, 0, link.comm, link.stream);
    const int peer = static_cast<int>(&link - links_.data());
    start({Operation::connect, connections_, peer, link.comm}, result, link.stream);
    flush();
    check_cuda(cudaFree(word), "connect");
  }

  void release() {
    for (ncclComm_t comm : comms_) {
      if (comm != nullptr) static_cast<void>(ncclCommAbort(comm));
    }
    peers_.reset();
    for (const Link& link : links_) {
      if (link.stream != nullptr) static_cast<void>(cudaStreamDestroy(link.stream));
    }
    for (const Open& open : open_) static_cast<void>(cudaEventDestroy(open.done));
    for (cudaEvent_t event : free_events_) static_cast<void>(cudaEventDestroy(event));
  }

  Communicator& hosts_;
  const int exceptions_;  // in flight when it began
  cudaStream_t stream_ = nullptr;
  std::deque<ncclComm_t> comms_;
  ncclComm_t all_ = nullptr;
  std::optional<PeerMapping> peers_;  // for sums
  std::vector<Link> links_;           // by rank
  std::int64_t connections_ = 0;
  std::int64_t sums_ = 0;
  std::deque<Open> open_;  // launched, perhaps not done
  std::deque<cudaEvent_t> free_events_;
};

}  // namespace

std::unique_ptr<RankGroup> make_device_group(Communicator& hosts, DeviceTraffic traffic) {
  return std::make_unique<NcclGroup>(hosts, traffic);
}

std::string nccl_version() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "NCCL";
  return "NCCL " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) +
         "." + std::to_string(version % 100);
}

#else

std::unique_ptr<RankGroup> make_device_group(Communicator&, DeviceTraffic) {
  throw std::runtime_error(
      "groups of GPUs need NCCL, which was not found when this program was built "
      "(-DCHUNKSTATE_NCCL=ON says where it was looked for)");
}

std::string nccl_version() { return {}; }

#endif

}  // namespace chunkstate
