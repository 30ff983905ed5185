// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <set>
#include <sstream>

#include "core/errors.hpp"
#include "experiments/spec/experiment_spec.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

namespace chunkstate {
namespace {

const std::string head = "schema: 1\nname: test\nmodel: {path: m}\nprompts: {file: p.json}\n";

const std::string full =
    "schema: 1\n"
    "name: chunk-variants\n"
    "model: {path: experiments/models/bamba-tiny, dtype: bf16}      # or synthetic:bamba-9b\n"
    "prompts: {file: experiments/prompts/performance_by_chunks.json, limit: 20}\n"
    "generation: {max_new_tokens: 100, use_cache: true, sampling: greedy, stop_at_eos: false, "
    "seed: 42}\n"
    "ssm: {variant: default_optimized, chunk_size: 256}\n"
    "sweep:\n"
    "  matrix: {ssm.variant: [default, default_optimized, independent], ssm.chunk_size: [64, 128, "
    "256]}\n"
    "  zip: {}                       # axes that move together\n"
    "  exclude: [\"ssm.variant == 'default' and ssm.chunk_size == 64\"]\n"
    "measure: {warmup: 1, repeats: 3, order: interleaved}\n"
    "parallel: {mode: data}\n"
    "profile: {trace: false}\n"
    "output: {dir: results/chunk-variants}\n"
    "slurm: {array: 8, time: 30m, gpus_per_node: 4, signal_before_end: 120s}\n";

/// "variant/chunk_size/lookback" of every point.
std::vector<std::string> points_of(const ExperimentSpec& spec) {
  std::vector<std::string> points;
  for (const SweepPoint& point : spec.points) {
    CHECK(point.index == static_cast<std::int64_t>(points.size()));
    points.push_back(point.settings.variant + "/" + std::to_string(point.settings.chunk_size) +
                     "/" + std::to_string(point.settings.lookback));
  }
  return points;
}

TEST_CASE("The documented example means what it says") {
  const ExperimentSpec spec = parse_experiment(full, "exp.yaml");
  CHECK(spec.name == "chunk-variants");
  CHECK(spec.base.model_path == "experiments/models/bamba-tiny");
  CHECK(spec.base.model_dtype == "bf16");
  CHECK(spec.base.model_weights == "checkpoint");
  CHECK(spec.prompts.limit == 20);
  CHECK(spec.base.max_new_tokens == 100);
  CHECK(spec.base.use_cache);
  CHECK(spec.base.sampling == "greedy");
  CHECK(spec.base.seed == 42);
  CHECK(spec.measure.repeats == 3);
  CHECK(spec.output.dir == "results/chunk-variants");
  CHECK(spec.slurm.array == 8);
  CHECK(spec.slurm.time == "30m");
  CHECK(spec.slurm.gpus_per_node == 4);
  CHECK(spec.slurm.signal_before_end == "120s");
  CHECK(spec.slurm.tasks_per_node == 1);
  CHECK(spec.axis_paths == std::vector<std::string>{"ssm.variant", "ssm.chunk_size"});
  CHECK(points_of(spec) ==
        std::vector<std::string>{"default/128/1", "default/256/1", "default_optimized/64/1",
                                 "default_optimized/128/1", "default_optimized/256/1",
                                 "independent/64/1", "independent/128/1", "independent/256/1"});
  CHECK(spec.points[0].axes[1].path == "ssm.chunk_size");
  CHECK(spec.points[0].axes[1].value == "128");
  CHECK(spec.yaml_source == full);
}

TEST_CASE("The site's Slurm keys are below the experiment's, and those below the command line's") {
  const YamlSource site = {"site.yaml", "account: me\npartition: gpu\ntime: 1h\narray: 2\n"};
  const ExperimentSpec spec = parse_experiment(full, "exp.yaml", {"slurm.array=3"}, site);
  CHECK(spec.slurm.account == "me");
  CHECK(spec.slurm.partition == "gpu");
  CHECK(spec.slurm.time == "30m");
  CHECK(spec.slurm.array == 3);
  CHECK(spec.config_hash == parse_experiment(full, "exp.yaml").config_hash);
  CHECK(parse_experiment(head, "exp.yaml", {}, site).slurm.time == "1h");
  const std::pair<const char*, const char*> wrong[] = {
      {"account: me\nacount: you\n",
       "site.yaml:2:1: unknown key 'acount' (did you mean 'account'?)"},
      {"slurm: {account: me}\n", "site.yaml:1:1: unknown key 'slurm'"},
      {"- a\n", "site.yaml:1:1: found a list"},
      {"time: 30\n", "site.yaml:1:7: slurm.time: found '30', expected a time with its unit"},
      {"", "site.yaml"},
      {"modules: \"gcc; rm -rf ~\"\n", "site.yaml:1:10: slurm.modules: found"},
      {"modules: --gcc\n", "expected words of letters"},
      {"modules: a  b\n", "expected words of letters"},
      {"sbatch_options: mail\n", "expected options of letters"},
      {"sbatch_options: --comment=$(id)\n", "expected options of letters"},
      {"sbatch_options: \"--exclusive\\n#SBATCH -A x\"\n", "found a control character"},
      {"constraint: \"a'b\"\n", "expected a word of letters"},
      {"account: \"a\\nb\"\n", "found a control character"},
      {"launcher: mpiexec\n", "site.yaml:1:11: slurm.launcher: unknown value 'mpiexec'"},
  };
  for (const auto& [text, message] : wrong) {
    CAPTURE(text);
    std::string found;
    try {
      parse_experiment(full, "exp.yaml", {}, {"site.yaml", text});
    } catch (const UsageError& error) {
      found = error.what();
    }
    CHECK(found.find(message) != std::string::npos);
  }
  const SlurmSettings rich =
      parse_experiment(
          head +
              "slurm:\n  modules: gcc/12 openmpi/4.1\n  constraint: \"[a100*2|h100&x]\"\n"
              "  sbatch_options: --exclusive --nodelist=n[1-4,7] -x n9\n",
          "exp.yaml")
          .slurm;
  CHECK(rich.modules == "gcc/12 openmpi/4.1");
  CHECK(rich.constraint == "[a100*2|h100&x]");
  CHECK(rich.sbatch_options == "--exclusive --nodelist=n[1-4,7] -x n9");
}

TEST_CASE("What is not stated has its default") {
  const ExperimentSpec spec = parse_experiment(head, "exp.yaml");
  const PointSettings defaults;
  CHECK(spec.points.size() == 1);
  CHECK(spec.points[0].axes.empty());
  CHECK(spec.base.variant == defaults.variant);
  CHECK(spec.base.chunk_size == 0);
  CHECK(spec.measure.warmup == 1);
  CHECK(spec.measure.repeats == 1);
  CHECK(spec.output.dir == "results/test");
  CHECK(spec.parallel.threads == 0);
  const ExperimentSpec synthetic = parse_experiment(
      "schema: 1\nname: a\nmodel: {path: 'synthetic:bamba-9b', layers: 2}\n"
      "prompts: {synthetic: {tokens: 1024, count: 8}}\ngeneration: {sampling: {top_k: 5}}\n",
      "exp.yaml");
  CHECK(synthetic.base.model_weights == "synthetic");
  CHECK(synthetic.prompts.synthetic_tokens == 1024);
  CHECK(synthetic.base.sampling == "sample");
  CHECK(synthetic.base.top_k == 5);
  CHECK(synthetic.base.temperature == 1.0);
}

TEST_CASE("Zip axes move together and turn faster than the matrix") {
  const ExperimentSpec spec = parse_experiment(
      head +
          "sweep:\n  zip: {ssm.variant: [lookback, default], ssm.lookback: [3, 0]}\n"
          "  matrix: {ssm.chunk_size: [64, 128]}\n",
      "exp.yaml");
  CHECK(points_of(spec) == std::vector<std::string>{"lookback/64/3", "default/64/0",
                                                    "lookback/128/3", "default/128/0"});
  CHECK(spec.axis_paths ==
        std::vector<std::string>{"ssm.chunk_size", "ssm.variant", "ssm.lookback"});
}

TEST_CASE("Exclude conditions follow and before or, parentheses and every comparison") {
  const auto kept = [](const std::string& condition) {
    const ExperimentSpec spec = parse_experiment(
        head +
            "sweep:\n  matrix: {ssm.chunk_size: [1, 2, 3], ssm.lookback: [0, 1]}\n  exclude: [\"" +
            condition + "\"]\n",
        "exp.yaml");
    std::string result;
    for (const SweepPoint& point : spec.points) {
      result +=
          std::to_string(point.settings.chunk_size) + std::to_string(point.settings.lookback) + " ";
    }
    return result;
  };
  CHECK(kept("ssm.chunk_size == 2") == "10 11 30 31 ");
  CHECK(kept("ssm.chunk_size != 2") == "20 21 ");
  CHECK(kept("ssm.chunk_size < 2") == "20 21 30 31 ");
  CHECK(kept("ssm.chunk_size <= 2") == "30 31 ");
  CHECK(kept("ssm.chunk_size > 2") == "10 11 20 21 ");
  CHECK(kept("ssm.chunk_size>=2") == "10 11 ");
  CHECK(kept("ssm.chunk_size == 1 or ssm.chunk_size == 2 and ssm.lookback == 0") == "21 30 31 ");
  CHECK(kept("(ssm.chunk_size == 1 or ssm.chunk_size == 2) and ssm.lookback == 0") ==
        "11 21 30 31 ");
  CHECK(kept("ssm.variant == 'default_optimized' and ssm.lookback == 1") == "10 20 30 ");
  CHECK(kept("generation.use_cache != true or ssm.lookback == 1") == "10 20 30 ");
  CHECK(kept("model.path == 'm' and generation.sampling.top_p >= 0.5 and ssm.chunk_size==3") ==
        "10 11 20 21 ");
}

TEST_CASE("Overrides change, add and take out keys") {
  const ExperimentSpec spec =
      parse_experiment(full, "exp.yaml",
                       {"name=again", "prompts.limit=3", "generation.sampling.temperature=0.5",
                        "sweep.matrix.ssm.chunk_size=[32]",
                        "sweep.exclude=", "sweep.matrix.model.dtype=[fp32, bf16]",
                        "output.dir=", "model={path: 'other place', layers: 2}"});
  CHECK(spec.name == "again");
  CHECK(spec.prompts.limit == 3);
  CHECK(spec.base.sampling == "sample");
  CHECK(spec.base.temperature == 0.5);
  CHECK(spec.base.model_path == "other place");
  CHECK(spec.base.model_layers == 2);
  CHECK(spec.output.dir == "results/again");
  CHECK(spec.points.size() == 6);
  CHECK(spec.points[1].settings.model_dtype == "bf16");
  CHECK(spec.axis_paths ==
        std::vector<std::string>{"ssm.variant", "ssm.chunk_size", "model.dtype"});
  const ExperimentSpec synthetic =
      parse_experiment(full, "exp.yaml",
                       {"prompts.file=", "prompts.limit=", "prompts.synthetic.tokens=4",
                        "prompts.synthetic.count=2"});
  CHECK(synthetic.prompts.synthetic_count == 2);
  CHECK(parse_experiment(full, "exp.yaml", {"sweep="}).points.size() == 1);
}

TEST_CASE("The resolved text is valid input that resolves to itself") {
  const std::vector<std::vector<std::string>> variations = {
      {},
      {"generation.sampling={temperature: 0.1, top_k: 3, top_p: 1e-3}"},
      {"generation.sampling=sample", "model.path='a \"b\" \\ c: #d'"},
      {"model.path='012'", "prompts.file='~'"},
      {"model.path=synthetic:bamba-9b", "prompts={synthetic: {tokens: 3, count: 2}}"},
      {"sweep.zip.ssm.lookback=[1, 2]", "sweep.zip.execution.prefill_tokens=[0, 64]"},
      {"sweep.matrix.model.path=['a, b', '[c]', \"d'\"]"},
      {"sweep.matrix.generation.sampling.temperature=[0.30000000000000004, 100]"},
      {"scenario={type: offline, batch: 3}"},
      {"sweep="},
  };
  for (const auto& overrides : variations) {
    CAPTURE(overrides);
    const ExperimentSpec spec = parse_experiment(full, "exp.yaml", overrides);
    CAPTURE(spec.yaml_resolved);
    const ExperimentSpec again = parse_experiment(spec.yaml_resolved, "resolved.yaml");
    CHECK(again.yaml_resolved == spec.yaml_resolved);
    CHECK(again.config_hash == spec.config_hash);
    REQUIRE(again.points.size() == spec.points.size());
    for (std::size_t i = 0; i < spec.points.size(); ++i) {
      CHECK(settings_text(again.points[i].settings) == settings_text(spec.points[i].settings));
    }
  }
}

TEST_CASE("The configuration hash ignores form and launcher, and nothing else") {
  const std::string hash = parse_experiment(full, "exp.yaml").config_hash;
  CHECK(hash.size() == 32);
  for (const char* change : {"output.dir=x", "output.durability=item", "slurm=", "slurm.account=me",
                             "parallel.threads=2", "parallel.deadline=2s", "max_failures=3",
                             "profile.trace=true", "execution.backend=auto", "ssm.lookback=1"}) {
    CAPTURE(change);
    CHECK(parse_experiment(full, "exp.yaml", {change}).config_hash == hash);
  }
  CHECK(parse_experiment("# a comment\n" + full, "other.yaml").config_hash == hash);
  for (const char* change :
       {"name=x", "prompts.limit=1", "measure.repeats=4", "measure.order=blocked", "ssm.lookback=2",
        "generation.seed=1", "parallel.mode=sequence", "scenario.type=offline",
        "sweep.exclude=", "sweep.matrix.ssm.variant=[default]"}) {
    CAPTURE(change);
    CHECK(parse_experiment(full, "exp.yaml", {change}).config_hash != hash);
  }
}

TEST_CASE("An experiment is the bytes that were read, whatever happens to the file") {
  const TemporaryFolder folder;
  const std::string bytes = read_experiment_file(folder.write("exp.yaml", full));
  std::filesystem::remove(folder.path("exp.yaml"));
  CHECK(bytes == full);
  CHECK(parse_experiment(bytes, "exp.yaml").points.size() == 8);
}

TEST_CASE("Large sweeps expand in moderate time") {
  std::string values = "0";
  for (int i = 1; i < 200; ++i) values += "," + std::to_string(i);
  const ExperimentSpec spec = parse_experiment(
      head, "exp.yaml",
      {"sweep.matrix.ssm.chunk_size=[" + values + "]", "sweep.matrix.ssm.lookback=[" + values + "]",
       "sweep.exclude=[ssm.chunk_size < 100]"});
  CHECK(spec.points.size() == 100 * 200);
}

TEST_CASE("The shipped experiments are valid") {
  for (const auto& entry : std::filesystem::directory_iterator(std::string(CHUNKSTATE_SOURCE_DIR) +
                                                               "/experiments/configs")) {
    CAPTURE(entry.path());
    const ExperimentSpec spec = load_experiment(entry.path().string());
    CHECK(spec.name == entry.path().stem());
    if (spec.base.model_path.starts_with("synthetic:")) continue;
    CHECK(std::filesystem::exists(std::string(CHUNKSTATE_SOURCE_DIR) + "/" + spec.prompts.file));
  }
}

}  // namespace
}  // namespace chunkstate
