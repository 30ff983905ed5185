// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <numeric>
#include <optional>

#include "core/errors.hpp"
#include "core/generate.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/verb_group.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/record/temporary_file.hpp"

namespace chunkstate {
namespace {

struct SequenceFlags {
  ModelFlags model;
  std::string tokens;
  std::string text;
  std::string out;
  std::int64_t prefill_tokens = 0;
  bool decode = false;
};

// One group per sequence, written to a name of its own and renamed, so that OUT is complete or the
// old one.
class SequenceFile {
 public:
  SequenceFile(const std::string& path, const LoadedModel& loaded, const SequenceFlags& flags)
      : path_(path),
        temporary_(path),
        file_(h5::create_file(path)),
        sequences_(h5::root_group(file_, path).create_group("sequences")) {
    const h5::Group root = h5::root_group(file_, path);
    root.set_attribute("software", "chunkstate");
    root.set_attribute("software_version", build_info().version);
    root.set_attribute("model", loaded.files.name);
    root.set_attribute("dtype", flags.model.dtype);
    root.set_attribute("variant", std::string(loaded.ssd.variant->name));
    root.set_attribute("chunk_size", loaded.ssd.chunk_size);
    root.set_attribute("lookback", loaded.ssd.lookback);
    root.set_attribute("layers", flags.model.layers);
    root.set_attribute("state_dtype", flags.model.state_dtype);
    root.set_attribute("backend", std::string(name_of(loaded.model.options().backend)));
  }

  h5::Group add() { return sequences_.create_group(std::to_string(count_++)); }

  void finish() {
    write_durably(temporary_.path(), h5::file_image(file_, path_));
    rename_durably(temporary_.path(), path_);
  }

 private:
  std::string path_;
  TemporaryFile temporary_;  // made first: a folder that is missing shows before the work
  h5::Handle file_;
  h5::Group sequences_;
  int count_ = 0;
};

/// Before anything is computed, so that a bad last sequence does not cost the others' time.
void check(const std::vector<std::vector<std::int32_t>>& sequences, const std::string& file,
           std::size_t fewest, std::int64_t vocab_size) {
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    const std::string place = file + ": item " + std::to_string(s);
    if (sequences[s].size() < fewest) {
      throw InputError(fmt::format("{}: found {}, expected at least {}", place,
                                   counted(sequences[s].size(), "token"), fewest));
    }
    for (std::size_t t = 0; t < sequences[s].size(); ++t) {
      if (sequences[s][t] < vocab_size) continue;
      throw InputError(fmt::format("{}: token {}: id {}, expected 0 to {}", place, t,
                                   sequences[s][t], vocab_size - 1));
    }
  }
}

/// `fewest`: tokens that a sequence must have.
std::vector<std::vector<std::int32_t>> input_sequences(const SequenceFlags& flags,
                                                       const LoadedModel& loaded,
                                                       std::size_t fewest) {
  if (flags.tokens.empty() == flags.text.empty()) {
    throw UsageError("expected one of --tokens and --text");
  }
  std::vector<std::vector<std::int32_t>> sequences;
  if (!flags.tokens.empty()) {
    sequences = read_id_lists(flags.tokens);
  } else {
    for (const std::string& text : read_text_list(flags.text)) {
      sequences.push_back(loaded.files.encode_prompt(text, -1));
    }
  }
  check(sequences, flags.tokens.empty() ? flags.text : flags.tokens, fewest,
        loaded.files.config.vocab_size);
  return sequences;
}

void write_tokens(const h5::Group& group, const std::vector<std::int32_t>& tokens) {
  group.write_dimension({"token", "1", "position in the sequence"},
                        static_cast<std::int64_t>(tokens.size()));
  group.write<std::int32_t>({"tokens", "1", "token ids"}, tokens, {"token"});
}

std::vector<float> logits_of(LoadedModel& loaded, const VerbGroup& group,
                             const SequenceFlags& flags, const std::vector<std::int32_t>& tokens) {
  std::vector<float> all;
  SequenceState state =
      loaded.model.make_state(loaded.ssd, 1, static_cast<std::int64_t>(tokens.size()));
  const std::int64_t piece = flags.decode ? 1 : flags.prefill_tokens;
  if (flags.decode && !loaded.ssd.variant->causal()) {
    throw UsageError("--decode: variant " + std::string(loaded.ssd.variant->name) +
                     " has no decode form");
  }
  const LogitsSink take = [&](std::int64_t, std::int64_t, View<const float, 2> rows) {
    all.insert(all.end(), rows.data, rows.data + rows.extent[0] * rows.extent[1]);
  };
  RankGroup* const ranks = group.sequence();
  if (ranks == nullptr) {
    loaded.model.prefill(tokens, state, 0, piece, LogitsRows::all, take);
    return all;
  }
  if (piece != 0)
    throw UsageError("--split sequence: ranks share whole sequences, expected no " +
                     std::string(flags.decode ? "--decode" : "--prefill-tokens"));
  SequenceSplit split(
      *ranks, split_ranges(loaded.ssd, static_cast<std::int64_t>(tokens.size()), ranks->size()));
  loaded.model.forward_split(tokens, state, 0, split, LogitsRows::all, take);
  return group.joined(std::move(all));
}

int logits_verb(const SequenceFlags& flags, const VerbGroup& ranks) {
  LoadedModel loaded(flags.model, ranks.tensor());
  const auto sequences = input_sequences(flags, loaded, 1);
  std::optional<SequenceFile> file;
  if (ranks.first()) file.emplace(flags.out, loaded, flags);
  for (const auto& tokens : sequences) {
    const std::vector<float> logits = logits_of(loaded, ranks, flags, tokens);
    if (!file) continue;
    const h5::Group group = file->add();
    write_tokens(group, tokens);
    group.write_dimension({"vocab", "1", "token id"}, loaded.files.config.vocab_size);
    group.write<float>({"logits", "1", "logits after each token"}, logits, {"token", "vocab"});
  }
  if (!file) return exit_ok;
  file->finish();
  fmt::print("{}: logits of {}\n", flags.out, counted(sequences.size(), "sequence"));
  return exit_ok;
}

int score_verb(const SequenceFlags& flags, const VerbGroup& ranks) {
  LoadedModel loaded(flags.model, ranks.tensor());
  const auto sequences = input_sequences(flags, loaded, 2);
  std::optional<SequenceFile> file;
  if (ranks.first()) file.emplace(flags.out, loaded, flags);
  double total = 0;
  std::size_t count = 0;
  for (const auto& tokens : sequences) {
    const auto nll =
        score(loaded.model, loaded.ssd, tokens, flags.prefill_tokens, ranks.sequence());
    if (!file) continue;
    const h5::Group group = file->add();
    write_tokens(group, tokens);
    group.write_dimension({"prediction", "1", "predicts the token at this index + 1"},
                          static_cast<std::int64_t>(nll.size()));
    group.write<float>({"nll", "nat", "negative log-likelihood of the next token"}, nll,
                       {"prediction"});
    total += std::accumulate(nll.begin(), nll.end(), 0.0);
    count += nll.size();
  }
  if (!file) return exit_ok;
  file->finish();
  fmt::print("{}: {}, {:.4f} nats per token over {}\n", flags.out,
             counted(sequences.size(), "sequence"),
             count == 0 ? 0.0 : total / static_cast<double>(count), counted(count, "prediction"));
  return exit_ok;
}

void add_common(CLI::App& verb, SequenceFlags& flags) {
  flags.model.add_to(verb);
  flags.model.add_split_to(verb);
  verb.add_option("--tokens", flags.tokens, "JSON file: list of id lists");
  verb.add_option("--text", flags.text, "JSON file: list of strings (begin_of_text is added)");
  verb.add_option("-o,--out,--output", flags.out, "HDF5 file to write")->required();
  verb.add_option("--prefill-tokens", flags.prefill_tokens,
                  "longest piece per forward pass; 0: whole sequences")
      ->capture_default_str();
}

}  // namespace

void add_logits(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<SequenceFlags>();
  CLI::App* verb = app.add_subcommand("logits", "Logits after every token, to an HDF5 file");
  add_common(*verb, *flags);
  verb->add_flag("--decode", flags->decode, "one token at a time through the cache");
  verb->callback([flags, &action] {
    action = [flags] {
      return run_in_group(flags->model,
                          [&](VerbGroup& group) { return logits_verb(*flags, group); });
    };
  });
}

void add_score(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<SequenceFlags>();
  CLI::App* verb =
      app.add_subcommand("score", "Negative log-likelihood of every token, to an HDF5 file");
  add_common(*verb, *flags);
  verb->callback([flags, &action] {
    action = [flags] {
      return run_in_group(flags->model,
                          [&](VerbGroup& group) { return score_verb(*flags, group); });
    };
  });
}

}  // namespace chunkstate
