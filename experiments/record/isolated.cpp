// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/isolated.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <system_error>

#include "experiments/record/file_io.hpp"

namespace chunkstate {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool limit_memory = false;  // its shadow alone reserves terabytes of addresses
#else
constexpr bool limit_memory = true;
#endif

std::int64_t address_space_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t pages = 0;
  file >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}

void limit(int resource, std::int64_t value) {
  rlimit limits{};
  getrlimit(static_cast<__rlimit_resource>(resource), &limits);
  limits.rlim_cur = std::min<rlim_t>(static_cast<rlim_t>(value), limits.rlim_max);
  setrlimit(static_cast<__rlimit_resource>(resource), &limits);
}

[[noreturn]] void run_child(const std::function<std::string()>& body, int channel,
                            const IsolatedLimits& limits) {
  for (const int handled : {SIGALRM, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGTERM, SIGUSR1}) {
    std::signal(handled, SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  limit(RLIMIT_CORE, 0);
  if (limit_memory) limit(RLIMIT_AS, address_space_bytes() + limits.more_memory_bytes);
  // The C library reports heap corruption in words of its own; ours follow from the signal.
  if (const int nowhere = ::open("/dev/null", O_WRONLY); limit_memory && nowhere >= 0) {
    ::dup2(nowhere, STDERR_FILENO);
  }
  limit(RLIMIT_CPU, limits.processor_seconds);
  alarm(limits.seconds);
  const std::string text = body();
  _exit(write_all(channel, text) == 0 ? 0 : 1);
}

}  // namespace

IsolatedResult run_isolated(const std::function<std::string()>& body,
                            const IsolatedLimits& limits) {
  int channel[2];
  if (::pipe2(channel, O_CLOEXEC) != 0) {
    throw std::system_error(errno, std::generic_category(), "pipe");
  }
  std::fflush(nullptr);  // else the child's copy of a buffer could be written twice
  const pid_t child = ::fork();
  if (child == 0) run_child(body, channel[1], limits);
  const int fork_error = errno;
  ::close(channel[1]);
  IsolatedResult result;
  char block[65536];
  ssize_t got = 0;
  while (child > 0 &&
         ((got = ::read(channel[0], block, sizeof(block))) > 0 || (got < 0 && errno == EINTR))) {
    if (got > 0) result.text.append(block, static_cast<std::size_t>(got));
  }
  ::close(channel[0]);
  if (child < 0) throw std::system_error(fork_error, std::generic_category(), "fork");
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    result.failure =
        signal == SIGALRM ? "time limit of " + std::to_string(limits.seconds) + " s"
        : signal == SIGXCPU
            ? "processor time limit of " + std::to_string(limits.processor_seconds) + " s"
            : "signal " + std::to_string(signal) + " (" + strsignal(signal) + ")";
  } else if (WEXITSTATUS(status) != 0) {
    result.failure = "exit code " + std::to_string(WEXITSTATUS(status));
  }
  return result;
}

}  // namespace chunkstate
