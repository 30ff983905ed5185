// SPDX-License-Identifier: Apache-2.0
#include "kernels/base/memory_probe.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/base/check.hpp"
#include "kernels/base/memory.hpp"

namespace chunkstate {
namespace {

// Large enough for the hardware prefetchers, small enough to share evenly among threads.
constexpr std::size_t block_bytes = std::size_t{1} << 20;

// Eight streams side by side, each asked for in time by the loop before: one stream alone waits for
// the hardware's prefetcher at every page (18 against 27 GB/s on one core of a Zen 4).
constexpr std::size_t stream_words = 1024;
constexpr std::size_t streams = 8;

__attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"))) std::uint64_t
sum_words(const std::uint64_t* words, std::size_t count) {
  std::uint64_t sums[streams][8] = {};
  std::size_t i = 0;
  for (; i + streams * stream_words <= count; i += streams * stream_words) {
    for (std::size_t line = i; line < i + stream_words; line += 8) {
      for (std::size_t s = 0; s < streams; ++s) {
        const std::uint64_t* const from = words + line + s * stream_words;
        __builtin_prefetch(from + streams * stream_words, 0, 2);
        for (std::size_t j = 0; j < 8; ++j) sums[s][j] += from[j];
      }
    }
  }
  std::uint64_t total = 0;
  for (; i < count; ++i) total += words[i];
  for (const auto& stream : sums) {
    for (const std::uint64_t sum : stream) total += sum;
  }
  return total;
}

}  // namespace

void probe_copy(const Executor& exec, std::byte* target, const std::byte* source,
                std::size_t bytes) {
  if (exec.backend == Backend::cuda) {
    copy_rows(exec, target, bytes, source, bytes, bytes, 1);
    return;
  }
  const auto blocks = static_cast<std::int64_t>((bytes + block_bytes - 1) / block_bytes);
#pragma omp parallel for schedule(static) num_threads(exec.threads)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::size_t begin = static_cast<std::size_t>(block) * block_bytes;
    std::memcpy(target + begin, source + begin, std::min(block_bytes, bytes - begin));
  }
}

std::uint64_t probe_read(const Executor& exec, const std::byte* source, std::size_t bytes) {
  if (exec.backend == Backend::cuda) throw BackendError("probe_read", exec.backend);
  const auto blocks = static_cast<std::int64_t>(bytes / block_bytes);
  std::uint64_t total = 0;
#pragma omp parallel for schedule(static) num_threads(exec.threads) reduction(+ : total)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(
        source + static_cast<std::size_t>(block) * block_bytes);
    total += sum_words(words, block_bytes / sizeof(std::uint64_t));
  }
  return total;
}

std::vector<MemoryLevel> memory_levels(const Executor& exec) {
  if (exec.backend == Backend::cuda) {
    if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::memory_levels();
    throw BackendError("memory_levels", exec.backend);
  }
  // Sizes that fit a first, a second and a last cache of a thread's own share, and no cache.
  std::vector<MemoryLevel> levels;
  for (const std::int64_t kibibytes : {16, 512, 4096, 262144}) {
    levels.push_back({std::to_string(kibibytes) + " KiB per thread",
                      kibibytes * 1024 * std::int64_t{exec.threads}});
  }
  return levels;
}

double probe_level(const Executor& exec, const MemoryLevel& level, const std::byte* data) {
  if (exec.backend == Backend::cuda) {
    if constexpr (CHUNKSTATE_HAS_CUDA) return cuda::probe_level(level, data, exec.stream);
    throw BackendError("probe_level", exec.backend);
  }
  constexpr std::int64_t wanted = std::int64_t{256}
                                  << 20;  // bytes per thread: tens of milliseconds
  const std::int64_t share = level.footprint / exec.threads;
  const std::int64_t passes = std::max<std::int64_t>(1, wanted / share);
  std::uint64_t total = 0;
#pragma omp parallel for schedule(static) num_threads(exec.threads) reduction(+ : total)
  for (int thread = 0; thread < exec.threads; ++thread) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(data + thread * share);
    for (std::int64_t pass = 0; pass < passes; ++pass) {
      total += sum_words(words, static_cast<std::size_t>(share) / sizeof(std::uint64_t));
    }
  }
  volatile std::uint64_t keep = total;  // no read may be skipped
  (void)keep;
  return static_cast<double>(passes * share) * exec.threads;
}

}  // namespace chunkstate
