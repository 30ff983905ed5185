// SPDX-License-Identifier: Apache-2.0
// YAML bytes -> a validated experiment. Behind each record separator (which YAML refuses) stands
// the text of one `-s`.
#include <string>
#include <vector>

#include "core/errors.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "tests/fuzz/target.hpp"

using namespace chunkstate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr char separator = '\x1E';
  std::string_view rest = text_of(data, size);
  std::vector<std::string> texts;
  while (true) {
    const std::size_t end = rest.find(separator);
    texts.emplace_back(rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  const std::string yaml = texts.front();
  texts.erase(texts.begin());
  try {
    const ExperimentSpec spec = parse_experiment(yaml, "exp.yaml", texts);
    expect(!spec.points.empty(), "a point at least");
    const ExperimentSpec again = parse_experiment(spec.yaml_resolved, "resolved.yaml");
    expect(again.config_hash == spec.config_hash, "the resolved experiment is the same experiment");
  } catch (const UsageError&) {
  }
  return 0;
}
