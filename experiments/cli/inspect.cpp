// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/cost.hpp"
#include "core/engine_names.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/verb.hpp"

namespace chunkstate {
namespace {

struct InspectFlags {
  ModelFlags model;
  bool json = false;
};

nlohmann::json describe_model(const InspectFlags& flags) {
  const OpenModel files = open_model(flags.model.source());
  const ModelConfig& c = files.config;
  const DType dtype = dtype_from_name(flags.model.dtype);
  const SsdSettings ssd =
      ssd_settings(flags.model.variant, flags.model.chunk_size, flags.model.lookback, c);
  const SequenceStateBytes state =
      sequence_state_bytes(c, dtype, dtype_from_name(flags.model.state_dtype), ssd);
  const auto mamba_layers = std::count(c.layers.begin(), c.layers.end(), LayerKind::mamba);
  CostSizes sizes;
  sizes.activation = static_cast<std::int64_t>(bytes_of(dtype));
  return {{"model", files.name},
          {"architecture", c.family},
          {"parameters", c.parameters()},
          {"weight_bytes", files.checkpoint->bytes()},
          {"dtype", flags.model.dtype},
          {"state_dtype", flags.model.state_dtype},
          {"digest", files.digest()},
          {"layers", c.layers.size()},
          {"mamba_layers", mamba_layers},
          {"attention_layers", static_cast<std::int64_t>(c.layers.size()) - mamba_layers},
          {"vocab_size", c.vocab_size},
          {"hidden_size", c.hidden_size},
          {"intermediate_size", c.intermediate_size},
          {"mamba_heads", c.mamba_heads},
          {"mamba_head_dim", c.mamba_head_dim},
          {"state_dim", c.state_dim},
          {"groups", c.groups},
          {"conv_taps", c.conv_taps},
          {"chunk_size", ssd.chunk_size},
          {"attention_heads", c.attention_heads},
          {"kv_heads", c.kv_heads},
          {"attention_head_dim", c.attention_head_dim},
          {"max_position_embeddings", c.max_position_embeddings},
          {"state_bytes_per_sequence", state.fixed},
          {"kv_bytes_per_token", state.per_token},
          {"flops_per_decoded_token", forward_cost(c, sizes, ssd, 0, 1, 1).flops},
          {"flops_prefill_1024", forward_cost(c, sizes, ssd, 0, 1024, 1).flops},
          {"tokenizer", files.tokenizer ? files.tokenizer->size() : 0}};
}

int inspect_verb(const InspectFlags& flags) {
  const nlohmann::json facts = describe_model(flags);
  if (flags.json) {
    fmt::print("{}\n", facts.dump(2));
    return exit_ok;
  }
  const auto integer = [&](const char* key) { return facts[key].get<std::int64_t>(); };
  Table table({"model", facts["model"].get<std::string>()});
  table.add(
      {"architecture", fmt::format("{}, {} layers ({} mamba, {} attention)",
                                   facts["architecture"].get<std::string>(), integer("layers"),
                                   integer("mamba_layers"), integer("attention_layers"))});
  table.add({"parameters", fmt::format("{}", integer("parameters"))});
  table.add({"weights", format_bytes(static_cast<double>(integer("weight_bytes")))});
  table.add({"hidden, MLP, vocabulary",
             fmt::format("{}, {}, {}", integer("hidden_size"), integer("intermediate_size"),
                         integer("vocab_size"))});
  if (integer("mamba_layers") > 0) {
    table.add({"mamba heads x head_dim, state_dim, groups",
               fmt::format("{} x {}, {}, {}", integer("mamba_heads"), integer("mamba_head_dim"),
                           integer("state_dim"), integer("groups"))});
    table.add({"chunk_size, conv taps",
               fmt::format("{}, {}", integer("chunk_size"), integer("conv_taps"))});
  }
  if (integer("attention_layers") > 0) {
    table.add({"attention heads / kv heads x head_dim",
               fmt::format("{} / {} x {}", integer("attention_heads"), integer("kv_heads"),
                           integer("attention_head_dim"))});
  }
  table.add({"types of activations, states",
             fmt::format("{}, {}", flags.model.dtype, flags.model.state_dtype)});
  table.add({"state per sequence",
             format_bytes(static_cast<double>(integer("state_bytes_per_sequence")))});
  table.add({"KV per token", format_bytes(static_cast<double>(integer("kv_bytes_per_token")))});
  table.add({"GFLOP per decoded token",
             format_number(facts["flops_per_decoded_token"].get<double>() / 1e9)});
  table.add({"GFLOP per 1,024-token prefill",
             format_number(facts["flops_prefill_1024"].get<double>() / 1e9)});
  table.add({"digest", facts["digest"].get<std::string>()});
  fmt::print("{}", table.text());
  return exit_ok;
}

}  // namespace

void add_inspect(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* verb =
      app.add_subcommand("inspect", "A model's shape, parameters, bytes, and memory per sequence");
  flags->model.add_to(*verb);
  verb->add_flag("--json", flags->json, "print as JSON");
  verb->callback([flags, &action] { action = [flags] { return inspect_verb(*flags); }; });
}

}  // namespace chunkstate
