// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/stop_signal.hpp"

#include "parallel/deadline.hpp"

namespace chunkstate {
namespace {

volatile std::sig_atomic_t received = 0;

void on_signal(int signal) {
  if (signal == SIGINT && received == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    std::raise(SIGINT);
    return;
  }
  if (signal == SIGTERM) end_if_a_rank_is_gone(signal);
  received = signal;
}

}  // namespace

void install_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // a write to the journal must not fail because of it
  for (const int signal : stop_signals) sigaction(signal, &action, nullptr);
}

int stop_signal() { return received; }

}  // namespace chunkstate
