// SPDX-License-Identifier: Apache-2.0
#include "tests/core/multi_gpu_sums.hpp"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/tensor_share.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"
#include "tests/kernels/peer_calls.hpp"

namespace chunkstate {
namespace {

constexpr int call_count = 48;
constexpr int replays = 120;

void wait_for(RankGroup& sums, const Executor& exec) {
  sums.launched_sum();
  sums.flush();  // with the deadline
  synchronize(exec);
}

}  // namespace

bool check_peer_sums(Communicator& world, RankGroup& sums) {
  const PeerBlocks blocks = peer_blocks(sums);
  if (!blocks) {
    const char* const off = std::getenv("NCCL_P2P_DISABLE");
    if (world.rank() == 0) std::printf("peer sums: no peer memory, NCCL serves\n");
    return off != nullptr && std::strcmp(off, "1") == 0;
  }
  const LaunchStream stream(Backend::cuda);
  const Executor exec{Backend::cuda, 1, stream.get()};
  sums.use_stream(exec.stream);
  constexpr unsigned seed = 17;
  const test::PeerCalls calls(seed, call_count, world.size(), world.rank());
  const test::PeerNormCall normed(seed, world.size(), world.rank());
  calls.launch(exec, blocks);  // what accumulates counts it
  const Recording recording(exec, [&] { calls.launch(exec, blocks); });
  std::mt19937 random(static_cast<unsigned>(world.rank()));
  for (int t = 0; t < replays; ++t) {
    recording.replay(exec);
    if (random() % 8 == 0) ::usleep(static_cast<unsigned>(random() % 20'000));
  }
  normed.launch(exec, blocks);
  wait_for(sums, exec);

  std::string wrong = calls.wrong(replays + 1);
  const double error = normed.error();
  if (wrong.empty() && !(error < 1e-6)) wrong = "norms: error " + std::to_string(error);
  const auto bytes = normed.result();
  const std::vector<std::string> results =
      world.all_gather({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (wrong.empty() && results[0] != results[static_cast<std::size_t>(world.rank())]) {
    wrong = "ranks have different bits";
  }
  bool all_right = true;
  for (const std::string& what : world.all_gather(wrong)) {
    all_right = all_right && what.empty();
    if (world.rank() == 0 && !what.empty()) std::printf("peer sums: FAILED: %s\n", what.c_str());
  }
  if (world.rank() == 0 && all_right) {
    std::printf("peer sums: %d calls of %d random shapes exact; norms within %.1e\n",
                call_count * (replays + 1), call_count, error);
  }
  std::fflush(stdout);
  return all_right;
}

}  // namespace chunkstate
