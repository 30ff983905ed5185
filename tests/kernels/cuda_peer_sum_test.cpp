// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <functional>
#include <thread>

#include "kernels/base/check.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/peer_calls.hpp"

// Peers on streams of one device, each with a block of its own: all of the protocol but the way
// from device to device, which tests/multi_gpu.sh takes.
namespace chunkstate::test {
namespace {

using Clock = std::chrono::steady_clock;

class Peers {
 public:
  explicit Peers(int count) : ended_(shared_with_device(sizeof(std::uint32_t))) {
    PeerBlocks all;
    all.peers = count;
    all.bytes = std::int64_t{8} << 20;
    all.ended = reinterpret_cast<const std::uint32_t*>(ended_.get());
    for (int p = 0; p < count; ++p) {
      void* address = nullptr;
      require_cuda(cudaMalloc(&address, static_cast<std::size_t>(all.bytes)));
      require_cuda(cudaMemset(address, 0, static_cast<std::size_t>(all.bytes)));
      all.block[static_cast<std::size_t>(p)] = static_cast<std::byte*>(address);
    }
    require_cuda(cudaDeviceSynchronize());
    for (int p = 0; p < count; ++p) {
      streams.push_back(std::make_unique<LaunchStream>(Backend::cuda));
      blocks.push_back(all);
      blocks.back().own = p;
    }
  }
  ~Peers() {
    end(1);
    cudaDeviceSynchronize();
    for (std::byte* block : blocks[0].block) cudaFree(block);
  }

  Executor exec(int p) const {
    return {Backend::cuda, 1, streams[static_cast<std::size_t>(p)]->get()};
  }
  void end(std::uint32_t value) {
    *reinterpret_cast<volatile std::uint32_t*>(ended_.get()) = value;
  }
  /// Kernels are loaded at their first launch, perhaps not while another one spins.
  void load(const std::function<void(int)>& launch) {
    end(1);
    for (std::size_t p = 0; p < blocks.size(); ++p) {
      launch(static_cast<int>(p));
      require_cuda(cudaDeviceSynchronize());
    }
    end(0);
  }
  bool done_in(std::chrono::seconds limit) const {
    const auto last = Clock::now() + limit;
    for (const auto& stream : streams) {
      while (cudaStreamQuery(stream->get()) == cudaErrorNotReady) {
        if (Clock::now() > last) return false;
        std::this_thread::yield();
      }
    }
    static_cast<void>(cudaGetLastError());
    return true;
  }

  std::vector<PeerBlocks> blocks;
  std::vector<std::unique_ptr<LaunchStream>> streams;

 private:
  std::shared_ptr<std::byte> ended_;
};

}  // namespace

TEST_CASE("Peers that call again and again from recorded graphs always get their sums") {
  // Four peers' kernels, and those that start early behind them, would not fit one device together.
  for (const int count : {1, 2, 3}) {
    const unsigned seed = 11U + static_cast<unsigned>(count);
    CAPTURE(count, seed);
    Peers peers(count);
    std::vector<std::unique_ptr<PeerCalls>> calls;
    for (int p = 0; p < count; ++p) {
      calls.push_back(std::make_unique<PeerCalls>(seed, 24, count, p));
    }
    const PeerCalls none(seed, 24, count, 0);  // whose results are void
    peers.load(
        [&](int p) { none.launch(peers.exec(p), peers.blocks[static_cast<std::size_t>(p)]); });

    std::vector<std::unique_ptr<Recording>> recordings;
    for (int p = 0; p < count; ++p) {
      const auto i = static_cast<std::size_t>(p);
      recordings.push_back(std::make_unique<Recording>(
          peers.exec(p), [&] { calls[i]->launch(peers.exec(p), peers.blocks[i]); }));
    }
    constexpr int times = 150;  // 3,600 calls
    for (int t = 0; t < times; ++t) {
      for (int p = 0; p < count; ++p)
        recordings[static_cast<std::size_t>(p)]->replay(peers.exec(p));
    }
    REQUIRE(peers.done_in(std::chrono::seconds(30)));
    for (const auto& one : calls) CHECK(one->wrong(times) == "");
  }
}

TEST_CASE("Parts normed by their own means add up to what the mean over all channels makes") {
  constexpr int count = 3;
  Peers peers(count);
  std::vector<std::unique_ptr<PeerNormCall>> calls;
  for (int p = 0; p < count; ++p) calls.push_back(std::make_unique<PeerNormCall>(5, count, p));
  const PeerNormCall none(5, count, 0);
  peers.load([&](int p) { none.launch(peers.exec(p), peers.blocks[static_cast<std::size_t>(p)]); });
  for (int p = 0; p < count; ++p) {
    calls[static_cast<std::size_t>(p)]->launch(peers.exec(p),
                                               peers.blocks[static_cast<std::size_t>(p)]);
  }
  REQUIRE(peers.done_in(std::chrono::seconds(30)));
  for (const auto& call : calls) {
    CHECK(call->error() < 1e-6);
    CHECK(call->result() == calls[0]->result());
  }
}

TEST_CASE("A peer that does not come is not waited for once the end is set") {
  Peers peers(2);
  const PeerNormCall call(6, 2, 0);
  peers.load([&](int p) {  // both in step
    call.launch(peers.exec(p), peers.blocks[static_cast<std::size_t>(p)]);
  });
  call.launch(peers.exec(0), peers.blocks[0]);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  CHECK(cudaStreamQuery(peers.streams[0]->get()) == cudaErrorNotReady);
  static_cast<void>(cudaGetLastError());
  peers.end(1);
  CHECK(peers.done_in(std::chrono::seconds(5)));
}

TEST_CASE("Peer sums refuse shapes and blocks that do not fit") {
  PeerBlocks blocks;
  std::array<float, 4> values{};
  const View<float, 2> part(values.data(), {2, 2});
  PeerSumArgs args;
  args.part = part;
  args.y = part;
  CHECK_THROWS_AS(peer_sum({Backend::cuda}, args), ShapeError);
  CHECK_FALSE(peer_sum_fits(blocks, 1, 1));
  CHECK_FALSE(peer_gather_fits({}));
  alignas(16) std::array<std::byte, 4096> memory{};
  args.peers.block[0] = args.peers.block[1] = memory.data();
  args.peers.peers = 2;
  args.peers.bytes = 4096;
  CHECK(peer_sum_fits(args.peers, 1, 64));
  CHECK_FALSE(peer_sum_fits(args.peers, 2, 64));
  CHECK_THROWS_AS(peer_sum({Backend::cpu}, {args.peers, View<float, 2>(values.data(), {1, 4}),
                                            View<float, 2>(values.data(), {1, 4})}),
                  BackendError);
  CHECK_THROWS_AS(peer_sum({Backend::cuda}, args), ShapeError);
}

}  // namespace chunkstate::test
