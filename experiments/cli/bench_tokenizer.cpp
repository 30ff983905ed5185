// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "core/errors.hpp"
#include "core/tokenizer/tokenizer.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/bench.hpp"
#include "experiments/run/clock.hpp"

namespace chunkstate {
namespace {

struct TokenizerFlags {
  std::string model;
  std::string input;
  int repeats = 5;
  bool json = false;
};

struct Passes {
  std::string name;
  Timing timing;
};

template <class Body>
double seconds_of(const Body& body) {
  const double start = monotonic_seconds();
  body();
  return monotonic_seconds() - start;
}

int bench_tokenizer_verb(const TokenizerFlags& flags) {
  if (flags.repeats < 1) throw UsageError("bench tokenizer: --repeats must be at least 1");
  const std::vector<std::string> texts = read_text_list(flags.input);
  std::size_t bytes = 0;
  for (const std::string& text : texts) bytes += text.size();
  if (bytes == 0) throw UsageError("bench tokenizer: " + flags.input + " holds no text");

  std::optional<Tokenizer> tokenizer;
  const double load =
      seconds_of([&] { tokenizer.emplace(read_tokenizer(flags.model + "/tokenizer.json")); });
  std::vector<std::vector<std::int32_t>> ids(texts.size());
  const auto encode = [&] {
    for (std::size_t i = 0; i < texts.size(); ++i) ids[i] = tokenizer->encode(texts[i], false);
  };
  const auto decode = [&] {
    for (const auto& list : ids) (void)tokenizer->decode(list);
  };
  // The first pass of a process meets every word for the first time.
  Passes first{"encode, first pass", {{seconds_of(encode)}}}, again{"encode", {}},
      back{"decode", {}};
  for (int repeat = 0; repeat < flags.repeats; ++repeat) {
    again.timing.seconds.push_back(seconds_of(encode));
    back.timing.seconds.push_back(seconds_of(decode));
  }
  std::size_t tokens = 0;
  for (const auto& list : ids) tokens += list.size();

  Table table({"", "median", "MB/s", "tokens/s"});
  nlohmann::json rows = nlohmann::json::array();
  for (const Passes& passes : {first, again, back}) {
    const double seconds = passes.timing.median();
    table.add({passes.name, format_seconds(seconds),
               format_number(static_cast<double>(bytes) / seconds / 1e6),
               format_number(static_cast<double>(tokens) / seconds)});
    rows.push_back({{"pass", passes.name},
                    {"timing", to_json(passes.timing)},
                    {"bytes_per_second", static_cast<double>(bytes) / seconds}});
  }
  if (flags.json) {
    const nlohmann::json result{
        {"bytes", bytes}, {"tokens", tokens}, {"load_seconds", load}, {"rows", rows}};
    fmt::print("{}\n", result.dump(2));
    return exit_ok;
  }
  fmt::print("{}: {} tokens, loaded in {}; {} texts of {} in {} tokens, one thread\n{}",
             flags.model, tokenizer->size(), format_seconds(load), texts.size(),
             format_bytes(static_cast<double>(bytes)), tokens, table.text());
  return exit_ok;
}

}  // namespace

void add_bench_tokenizer(CLI::App& bench, VerbAction& action) {
  auto flags = std::make_shared<TokenizerFlags>();
  CLI::App* verb = bench.add_subcommand("tokenizer", "Texts to token ids and back, on one thread");
  verb->add_option("--model", flags->model, "folder with a tokenizer.json")->required();
  verb->add_option("--input", flags->input, "JSON list of strings")->required();
  verb->add_option("--repeats", flags->repeats, "timed runs")->capture_default_str();
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, &action] { action = [flags] { return bench_tokenizer_verb(*flags); }; });
}

}  // namespace chunkstate
