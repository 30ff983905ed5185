// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/execution_options.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/bench.hpp"

// bench linear, bench attention, bench memory: operators without variants, and the machine itself.
namespace chunkstate {
namespace {

constexpr double largest_elements = 1e10;  // 20 to 40 GB

struct ProductFlags : OperatorFlags {
  std::vector<std::int64_t> tokens;
  LinearBenchCase linear;
  AttentionBenchCase attention;
  std::vector<std::string> methods = {"flash"};
  std::int64_t block = 0;
  bool autotune = false;
};

void check_elements(const std::string& verb, double elements) {
  if (elements > largest_elements) {
    throw UsageError("bench " + verb + ": a matrix of more than 10^10 elements");
  }
}

void print_products(const std::string& title, const std::vector<ProductBenchResult>& results,
                    const MachinePeaks& peaks) {
  fmt::print("{}\n", title);
  print_peaks(peaks);
  std::vector<std::string> names = {"shape",   "median", "fastest", "first call", "GFLOP/s",
                                    "of peak", "GB/s",   "of copy", "error"};
  const bool has_provider = !results.empty() && !results[0].provider.empty();
  if (has_provider) names.emplace_back("by");
  Table table(names);
  for (const ProductBenchResult& r : results) {
    const double seconds = r.timing.median();
    std::vector<std::string> row = {r.shape,
                                    format_seconds(seconds),
                                    format_seconds(r.timing.fastest()),
                                    format_seconds(r.first_seconds),
                                    format_number(r.flops / seconds / 1e9),
                                    share_of_peak(r.flops / seconds, peaks.gemm_flops),
                                    format_number(r.bytes / seconds / 1e9),
                                    share_of_peak(r.bytes / seconds, peaks.copy_bytes),
                                    format_number(r.relative_error)};
    if (has_provider) row.push_back(r.provider);
    table.add(row);
  }
  fmt::print("{}", table.text());
}

// What each method costs in memory, and what keeps it from being faster.
void print_bounds(const std::vector<ProductBenchResult>& results, const MachinePeaks& peaks,
                  const std::vector<MemoryBenchResult>& levels) {
  Table table({"shape", "scores in memory", "reads and writes", "bound by", "for"});
  for (const ProductBenchResult& r : results) {
    const AttentionBound bound = attention_bound(r, peaks, levels);
    table.add({r.shape, format_bytes(static_cast<double>(r.scores_bytes)), format_bytes(r.traffic),
               bound.by, fmt::format("{:.0f} % of the time", 100.0 * bound.share)});
  }
  fmt::print("\n{}", table.text());
}

nlohmann::json to_json(const std::vector<ProductBenchResult>& results, const MachinePeaks& peaks,
                       const std::vector<MemoryBenchResult>& levels) {
  nlohmann::json rows = nlohmann::json::array();
  for (const ProductBenchResult& r : results) {
    rows.push_back(figures_to_json(r));
    rows.back().update(
        {{"shape", r.shape}, {"first_seconds", r.first_seconds}, {"provider", r.provider}});
    if (levels.empty()) continue;
    const AttentionBound bound = attention_bound(r, peaks, levels);
    rows.back().update({{"scores_bytes", r.scores_bytes},
                        {"traffic", r.traffic},
                        {"bound_by", bound.by},
                        {"bound_share", bound.share}});
  }
  return rows;
}

int bench_products_verb(const ProductFlags& flags, bool is_linear) {
  const std::string verb = is_linear ? "linear" : "attention";
  const LinearBenchCase& l = flags.linear;
  const AttentionBenchCase& a = flags.attention;
  if (is_linear) {
    check_bench(verb, {l.out_features, l.in_features});
    check_elements(verb, static_cast<double>(l.out_features) * static_cast<double>(l.in_features));
  } else {
    check_bench(verb, {a.heads, a.kv_heads, a.head_dim});
    if (a.heads % a.kv_heads != 0) {
      throw UsageError("bench attention: --heads must be a multiple of --kv-heads");
    }
  }
  check_bench(verb, flags.tokens, flags.repeats);
  for (const std::int64_t tokens : flags.tokens) {
    const double width = is_linear ? static_cast<double>(std::max(l.out_features, l.in_features))
                                   : static_cast<double>(a.heads) * static_cast<double>(a.head_dim);
    check_elements(verb, static_cast<double>(tokens) * width);
  }
  Executor exec = flags.executor();
  exec.autotune = flags.autotune;
  if (exec.autotune && exec.backend != Backend::cuda) {
    throw UsageError("bench linear: --autotune needs --backend cuda");
  }
  const DType dtype = dtype_from_name(flags.dtype);
  const MachinePeaks peaks = measure_peaks(exec, dtype);
  std::vector<ProductBenchResult> results;
  for (const std::int64_t tokens : flags.tokens) {
    if (is_linear) {
      LinearBenchCase shape = l;
      shape.tokens = tokens;
      results.push_back(bench_linear(exec, shape, dtype, flags.repeats));
    } else {
      for (const std::string& method : flags.methods) {
        AttentionBenchCase shape = a;
        shape.tokens = tokens;
        shape.choice = attention_choice(method, method == "flash" ? flags.block : 0);
        results.push_back(bench_attention(exec, shape, dtype, flags.repeats));
      }
    }
  }
  const std::vector<MemoryBenchResult> levels =
      is_linear ? std::vector<MemoryBenchResult>{} : bench_memory(exec);
  if (flags.json) {
    print_json(peaks, "rows", to_json(results, peaks, levels));
  } else {
    const std::string title =
        is_linear ? fmt::format("linear: tokens x outputs x inputs, {}, {} threads", flags.dtype,
                                exec.threads)
                  : fmt::format("attention: causal, {} heads on {} x {}, {}, {} threads", a.heads,
                                a.kv_heads, a.head_dim, flags.dtype, exec.threads);
    print_products(title, results, peaks);
    if (!is_linear) print_bounds(results, peaks, levels);
  }
  return exit_ok;
}

int bench_memory_verb(const ProductFlags& flags) {
  const Executor exec = flags.executor();
  const MachinePeaks peaks = measure_peaks(exec, dtype_from_name(flags.dtype));
  std::vector<MemoryBenchResult> results = bench_memory(exec);
  results.push_back({"copy (read + written)", 0, peaks.copy_bytes});
  if (flags.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const MemoryBenchResult& r : results) {
      rows.push_back({{"level", r.level},
                      {"footprint", r.footprint},
                      {"bytes_per_second", r.bytes_per_second}});
    }
    print_json(peaks, "levels", rows);
    return exit_ok;
  }
  fmt::print("memory: read bandwidth, {} threads\n", exec.threads);
  Table table({"level", "in use", "GB/s", "of copy"});
  for (const MemoryBenchResult& r : results) {
    table.add({r.level, r.footprint > 0 ? format_bytes(static_cast<double>(r.footprint)) : "-",
               format_number(r.bytes_per_second / 1e9),
               share_of_peak(r.bytes_per_second, peaks.copy_bytes)});
  }
  fmt::print("{}", table.text());
  return exit_ok;
}

}  // namespace

void add_bench_products(CLI::App& bench, VerbAction& action) {
  auto linear = std::make_shared<ProductFlags>();
  linear->tokens = {1, 64, 1024};
  CLI::App* verb = bench.add_subcommand("linear", "The product with a weight matrix");
  verb->add_option("--tokens", linear->tokens, "several make rows")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--out", linear->linear.out_features, "outputs")->capture_default_str();
  verb->add_option("--in", linear->linear.in_features, "inputs")->capture_default_str();
  verb->add_flag("--autotune", linear->autotune, "search the library's algorithms");
  linear->add_to(*verb);
  verb->callback(
      [linear, &action] { action = [linear] { return bench_products_verb(*linear, true); }; });

  auto attention = std::make_shared<ProductFlags>();
  attention->tokens = {1024};
  verb = bench.add_subcommand("attention", "Causal attention of a whole prompt");
  verb->add_option("--tokens", attention->tokens, "several make rows")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--heads", attention->attention.heads, "heads")->capture_default_str();
  verb->add_option("--kv-heads", attention->attention.kv_heads, "heads of keys and values")
      ->capture_default_str();
  verb->add_option("--head-dim", attention->attention.head_dim, "channels of a head")
      ->capture_default_str();
  verb->add_option("--method", attention->methods, "flash, naive; several make rows")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--block", attention->block, "keys that flash takes at a time; 0: own number")
      ->capture_default_str();
  attention->add_to(*verb);
  verb->callback([attention, &action] {
    action = [attention] { return bench_products_verb(*attention, false); };
  });

  auto memory = std::make_shared<ProductFlags>();
  verb = bench.add_subcommand("memory", "Read bandwidth of every level of the memory hierarchy");
  verb->add_option("--backend", memory->backend, "auto, cpu, cuda or reference")
      ->capture_default_str();
  verb->add_option("--threads", memory->threads, "CPU threads; 0: all this process may use")
      ->capture_default_str();
  verb->add_flag("--json", memory->json, "print as JSON");
  verb->callback([memory, &action] { action = [memory] { return bench_memory_verb(*memory); }; });
}

}  // namespace chunkstate
