// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/errors.hpp"
#include "core/tokenizer/tokenizer.hpp"
#include "experiments/cli/verb.hpp"

namespace chunkstate {
namespace {

struct TokenizeFlags {
  std::string model;
  std::string input;
  bool bos = false;
};

// Only the tokenizer is opened, so a folder without weights will do.
Tokenizer open_tokenizer(const std::string& model) {
  if (model.starts_with("synthetic:")) {
    throw UsageError(model +
                     ": synthetic models have no tokenizer, expected a folder with a "
                     "tokenizer.json");
  }
  return read_tokenizer(model + "/tokenizer.json");
}

int tokenize_verb(const TokenizeFlags& flags) {
  const Tokenizer tokenizer = open_tokenizer(flags.model);
  nlohmann::json lists = nlohmann::json::array();
  for (const std::string& text : read_text_list(flags.input)) {
    lists.push_back(tokenizer.encode(text, flags.bos));
  }
  fmt::print("{}\n", lists.dump());
  return exit_ok;
}

int detokenize_verb(const TokenizeFlags& flags) {
  const Tokenizer tokenizer = open_tokenizer(flags.model);
  nlohmann::json texts = nlohmann::json::array();
  for (const auto& ids : read_id_lists(flags.input)) texts.push_back(tokenizer.decode(ids));
  fmt::print("{}\n", texts.dump());
  return exit_ok;
}

}  // namespace

void add_tokenize(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* verb =
      app.add_subcommand("tokenize", "Texts to token ids: prints a JSON list of id lists");
  verb->add_option("--model", flags->model, "folder with a tokenizer.json")->required();
  verb->add_option("--input", flags->input, "JSON list of strings")->required();
  verb->add_flag("--bos", flags->bos, "apply the post-processor: begin_of_text first");
  verb->callback([flags, &action] { action = [flags] { return tokenize_verb(*flags); }; });
}

void add_detokenize(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<TokenizeFlags>();
  CLI::App* verb =
      app.add_subcommand("detokenize", "Token ids to texts: prints a JSON list of strings");
  verb->add_option("--model", flags->model, "folder with a tokenizer.json")->required();
  verb->add_option("--input", flags->input, "JSON list of id lists")->required();
  verb->callback([flags, &action] { action = [flags] { return detokenize_verb(*flags); }; });
}

}  // namespace chunkstate
