// SPDX-License-Identifier: Apache-2.0
#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/json_input.hpp"
#include "core/variant_names.hpp"
#include "experiments/cli/verb.hpp"

namespace chunkstate {
namespace {

// Id and text lists are test input and small corpora, not data sets.
constexpr JsonLimits list_limits{std::size_t{1} << 28, std::size_t{1} << 26, 8};

Model build_model(const OpenModel& files, const ModelFlags& flags, RankGroup* tensor_group) {
  ModelOptions options = flags.options();
  options.tensor_group = tensor_group;
  return {files.config, files.checkpoint, options};
}

}  // namespace

void ModelFlags::add_to(CLI::App& verb) {
  verb.add_option("--model", model, "Hugging Face folder, or synthetic:NAME")->required();
  verb.add_option("--backend", backend, "auto, cpu, cuda or reference")->capture_default_str();
  verb.add_option("--dtype", dtype, "storage of activations: fp32, bf16 or fp16")
      ->capture_default_str();
  verb.add_option("--state-dtype", state_dtype, "storage of the SSD state: fp32, bf16 or fp16")
      ->capture_default_str();
  const auto listed = [](const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    return text;
  };
  verb.add_option("--variant", variant,
                  "SSD variant: " + listed(ssd_variant_names()) +
                      "; of a Mamba-1 model: " + listed(selective_scan_variant_names()))
      ->capture_default_str();
  verb.add_option("--chunk-size", chunk_size, "tokens per chunk; 0: the model's own")
      ->capture_default_str();
  verb.add_option("--lookback", lookback, "previous chunks that variant lookback sees")
      ->capture_default_str();
  verb.add_option("--layers", layers, "run the first N layers; 0: all")->capture_default_str();
  verb.add_option("--threads", threads, "CPU threads; 0: all this process may use")
      ->capture_default_str();
  verb.add_option("--mode", mode, "decode steps: auto, eager or graph")->capture_default_str();
  verb.add_option("--autotune", autotune, "search matrix products' algorithms: off or on")
      ->capture_default_str();
  verb.add_option("--fusion", fusion, "fused decode kernels: auto, off or on")
      ->capture_default_str();
  verb.add_option("--attention", attention, "flash, or naive: all scores in memory")
      ->capture_default_str();
  verb.add_option("--attention-block", attention_block,
                  "keys at a time: 32, 64, 128; 0: own number")
      ->capture_default_str();
  verb.add_option("--seed", seed, "of sampling and of synthetic weights")->capture_default_str();
}

void ModelFlags::add_split_to(CLI::App& verb) {
  verb.add_option("--split", split,
                  "under mpirun or srun: `sequence`: the ranks share each sequence; `tensor`: they "
                  "share every layer");
}

ModelSource ModelFlags::source() const { return {model, false, seed, dtype_from_name(dtype)}; }

ModelOptions ModelFlags::options() const {
  ModelOptions result;
  result.backend = backend_from_name(backend);
  result.threads = resolve_threads(threads);
  result.dtype = dtype_from_name(dtype);
  result.residual_dtype = result.dtype;
  result.state_dtype = dtype_from_name(state_dtype);
  result.layers = layers;
  result.execution = execution_options(mode, autotune, fusion, result.backend, result.dtype);
  result.execution.attention = attention_choice(attention, attention_block);
  return result;
}

LoadedModel::LoadedModel(const ModelFlags& flags, RankGroup* tensor_group)
    : files(open_model(flags.source())),
      model(build_model(files, flags, tensor_group)),
      ssd(ssd_settings(flags.variant, flags.chunk_size, flags.lookback, files.config)) {}

std::vector<std::vector<std::int32_t>> read_id_lists(const std::string& path) {
  const auto json = parse_json(read_input_file(path, list_limits.bytes), path, list_limits);
  if (!json.is_array()) {
    throw InputError(path + ": found " + describe(json) +
                     ", expected a list of lists of token ids");
  }
  std::vector<std::vector<std::int32_t>> lists;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string where = path + ": item " + std::to_string(i);
    if (!json[i].is_array()) {
      throw InputError(where + ": found " + describe(json[i]) + ", expected a list of token ids");
    }
    std::vector<std::int32_t> ids;
    for (const auto& id : json[i]) {
      const std::string place = where + ", token " + std::to_string(ids.size());
      ids.push_back(static_cast<std::int32_t>(checked_integer(id, place, 0, INT32_MAX)));
    }
    lists.push_back(std::move(ids));
  }
  return lists;
}

std::vector<std::string> read_text_list(const std::string& path) {
  const auto json = parse_json(read_input_file(path, list_limits.bytes), path, list_limits);
  if (!json.is_array()) {
    throw InputError(path + ": found " + describe(json) + ", expected a list of strings");
  }
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const auto& item = json[i].is_object() && json[i].contains("text") ? json[i]["text"] : json[i];
    if (!item.is_string()) {
      throw InputError(path + ": item " + std::to_string(i) + ": found " + describe(item) +
                       ", expected a string");
    }
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

}  // namespace chunkstate
