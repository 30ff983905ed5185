// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace chunkstate {

/// SIGTERM, SIGINT and SIGUSR1 (Slurm's warning before the time limit) ask a run to stop: no new
/// item is claimed, the running one is finished, everything is synced, exit code 75. A second
/// SIGINT kills as usual.
void install_stop_signals();

/// The signal that asked, or 0.
int stop_signal();

}  // namespace chunkstate
