// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/metrics.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <vector>

#include "core/errors.hpp"

namespace chunkstate {
namespace {

constexpr double missing = std::numeric_limits<double>::quiet_NaN();

double count_of(std::int64_t count) { return count < 0 ? missing : static_cast<double>(count); }

bool done(const RequestRecord& r) { return r.status == RequestStatus::done; }

constexpr Metric metrics[] = {
    {"ttft", "s", "time to first token: first token emitted - request start",
     [](const RequestRecord& r) { return r.ttft; }},
    {"tpot", "s", "time per output token: (e2e - ttft) / (tokens_out - 1)",
     [](const RequestRecord& r) { return r.tpot(); }},
    {"e2e", "s", "latency: last token emitted - request start",
     [](const RequestRecord& r) { return r.e2e; }},
    {"tokens_in", "1", "tokens of the prompt",
     [](const RequestRecord& r) { return count_of(r.tokens_in); }, true},
    {"tokens_out", "1", "tokens generated",
     [](const RequestRecord& r) { return done(r) ? count_of(r.tokens_out()) : missing; }, true},
    {"throughput", "1/s", "batch * tokens_out / e2e",
     [](const RequestRecord& r) { return done(r) ? r.throughput() : missing; }},
    {"peak_memory_bytes", "byte", "largest resident memory of the rank during the request",
     [](const RequestRecord& r) { return r.peak_memory_bytes; }},
    {"bytes_moved", "byte", "least bytes that the algorithm must move, from the shapes",
     [](const RequestRecord& r) { return r.bytes_moved; }},
    {"bandwidth", "byte/s", "bytes_moved / e2e",
     [](const RequestRecord& r) { return r.bandwidth(); }},
    {"peak_memory_per_second", "byte/s",
     "peak_memory_bytes / e2e: what the seed project plotted as bandwidth; not one",
     [](const RequestRecord& r) { return r.peak_memory_bytes / r.e2e; }},
    {"flops", "1", "floating-point operations of the algorithm, from the shapes",
     [](const RequestRecord& r) { return r.flops; }},
    {"cpu_percent", "percent", "processor time / e2e, of one core",
     [](const RequestRecord& r) { return r.cpu_percent; }},
    {"gpu_percent", "percent", "share of e2e in which the GPU was busy",
     [](const RequestRecord& r) { return r.gpu_percent; }},
    {"io_wait", "1", "share of the host's CPU time idle with block I/O outstanding",
     [](const RequestRecord& r) { return r.io_wait; }},
    {"energy", "J", "energy of the device over the request",
     [](const RequestRecord& r) { return r.energy; }},
    {"sm_clock", "Hz", "clock of the GPU's multiprocessors at the end of the request",
     [](const RequestRecord& r) { return r.sm_clock; }},
    {"launches", "1", "operators launched by the rank during the request",
     [](const RequestRecord& r) { return r.launches; }},
    {"batch_mean", "1", "sequences of a decode step, mean over the request's steps",
     [](const RequestRecord& r) { return r.batch_mean; }},
    {"warmup_seconds", "s", "the unrecorded requests just before, building the model included",
     [](const RequestRecord& r) { return r.warmup_seconds; }},
};

}  // namespace

std::span<const Metric> request_metrics() { return metrics; }

const Metric& metric_named(const std::string& name) {
  std::string names;
  for (const Metric& metric : metrics) {
    if (name == metric.name) return metric;
    names += std::string(names.empty() ? "" : ", ") + metric.name;
  }
  throw UsageError("unknown metric '" + name + "', expected one of " + names);
}

double tokens_per_rank_second(std::span<const RequestRecord* const> requests) {
  std::map<std::int64_t, std::vector<const RequestRecord*>> of_process;  // t_start is its own
  for (const RequestRecord* request : requests) {
    if (done(*request)) of_process[request->process].push_back(request);
  }
  double tokens = 0;
  double seconds = 0;
  for (auto& [process, own] : of_process) {
    std::ranges::sort(own, {}, &RequestRecord::t_start);
    CoveredTime covered;
    for (const RequestRecord* request : own) {
      covered.add(request->t_start, request->e2e);
      tokens += static_cast<double>(request->batch * request->tokens_out());
    }
    seconds += covered.seconds();
  }
  return seconds > 0 ? tokens / seconds : missing;
}

}  // namespace chunkstate
