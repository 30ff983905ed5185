// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>

namespace chunkstate {

/// What asks a run to stop. SIGUSR1 is Slurm's warning before the time limit.
inline constexpr int stop_signals[] = {SIGTERM, SIGINT, SIGUSR1};

/// At a stop signal no new item is claimed, the running one is finished, everything is synced, exit
/// code 75. A second SIGINT kills as usual.
void install_stop_signals();

/// The signal that asked, or 0.
int stop_signal();

}  // namespace chunkstate
