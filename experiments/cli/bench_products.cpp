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

constexpr std::int64_t largest_size = std::int64_t{1} << 24;
constexpr double largest_elements = 1e10;  // 20 to 40 GB

struct ProductFlags {
  std::vector<std::int64_t> tokens;
  LinearBenchCase linear;
  AttentionBenchCase attention;
  std::vector<std::string> methods = {"flash"};
  std::int64_t block = 0;
  std::string backend = "auto";
  std::string dtype = "fp32";
  int threads = 0;
  bool autotune = false;
  int repeats = 7;
  bool json = false;

  void add_to(CLI::App& verb) {
    verb.add_option("--backend", backend, "auto, cpu, cuda or reference")->capture_default_str();
    verb.add_option("--dtype", dtype, "fp32, bf16 or fp16")->capture_default_str();
    verb.add_option("--threads", threads, "CPU threads; 0: all this process may use")
        ->capture_default_str();
    verb.add_option("--repeats", repeats, "timed runs")->capture_default_str();
    verb.add_flag("--json", json, "print as JSON");
  }
};

void check_sizes(const std::string& verb, std::initializer_list<std::int64_t> sizes) {
  for (const std::int64_t size : sizes) {
    if (size < 1 || size > largest_size) {
      throw UsageError("bench " + verb + ": sizes must be 1 to 2^24");
    }
  }
}

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

void print_json(const std::vector<ProductBenchResult>& results, const MachinePeaks& peaks,
                const std::vector<MemoryBenchResult>& levels) {
  nlohmann::json rows = nlohmann::json::array();
  for (const ProductBenchResult& r : results) {
    rows.push_back({{"shape", r.shape},
                    {"timing", to_json(r.timing)},
                    {"flops", r.flops},
                    {"bytes", r.bytes},
                    {"flops_per_second", r.flops / r.timing.median()},
                    {"bytes_per_second", r.bytes / r.timing.median()},
                    {"first_seconds", r.first_seconds},
                    {"provider", r.provider},
                    {"relative_error", r.relative_error}});
    if (levels.empty()) continue;
    const AttentionBound bound = attention_bound(r, peaks, levels);
    rows.back()["scores_bytes"] = r.scores_bytes;
    rows.back()["traffic"] = r.traffic;
    rows.back()["bound_by"] = bound.by;
    rows.back()["bound_share"] = bound.share;
  }
  fmt::print("{}\n", nlohmann::json{{"peaks", to_json(peaks)}, {"rows", rows}}.dump(2));
}

int bench_products_verb(const ProductFlags& flags, bool is_linear) {
  const std::string verb = is_linear ? "linear" : "attention";
  if (flags.repeats < 1) throw UsageError("bench " + verb + ": --repeats must be at least 1");
  const LinearBenchCase& l = flags.linear;
  const AttentionBenchCase& a = flags.attention;
  if (is_linear) {
    check_sizes(verb, {l.out_features, l.in_features});
    check_elements(verb, static_cast<double>(l.out_features) * static_cast<double>(l.in_features));
  } else {
    check_sizes(verb, {a.heads, a.kv_heads, a.head_dim});
    if (a.heads % a.kv_heads != 0) {
      throw UsageError("bench attention: --heads must be a multiple of --kv-heads");
    }
  }
  for (const std::int64_t tokens : flags.tokens) {
    check_sizes(verb, {tokens});
    const double width = is_linear ? static_cast<double>(std::max(l.out_features, l.in_features))
                                   : static_cast<double>(a.heads) * static_cast<double>(a.head_dim);
    check_elements(verb, static_cast<double>(tokens) * width);
  }
  const Executor exec{backend_from_name(flags.backend), resolve_threads(flags.threads), nullptr,
                      flags.autotune};
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
    print_json(results, peaks, levels);
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
  const Executor exec{backend_from_name(flags.backend), resolve_threads(flags.threads)};
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
    fmt::print("{}\n", nlohmann::json{{"peaks", to_json(peaks)}, {"levels", rows}}.dump(2));
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
