// SPDX-License-Identifier: Apache-2.0
#include "core/generate.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/errors.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/run/clock.hpp"

namespace chunkstate {
namespace {

struct GenerateFlags {
  ModelFlags model;
  std::vector<std::string> prompts;
  std::int64_t max_new_tokens = 100;
  bool no_cache = false;
  bool ignore_eos = false;
  float temperature = 0.0F;
  std::int32_t top_k = 0;
  float top_p = 1.0F;
  bool json = false;
};

// Holds back bytes that do not yet make whole UTF-8 characters: a character may span tokens.
class Utf8Stream {
 public:
  void write(std::string_view bytes) {
    pending_ += bytes;
    const std::size_t whole = complete_prefix();
    std::fwrite(pending_.data(), 1, whole, stdout);
    std::fflush(stdout);
    pending_.erase(0, whole);
  }
  void finish() {
    if (!pending_.empty()) std::fputs("\xEF\xBF\xBD", stdout);
    std::fputs("\n", stdout);
    std::fflush(stdout);
  }

 private:
  std::size_t complete_prefix() const {
    for (std::size_t back = 1; back <= 3 && back <= pending_.size(); ++back) {
      const auto byte = static_cast<unsigned char>(pending_[pending_.size() - back]);
      if ((byte & 0xC0U) == 0x80U) continue;
      const std::size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
      return length > back ? pending_.size() - back : pending_.size();
    }
    return pending_.size();
  }
  std::string pending_;
};

void check(const GenerateFlags& flags) {
  if (flags.max_new_tokens < 0) throw UsageError("-n: expected 0 or more");
  if (flags.temperature < 0) throw UsageError("--temperature: expected 0 or more");
  if (flags.top_k < 0) throw UsageError("--top-k: expected 0 or more");
  if (!(flags.top_p > 0 && flags.top_p <= 1)) throw UsageError("--top-p: expected 0 < p <= 1");
}

void print_json(const LoadedModel& loaded, const std::vector<std::vector<std::int32_t>>& prompts,
                const std::vector<Generated>& results) {
  nlohmann::json list = nlohmann::json::array();
  for (std::size_t s = 0; s < results.size(); ++s) {
    list.push_back({{"prompt_tokens", prompts[s]},
                    {"tokens", results[s].tokens},
                    {"logprobs", results[s].logprobs},
                    {"text", loaded.files.decode(results[s].tokens)},
                    {"stop_reason", results[s].stopped ? "eos" : "length"}});
  }
  fmt::print("{}\n", list.dump());
}

int generate_verb(const GenerateFlags& flags) {
  check(flags);
  LoadedModel loaded(flags.model);
  std::vector<std::vector<std::int32_t>> prompts;
  for (const std::string& text : flags.prompts) {
    prompts.push_back(loaded.files.encode_prompt(text, -1));
  }
  GenerateOptions options;
  options.max_new_tokens = flags.max_new_tokens;
  options.use_cache = !flags.no_cache;
  options.sampling = {flags.temperature, flags.top_k, flags.top_p};
  if (!flags.ignore_eos) options.stop_tokens = loaded.files.stop_tokens();

  const bool stream = prompts.size() == 1 && !flags.json && loaded.files.tokenizer;
  Utf8Stream out;
  const double start = monotonic_seconds();
  double first_token = 0;
  const auto on_token = [&](std::int64_t, const Sampled& sampled) {
    if (first_token == 0) first_token = monotonic_seconds();
    if (stream) out.write(loaded.files.tokenizer->token_bytes(sampled.token));
  };
  const std::vector<std::uint64_t> seeds(prompts.size(), flags.model.seed);
  const auto results = generate(loaded.model, loaded.ssd, prompts, seeds, options, on_token);
  const double end = monotonic_seconds();

  if (flags.json) {
    print_json(loaded, prompts, results);
    return exit_ok;
  }
  std::size_t tokens = 0;
  for (std::size_t s = 0; s < results.size(); ++s) {
    tokens += results[s].tokens.size();
    if (!stream) fmt::print("[{}] {}\n", s, loaded.files.decode(results[s].tokens));
  }
  if (stream) out.finish();
  fmt::print(stderr, "{} tokens", tokens);
  if (tokens > 0) fmt::print(stderr, "; first after {:.3f} s", first_token - start);
  if (tokens > results.size()) {
    fmt::print(stderr, ", then {:.1f} tokens/s",
               static_cast<double>(tokens - results.size()) / (end - first_token));
  }
  fmt::print(stderr, "\n");
  return exit_ok;
}

}  // namespace

void add_generate(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<GenerateFlags>();
  CLI::App* verb =
      app.add_subcommand("generate", "Continue a prompt; text to the terminal, streamed");
  flags->model.add_to(*verb);
  verb->add_option("--prompt", flags->prompts, "text to continue; several make a batch")
      ->required();
  verb->add_option("-n,--max-new-tokens", flags->max_new_tokens, "tokens to add")
      ->capture_default_str();
  verb->add_flag("--no-cache", flags->no_cache, "recompute the whole sequence for every token");
  verb->add_flag("--ignore-eos", flags->ignore_eos, "go on after end_of_text");
  verb->add_option("--temperature", flags->temperature, "0: greedy")->capture_default_str();
  verb->add_option("--top-k", flags->top_k, "0: all")->capture_default_str();
  verb->add_option("--top-p", flags->top_p, "1: all")->capture_default_str();
  verb->add_flag("--json", flags->json, "print ids, logprobs and texts as JSON");
  verb->callback([flags, &action] { action = [flags] { return generate_verb(*flags); }; });
}

}  // namespace chunkstate
