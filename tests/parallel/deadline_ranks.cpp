// SPDX-License-Identifier: Apache-2.0
// `deadline_ranks FILE MODE [apart]`: three ranks, of which one does not come. deadline_test.sh
// says what must follow. FILE, 4 bytes, is the word that a GPU would look at (set_when_ended).
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <thread>

#include "parallel/communicator.hpp"

using namespace chunkstate;

namespace {

void compute(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void pass_byte(Communicator& world, int from, int to) {
  std::byte byte{7};
  if (world.rank() == from) world.post({&byte, 1}, to);
  if (world.rank() == to) world.receive({&byte, 1}, from);
  world.flush();
}

int run(Communicator& world, const std::string& mode) {
  const bool second = world.rank() == 1;
  if (mode == "killed" && second) std::raise(SIGKILL);
  if (mode == "frozen" && second) std::raise(SIGSTOP);
  if (mode == "silent" && second) compute(30);
  if (mode == "slow" && second) {
    for (int i = 0; i < 30; ++i) {
      compute(0.1);
      world.beat();
    }
  }
  if (mode == "busy" && second) {
    world.busy(true);
    compute(3);
    world.busy(false);
  }
  if (mode == "usual") {  // waits of 0.3 s are usual, so one of 3 s is not too long
    for (int i = 0; i < 5; ++i) {
      if (second) compute(0.3);
      world.barrier();
    }
    if (second) compute(3);
  }
  if (mode == "chain") {  // rank 2 waits for rank 1, which waits for rank 0
    if (world.rank() == 0) std::raise(SIGSTOP);
    pass_byte(world, 0, 1);
    pass_byte(world, 1, 2);
  }
  if (mode == "wrong") {  // everybody waits for somebody
    std::byte byte{};
    world.receive({&byte, 1}, (world.rank() + 1) % 3);
  }
  world.barrier();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 64;
  const std::string mode = argv[2];
  const int file = ::open(argv[1], O_RDWR);
  void* const word =
      ::mmap(nullptr, sizeof(std::uint32_t), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (word == MAP_FAILED) return 66;
  set_when_ended(static_cast<std::atomic<std::uint32_t>*>(word));
  const auto world = make_world();
  std::signal(SIGTERM, [](int signal) { end_if_a_rank_is_gone(signal); });
  Deadline deadline;
  deadline.seconds = 1;
  deadline.adaptive = mode == "usual";
  deadline.hosts_apart = argc > 3;
  world->watch(deadline);
  return run(*world, mode);
}
