// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/record/evaluation.hpp"

namespace chunkstate {

/// What slowed a GPU during a request; its number in RequestRecord::throttled is 1 << its place.
/// `disturbs`: other than the power limit, which is the usual state of long matrix products.
struct ThrottleReason {
  const char* name;
  bool disturbs;
};
inline constexpr std::array<ThrottleReason, 5> throttle_reasons = {{{"power cap", false},
                                                                    {"hardware slowdown", true},
                                                                    {"software thermal", true},
                                                                    {"hardware thermal", true},
                                                                    {"power brake", true}}};

/// Whether `throttled`, a sum of them or -1, has reason `i`.
constexpr bool is_throttled_by(std::int64_t throttled, std::size_t i) {
  return throttled > 0 && (throttled >> i & 1) != 0;
}

/// `skipped`: needs more memory than there is, which was known before; `error` says how much.
enum class RequestStatus : std::uint8_t { done, failed, skipped };

constexpr std::string_view name_of(RequestStatus status) {
  return status == RequestStatus::done     ? "done"
         : status == RequestStatus::failed ? "failed"
                                           : "skipped";
}

/// Everything recorded of one request: a `result`, `failed` or `skipped` line of the journal, a row
/// of /requests. Times are seconds on CLOCK_MONOTONIC. NaN and -1 mean missing. Formulas:
/// experiments/README.md.
struct RequestRecord {
  std::string item_id;
  std::int64_t point = 0;
  std::int64_t prompt = 0;
  std::int64_t repeat = 0;
  std::int64_t batch = 1;  // equal sequences that were generated together
  RequestStatus status = RequestStatus::done;
  std::string error;  // not done: "class: message"

  // what came out: part of the content digest
  std::int64_t tokens_in = -1;
  std::string stop_reason;  // "length" | "eos" | "" (not done)
  std::string text;
  std::vector<std::int32_t> token_ids;
  std::vector<float> logprobs;                              // one per token_id, nats
  double flops = std::numeric_limits<double>::quiet_NaN();  // the algorithm's, from the shapes
  double bytes_moved =
      std::numeric_limits<double>::quiet_NaN();  // least bytes it must move, from the shapes

  // how it went: not part of the digest
  std::int64_t rank = -1;
  std::int64_t process = -1;  // row of /provenance/ranks; set by read_journals()
  double t_start = std::numeric_limits<double>::quiet_NaN();  // since the run began
  double ttft = std::numeric_limits<double>::quiet_NaN();     // first token emitted - request start
  double e2e = std::numeric_limits<double>::quiet_NaN();      // last token emitted - request start
  std::vector<double> t_emit;                                 // per token, since request start
  double peak_memory_bytes = std::numeric_limits<double>::quiet_NaN();
  double cpu_percent = std::numeric_limits<double>::quiet_NaN();  // of one core, over the request
  double gpu_percent = std::numeric_limits<double>::quiet_NaN();
  double io_wait =
      std::numeric_limits<double>::quiet_NaN();  // share of the time waiting for block I/O
  double energy = std::numeric_limits<double>::quiet_NaN();    // joules
  double sm_clock = std::numeric_limits<double>::quiet_NaN();  // Hz, of the GPU at the end
  std::int64_t throttled = -1;  // sum of throttle_reasons; 0: none, -1: not known
  double launches = std::numeric_limits<double>::quiet_NaN();    // operators launched
  double batch_mean = std::numeric_limits<double>::quiet_NaN();  // sequences per decode step
  double warmup_seconds =
      std::numeric_limits<double>::quiet_NaN();  // of the unrecorded requests just before

  std::shared_ptr<const Evaluation> evaluation;  // null: none was computed; part of the digest

  /// Whether an experiment that evaluates its outputs evaluates this one.
  bool is_to_evaluate() const { return status == RequestStatus::done && repeat == 0; }

  std::int64_t tokens_out() const { return static_cast<std::int64_t>(token_ids.size()); }
  /// (e2e - ttft) / (tokens_out - 1); NaN below two tokens.
  double tpot() const {
    return tokens_out() < 2 ? std::numeric_limits<double>::quiet_NaN()
                            : (e2e - ttft) / static_cast<double>(tokens_out() - 1);
  }
  /// batch tokens_out / e2e.
  double throughput() const { return static_cast<double>(batch * tokens_out()) / e2e; }
  /// bytes_moved / e2e.
  double bandwidth() const { return bytes_moved / e2e; }
};

}  // namespace chunkstate
