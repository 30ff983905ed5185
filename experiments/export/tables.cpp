// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "experiments/analysis/evaluation_columns.hpp"
#include "experiments/analysis/run_comparison.hpp"
#include "experiments/export/export.hpp"
#include "experiments/record/metrics.hpp"
#include "experiments/report/report_table.hpp"

namespace chunkstate {
namespace {

// A line of fields, each quoted where it must be.
class Line {
 public:
  explicit Line(char separator) : separator_(separator) {}
  void add(const std::string& field) {
    if (!text_.empty() || begun_) text_ += separator_;
    begun_ = true;
    text_ += escape_csv(field, separator_);
  }
  void add(double value) { add(full_number(value)); }
  void add(std::int64_t value) { add(value < 0 ? std::string() : std::to_string(value)); }
  std::string finish() const { return text_ + "\n"; }

 private:
  char separator_;
  bool begun_ = false;
  std::string text_;
};

const Prompt& prompt_of(const StoredResults& results, const RequestRecord& request) {
  return results.prompts.prompts[static_cast<std::size_t>(request.prompt)];
}

const SweepPoint& point_of(const StoredResults& results, const RequestRecord& request) {
  return results.spec.points[static_cast<std::size_t>(request.point)];
}

}  // namespace

std::string export_csv(const StoredResults& results) {
  const std::vector<EvaluationColumn> evaluated = evaluation_columns();
  Line header(',');
  for (const char* name : {"item_id", "point"}) header.add(name);
  for (const std::string& path : results.spec.axis_paths) header.add(path);
  for (const char* name : {"prompt", "prompt_id", "num_chunks", "repeat", "batch", "rank",
                           "process", "status", "stop_reason", "error", "t_start", "throttled"}) {
    header.add(name);
  }
  for (const Metric& metric : request_metrics()) header.add(metric.name);
  for (const EvaluationColumn& column : evaluated) header.add(column.name);
  for (const char* name : {"evaluation_error", "text"}) header.add(name);

  std::string text = header.finish();
  for (const RequestRecord& request : results.requests) {
    Line line(',');
    line.add(request.item_id);
    line.add(request.point);
    for (const AxisValue& axis : point_of(results, request).axes) line.add(plain_value(axis));
    line.add(request.prompt);
    line.add(prompt_of(results, request).id);
    line.add(prompt_of(results, request).num_chunks);
    line.add(request.repeat);
    line.add(request.batch);
    line.add(request.rank);
    line.add(request.process);
    line.add(std::string(name_of(request.status)));
    line.add(request.stop_reason);
    line.add(request.error);
    line.add(request.t_start);
    line.add(request.throttled);
    for (const Metric& metric : request_metrics()) line.add(metric.value(request));
    for (const EvaluationColumn& column : evaluated) {
      line.add(request.evaluation == nullptr ? NAN : column.value(*request.evaluation));
    }
    line.add(request.evaluation == nullptr ? std::string() : request.evaluation->error);
    line.add(request.text);
    text += line.finish();
  }
  return text;
}

std::string export_seed_tsv(const StoredResults& results) {
  constexpr double mebibyte = 1024.0 * 1024.0;
  Line header('\t');
  for (const char* name : {"id",
                           "total_latency_s",
                           "first_token_s",
                           "mean_inter_token_s",
                           "throughput_tok_s",
                           "peak_mem_MB",
                           "mem_bw_MBps",
                           "cpu_start_%",
                           "cpu_end_%",
                           "gpu_start_%",
                           "gpu_end_%",
                           "io_wait_diff_%",
                           "total_flops",
                           "profiler_top_ops",
                           "output",
                           "num_chunks",
                           "token_len",
                           "prompt",
                           "point",
                           "prompt_id",
                           "repeat"}) {
    header.add(name);
  }
  std::string text = header.finish();
  for (const RequestRecord& request : results.requests) {
    if (request.status != RequestStatus::done) continue;
    const Prompt& prompt = prompt_of(results, request);
    Line line('\t');
    line.add(request.prompt + 1);
    line.add(request.e2e);
    line.add(request.ttft);
    line.add(request.tpot());
    line.add(request.throughput());
    line.add(request.peak_memory_bytes / mebibyte);
    line.add(request.peak_memory_bytes / mebibyte / request.e2e);
    for (int not_measured = 0; not_measured < 5; ++not_measured) line.add(std::string());
    line.add(request.flops);
    line.add(std::string());
    line.add(request.text);
    line.add(prompt.num_chunks);
    line.add(prompt.token_len);
    line.add(prompt.text);
    line.add(point_name(point_of(results, request)));
    line.add(prompt.id);
    line.add(request.repeat);
    text += line.finish();
  }
  return text;
}

}  // namespace chunkstate
