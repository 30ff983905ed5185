// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/matmul_search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/workspace.cuh"

namespace chunkstate::cuda {
namespace {

constexpr int most_offered = 16;
// First every algorithm alone, then the best few in turn, in blocks long enough for the clocks to
// settle where the power limit leaves them: what draws less power runs at higher clocks.
constexpr int screening_rounds = 3;
constexpr double screening_margin = 1.08;
constexpr std::size_t finalists = 4;
constexpr int final_rounds = 5;
constexpr double final_block_us = 20'000;
constexpr int most_calls = 2000;
// A difference below the spread of the timings is not one: the library's own order decides. Between
// accumulating products it has to be larger: alone, they find y in the L2, in a model they do not.
constexpr double noise = 1.003;
constexpr double accumulating_noise = 1.03;

/// y of an accumulating product, kept on the host: a copy on the device would add to the peak.
class KeptOutput {
 public:
  KeptOutput(const AnyView<2>& y, CUstream_st* stream)
      : y_(y),
        stream_(stream),
        row_bytes_(static_cast<std::size_t>(y.extent[1]) * bytes_of(y.dtype)),
        rows_(static_cast<std::size_t>(y.extent[0])),
        pitch_(rows_ > 1 ? static_cast<std::size_t>(y.stride[0]) * bytes_of(y.dtype) : row_bytes_),
        values_(row_bytes_ * rows_) {
    copy(values_.data(), row_bytes_, y_.data, pitch_, cudaMemcpyDeviceToHost);
  }
  void restore() { copy(y_.data, pitch_, values_.data(), row_bytes_, cudaMemcpyHostToDevice); }

 private:
  void copy(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
            cudaMemcpyKind kind) {
    check_cuda(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, row_bytes_, rows_, kind, stream_),
               "linear search copy");
    check_cuda(cudaStreamSynchronize(stream_), "linear search copy");
  }

  AnyView<2> y_;
  CUstream_st* stream_;
  std::size_t row_bytes_, rows_, pitch_;
  std::vector<std::byte> values_;
};

class Stopwatch {
 public:
  explicit Stopwatch(CUstream_st* stream) : stream_(stream) {
    check_cuda(cudaEventCreate(&begin_), "linear search event");
    check_cuda(cudaEventCreate(&end_), "linear search event");
  }
  ~Stopwatch() {
    (void)cudaEventDestroy(begin_);
    (void)cudaEventDestroy(end_);
  }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

  /// Microseconds of one of `calls` calls; infinite if one fails.
  template <class Call>
  double time(int calls, const Call& call) {
    check_cuda(cudaEventRecord(begin_, stream_), "linear search");
    for (int i = 0; i < calls; ++i) {
      if (call() != CUBLAS_STATUS_SUCCESS) return std::numeric_limits<double>::infinity();
    }
    check_cuda(cudaEventRecord(end_, stream_), "linear search");
    check_cuda(cudaEventSynchronize(end_), "linear search");
    float milliseconds = 0.0F;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin_, end_), "linear search");
    return milliseconds * 1000.0 / calls;
  }

 private:
  CUstream_st* stream_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

struct Candidate {
  MatmulAlgorithm algorithm;
  std::size_t place = 0;  // in the library's order
  std::vector<double> times;
  double median = 0;

  void take_median() {
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    median = *middle;
    times.clear();
  }
};

// Weights beyond the L2 come from memory in every call; smaller products take little of a model's
// time, so buffers need not rotate.
Candidate fastest_of(std::vector<Candidate> candidates, const MatmulPlan& plan,
                     const LinearArgs& args, CUstream_st* stream) {
  std::size_t bytes = 0;
  for (const Candidate& c : candidates) bytes = std::max(bytes, c.algorithm.workspace);
  const Workspace workspace(static_cast<std::int64_t>(bytes), stream);
  Stopwatch stopwatch(stream);
  const auto time = [&](Candidate& c, int calls) {
    const double us = stopwatch.time(
        calls, [&] { return plan.run(args, c.algorithm, workspace.as<void>(), stream); });
    c.times.push_back(us);
    return us;
  };

  for (Candidate& c : candidates) {
    time(c, 1);  // the first call loads the kernel
    c.times.clear();
  }
  for (int round = 0; round < screening_rounds; ++round) {
    for (Candidate& c : candidates) time(c, 1);
  }
  for (Candidate& c : candidates) c.take_median();
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.median < b.median; });
  const double limit = screening_margin * candidates.front().median;
  std::vector<Candidate> last;  // the favourite among them in any case
  for (std::size_t rank = 0; rank < candidates.size(); ++rank) {
    const Candidate& c = candidates[rank];
    if (c.place == 0 || (rank < finalists && c.median <= limit)) last.push_back(c);
  }
  candidates = std::move(last);
  if (candidates.size() == 1) return candidates.front();

  const int calls =
      std::clamp(static_cast<int>(final_block_us / candidates.front().median), 1, most_calls);
  for (int round = 0; round < final_rounds; ++round) {
    for (Candidate& c : candidates) time(c, calls);
  }
  for (Candidate& c : candidates) c.take_median();
  const double best = std::min_element(candidates.begin(), candidates.end(), [](auto& a, auto& b) {
                        return a.median < b.median;
                      })->median;
  const double same = (args.accumulate ? accumulating_noise : noise) * best;
  std::erase_if(candidates, [&](const Candidate& c) { return c.median > same; });
  return *std::min_element(candidates.begin(), candidates.end(),
                           [](auto& a, auto& b) { return a.place < b.place; });
}

}  // namespace

std::optional<MatmulAlgorithm> found_algorithm(const MatmulPlan& plan, const AlgorithmCache& cache,
                                               const std::string& product) {
  const auto found = cache.find(product);
  if (!found) return std::nullopt;
  MatmulAlgorithm result;
  static_assert(sizeof(result.algorithm.data) == sizeof(found->words));
  std::copy(found->words.begin(), found->words.end(), result.algorithm.data);
  if (!plan.accepts(result)) return std::nullopt;
  return result;
}

std::optional<MatmulAlgorithm> search_algorithm(const MatmulPlan& plan, const LinearArgs& args,
                                                const AlgorithmCache& cache,
                                                const std::string& product, CUstream_st* stream) {
  const AlgorithmCache::Turn turn(cache);
  if (const auto found = found_algorithm(plan, cache, product)) return found;
  std::vector<Candidate> candidates;
  for (const MatmulAlgorithm& algorithm : plan.offered(most_offered)) {
    candidates.push_back({algorithm, candidates.size(), {}, 0});
  }
  if (candidates.empty()) return std::nullopt;

  std::optional<KeptOutput> kept;
  if (args.accumulate) kept.emplace(args.y, stream);
  const Candidate best = fastest_of(std::move(candidates), plan, args, stream);
  if (kept) kept->restore();
  if (!std::isfinite(best.median)) return std::nullopt;

  TunedAlgorithm tuned;
  std::copy(std::begin(best.algorithm.algorithm.data), std::end(best.algorithm.algorithm.data),
            tuned.words.begin());
  tuned.microseconds = best.median;
  cache.add(product, tuned);
  return best.algorithm;
}

}  // namespace chunkstate::cuda
