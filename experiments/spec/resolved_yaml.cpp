// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/resolved_yaml.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace chunkstate {
namespace {

using Kind = Domain::Kind;

bool is_text(const Key& key) {
  return key.domain.kind == Kind::text || key.domain.kind == Kind::name ||
         key.domain.kind == Kind::word;
}

std::string in_quotes(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

/// Plain where no YAML reader could take it for anything else.
std::string yaml_value(const Key& key, const std::string& value) {
  if (!is_text(key)) return value;
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto is_safe = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') ||
           std::string_view("._-/").find(c) != std::string_view::npos;
  };
  const std::string_view prefix = value.starts_with("synthetic:") ? "synthetic:" : "";
  const std::string_view rest = std::string_view(value).substr(prefix.size());
  const bool safe = (is_letter(value[0]) || value[0] == '/') && !rest.empty() &&
                    std::ranges::all_of(rest, is_safe) && means_text(value);
  return safe ? value : in_quotes(value);
}

/// Keys that say nothing in this experiment are left out: a batch of one, one stream of requests, a
/// state in fp32, the usual attention and context, those of the other kind of prompts, of sampling
/// if it is greedy, and the word `sample` if they are not, of accuracy if none is asked for.
bool is_shown(const Key& key, const ExperimentSpec& spec, const PointSettings& settings) {
  const bool samples = settings.sampling == "sample";
  if (key.scope == Scope::launcher) return false;
  if (key.path == "generation.sampling") return !samples;
  if (key.path.starts_with("generation.sampling.")) return samples;
  if (key.path == "generation.batch") return settings.batch != 1;
  if (key.path == "scenario.type") return settings.scenario != "single_stream";
  if (key.path == "scenario.batch") return settings.scenario_batch != 1;
  if (key.path == "model.context") return settings.model_context != 0;
  if (key.path == "execution.attention") return settings.attention != "flash";
  if (key.path == "execution.attention_block") return settings.attention_block != 0;
  if (key.path == "ssm.state_dtype") return settings.state_dtype != "fp32";
  if (key.path.starts_with("prompts.synthetic.")) return spec.prompts.file.empty();
  if (key.path.starts_with("prompts.")) return !spec.prompts.file.empty();
  if (key.path.starts_with("accuracy.gptscore.")) return spec.accuracy.judges();
  if (key.path == "accuracy.reference" || key.path == "accuracy.state_drift") {
    return spec.accuracy.compares();
  }
  return true;
}

/// Writes nested maps from dotted paths.
class BlockWriter {
 public:
  void write(std::string_view path, std::string_view value) {
    std::vector<std::string_view> keys;
    for (std::size_t begin = 0; begin <= path.size();) {
      const std::size_t end = std::min(path.find('.', begin), path.size());
      keys.push_back(path.substr(begin, end - begin));
      begin = end + 1;
    }
    std::size_t common = 0;
    while (common + 1 < keys.size() && common < open_.size() && open_[common] == keys[common])
      ++common;
    for (std::size_t i = common; i + 1 < keys.size(); ++i) {
      text_ += fmt::format("{:{}}{}:\n", "", 2 * i, keys[i]);
    }
    text_ += fmt::format("{:{}}{}: {}\n", "", 2 * (keys.size() - 1), keys.back(), value);
    keys.pop_back();
    open_ = std::move(keys);
  }

  std::string take() { return std::move(text_); }

 private:
  std::string text_;
  std::vector<std::string_view> open_;
};

std::string axes_text(std::string_view name, const std::vector<Sweep::Axis>& axes) {
  std::string text = axes.empty() ? "" : fmt::format("  {}:\n", name);
  for (const Sweep::Axis& axis : axes) {
    std::vector<std::string> values;
    for (const std::string& value : axis.values) values.push_back(yaml_value(*axis.key, value));
    text += fmt::format("    {}: [{}]\n", axis.key->path, fmt::join(values, ", "));
  }
  return text;
}

}  // namespace

std::string resolved_yaml(const ExperimentSpec& spec, const Sweep& sweep) {
  BlockWriter writer;
  for (const Key& key : experiment_keys()) {
    if (key.path == "schema")
      writer.write(key.path, key.domain.expected());
    else if (is_shown(key, spec, spec.base))
      writer.write(key.path, yaml_value(key, stored_value(key, spec, spec.base)));
  }
  std::string text = writer.take();
  if (sweep.matrix.empty() && sweep.zip.empty()) return text;
  text += "sweep:\n" + axes_text("matrix", sweep.matrix) + axes_text("zip", sweep.zip);
  if (!sweep.exclude_texts.empty()) text += "  exclude:\n";
  for (const std::string& condition : sweep.exclude_texts)
    text += fmt::format("    - {}\n", in_quotes(condition));
  return text;
}

std::string settings_text(const PointSettings& settings) {
  static const ExperimentSpec unused;
  std::string text;
  for (const Key& key : experiment_keys()) {
    if (key.scope != Scope::point || !is_shown(key, unused, settings)) continue;
    text += fmt::format("{}: {}\n", key.path, yaml_value(key, stored_value(key, unused, settings)));
  }
  return text;
}

}  // namespace chunkstate
