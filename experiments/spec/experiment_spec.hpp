// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace chunkstate {

/// Settings that decide what one sweep point computes. Every field is a possible sweep axis, named
/// by its dotted YAML path ("ssm.chunk_size").
struct PointSettings {
  // model
  std::string model_path;                    // a Hugging Face folder, or "synthetic:NAME"
  std::string model_dtype = "bf16";          // fp32 | bf16 | fp16: of activations
  std::int64_t model_layers = 0;             // first N layers; 0 means all
  std::int64_t model_context = 0;            // tokens of a sequence at most; 0: the model's own
  std::string model_weights = "checkpoint";  // checkpoint | synthetic (always for "synthetic:NAME")
  // generation
  std::int64_t max_new_tokens = 100;
  std::int64_t batch = 1;  // equal copies of the prompt, generated together
  bool use_cache = true;
  std::string sampling = "greedy";  // greedy | sample
  double temperature = 1.0;         // the rest: sampling == sample only
  std::int64_t top_k = 0;
  double top_p = 1.0;
  bool stop_at_eos = false;
  std::uint64_t seed = 42;
  // scenario
  std::string scenario = "single_stream";  // single_stream | offline
  std::int64_t scenario_batch = 1;         // offline: prompts of a rank that decode together
  // ssm
  std::string variant = "default_optimized";
  std::int64_t chunk_size = 0;       // 0: the model's own
  std::int64_t lookback = 1;         // variant lookback only
  std::string state_dtype = "fp32";  // of the SSD state between tokens and chunks
  // execution
  std::string backend = "auto";      // auto | cpu | cuda | reference
  std::string mode = "auto";         // auto | eager | graph
  std::string autotune = "off";      // off | on
  std::string fusion = "auto";       // auto | off | on
  std::string attention = "flash";   // flash | naive
  std::int64_t attention_block = 0;  // keys that flash takes at a time; 0: the kernel's own number
  std::int64_t prefill_tokens = 0;   // longest piece of a prompt per forward pass; 0: whole prompts
};

struct PromptSettings {
  std::string file;        // JSON list or JSON Lines; empty if synthetic
  std::int64_t limit = 0;  // first N prompts; 0: all
  std::int64_t synthetic_tokens =
      0;  // > 0: prompts of this many seeded random tokens instead of a file
  std::int64_t synthetic_count = 0;
};

struct MeasureSettings {
  std::int64_t warmup = 1;  // unrecorded requests per rank and point before its first recorded one
  std::int64_t repeats = 1;
  std::string order = "interleaved";  // interleaved | blocked
};

/// What is computed of the results after everything is timed. Aspects of GPTScore are instructions
/// with `{given}` where the text stands that the judge reads before the scored one.
struct AccuracySettings {
  std::string reference = "none";  // none | exact_fp32
  bool state_drift = false;
  std::string judge;  // a Hugging Face folder; empty: no GPTScore
  std::string quality = "Read this text: {given} A continuation of high quality:";
  std::string naturalness = "Read this text: {given} A fluent and natural continuation:";
  std::string informativeness = "Read this text: {given} A continuation with the key facts:";

  bool compares() const { return reference != "none"; }
  bool judges() const { return !judge.empty(); }
};

struct OutputSettings {
  std::string dir;                   // default: results/<name>
  std::string durability = "group";  // item | group | none
};

struct ParallelSettings {
  std::string mode = "data";  // data | sequence | tensor
  std::int64_t ranks_per_group = 1;
  std::string deadline;      // of a rank that others wait for, as "60s"; empty: 60 s or more
  std::int64_t threads = 0;  // per rank; 0: cores of the host divided by its ranks
};

struct SlurmSettings {  // read by `submit`; no effect on results
  std::int64_t array = 1;
  std::int64_t simultaneous = 0;  // array tasks at a time; 0: all
  std::int64_t nodes = 1;         // per array task, as the next four
  std::int64_t tasks_per_node = 1;
  std::int64_t cpus_per_task = 0;  // 0: the site's default
  std::int64_t gpus_per_node = 0;
  std::string gpu_option = "gpus-per-node";  // gpus-per-node | gpus-per-task | gres
  std::string gpu_type;
  std::string memory;                      // per node, "16G"; empty, as below: the site's default
  std::string time;                        // "30m"
  std::string signal_before_end = "120s";  // USR1 so long before the time limit
  std::int64_t requeues = 5;               // in a row without a new result
  std::string merge_time = "30m";
  std::string launcher = "srun";  // srun | mpirun | none
  std::string mpi = "pmix";       // srun --mpi=
  std::string launcher_options;   // words with a blank between them, as the next two
  std::string modules;
  std::string sbatch_options;
  std::string merge_partition;
  std::string account, partition, qos, constraint, reservation;
};

/// A YAML file's name, for messages, and its text.
struct YamlSource {
  std::string file;
  std::string text;
};

/// One value of one axis at one point, as written in YAML.
struct AxisValue {
  std::string path;   // "ssm.variant"
  std::string value;  // "independent"
};

struct SweepPoint {
  std::int64_t index = 0;
  std::vector<AxisValue> axes;
  PointSettings settings;
};

/// A validated experiment: all defaults filled in, sweep expanded.
struct ExperimentSpec {
  std::string name;
  PointSettings base;
  PromptSettings prompts;
  MeasureSettings measure;
  AccuracySettings accuracy;
  OutputSettings output;
  ParallelSettings parallel;
  bool trace = false;
  SlurmSettings slurm;
  std::int64_t max_failures = 0;  // stop claiming after so many failed items; 0: never
  std::vector<std::string> axis_paths;
  std::vector<SweepPoint> points;  // at least one
  std::string yaml_source;         // the file as read
  std::string yaml_resolved;       // canonical text with every default, launcher settings left out
  std::string config_hash;         // 32 hex digits of yaml_resolved
};

/// Parses and validates. `file` names the source in messages (`exp.yaml:12:5: unknown key 'promts'
/// (did you mean 'prompts'?)`). `overrides` are `key.path=value` texts (`-s`), applied in order:
/// the value is YAML, an empty one takes the key out, and `sweep.matrix.ssm.variant=[a, b]` sets an
/// axis. `site`: a map with keys of the `slurm` section, for those that the file does not have.
/// Relative paths stay relative to the working directory. Touches no file. Throws UsageError.
ExperimentSpec parse_experiment(const std::string& yaml, const std::string& file,
                                const std::vector<std::string>& overrides = {},
                                const YamlSource& site = {});

/// The bytes of a regular file of at most 1 MiB: rank 0 reads and broadcasts them, so that all
/// ranks parse the same text. Throws UsageError.
std::string read_experiment_file(const std::string& path);

/// read_experiment_file, then parse_experiment.
ExperimentSpec load_experiment(const std::string& path,
                               const std::vector<std::string>& overrides = {});

/// One `path: value` line for each setting: what decides a request's result beside its model and
/// its prompt.
std::string settings_text(const PointSettings& settings);

/// JSON Schema of the experiment file, for editors.
std::string experiment_json_schema();

}  // namespace chunkstate
