// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/key_table.hpp"

#include <algorithm>
#include <array>

#include "core/variant_names.hpp"
#include "experiments/plan/shard.hpp"

namespace chunkstate {
namespace {

using Kind = Domain::Kind;

constexpr double billion = 1e9;

template <auto Member>
Field point(ExperimentSpec&, PointSettings& settings) {
  return &(settings.*Member);
}

template <auto Member>
Field top(ExperimentSpec& spec, PointSettings&) {
  return &(spec.*Member);
}

template <auto Section, auto Member>
Field in(ExperimentSpec& spec, PointSettings&) {
  return &(spec.*Section.*Member);
}

template <auto Member>
Field slurm(ExperimentSpec& spec, PointSettings&) {
  return &(spec.slurm.*Member);
}

Field not_stored(ExperimentSpec&, PointSettings&) { return {}; }

Domain of(Kind kind) { return {kind}; }
Domain words_of(Kind kind, std::string_view more) {
  Domain domain{kind};
  domain.more_characters = more;
  return domain;
}
Domain word(std::string_view more = "") { return words_of(Kind::word, more); }
Domain words() { return words_of(Kind::words, ""); }
Domain options() { return words_of(Kind::options, "[]%"); }
Domain integer(double least, double most) { return {Kind::integer, least, most}; }
Domain number_above(double least, double most) { return {Kind::number, least, most, true}; }
Domain choice(std::vector<std::string> (*choices)(), std::vector<std::string> later = {}) {
  return {Kind::choice, 0, 0, false, choices, std::move(later)};
}
Domain boolean() { return {Kind::boolean, 0, 0, false, nullptr, {}}; }

using Names = std::vector<std::string>;
Names dtypes() { return {"fp32", "bf16", "fp16"}; }
Names weights() { return {"checkpoint", "synthetic"}; }
Names samplings() { return {"greedy", "sample"}; }
Names scenarios() { return {"single_stream", "offline"}; }
Names backends() { return {"auto", "cpu", "cuda", "reference"}; }
Names execution_modes() { return {"auto", "eager", "graph"}; }
Names attentions() { return {"flash", "naive"}; }
Names references() { return {"none", "exact_fp32"}; }
Names switches() { return {"auto", "off", "on"}; }
Names off_on() { return {"off", "on"}; }
Names orders() { return {"interleaved", "blocked"}; }
Names modes() { return {"data", "sequence", "tensor"}; }
Names durabilities() { return {"item", "group", "none"}; }
Names launchers() { return {"srun", "mpirun", "none"}; }
Names gpu_options() { return {"gpus-per-node", "gpus-per-task", "gres"}; }

using Spec = ExperimentSpec;
using Point = PointSettings;
using Slurm = SlurmSettings;

const std::vector<Key>& table() {
  // 2^53: the largest range in which a limit given as a double is exact.
  static constexpr double exact = 9007199254740992.0;
  static const std::vector<Key> keys = {
      {"schema", Scope::experiment, not_stored, integer(1, 1), "Version of this format.", true},
      {"name", Scope::experiment, top<&Spec::name>, of(Kind::name),
       "Names the experiment, its results and its jobs.", true},

      {"model.path", Scope::point, point<&Point::model_path>, of(Kind::text),
       "A Hugging Face folder, or `synthetic:NAME`: a real model's shapes with seeded weights.",
       true},
      {"model.dtype", Scope::point, point<&Point::model_dtype>, choice(dtypes),
       "How activations are stored."},
      {"model.layers", Scope::point, point<&Point::model_layers>, integer(0, 10000),
       "The first N layers only; 0: all."},
      {"model.context", Scope::point, point<&Point::model_context>, integer(0, 1 << 24),
       "Tokens that a sequence may have where there is attention; 0: what the model is made for."},
      {"model.weights", Scope::point, point<&Point::model_weights>, choice(weights),
       "`synthetic` draws seeded weights in the model's shapes; always so for `synthetic:NAME`."},

      {"prompts.file", Scope::experiment, in<&Spec::prompts, &PromptSettings::file>, of(Kind::text),
       "A JSON list or JSON Lines of prompts. Either this or `prompts.synthetic`."},
      {"prompts.limit", Scope::experiment, in<&Spec::prompts, &PromptSettings::limit>,
       integer(0, billion), "The first N prompts only; 0: all."},
      {"prompts.synthetic.tokens", Scope::experiment,
       in<&Spec::prompts, &PromptSettings::synthetic_tokens>, integer(1, 1 << 24),
       "Tokens of each prompt of seeded random ids.", true},
      {"prompts.synthetic.count", Scope::experiment,
       in<&Spec::prompts, &PromptSettings::synthetic_count>, integer(1, billion),
       "Number of such prompts.", true},

      {"generation.max_new_tokens", Scope::point, point<&Point::max_new_tokens>,
       integer(1, 1 << 24), "Tokens to generate for each prompt."},
      {"generation.batch", Scope::point, point<&Point::batch>, integer(1, 4096),
       "Equal copies of the prompt that are generated together; throughput counts them all."},
      {"generation.use_cache", Scope::point, point<&Point::use_cache>, boolean(),
       "Decode from the cached state; `false` runs the whole sequence again for each token."},
      {"generation.sampling", Scope::point, point<&Point::sampling>, choice(samplings),
       "`greedy`, or a map of the three keys below (`sample` is all their defaults)."},
      {"generation.sampling.temperature", Scope::point, point<&Point::temperature>,
       number_above(0, 1000), "Divides the logits."},
      {"generation.sampling.top_k", Scope::point, point<&Point::top_k>, integer(0, billion),
       "Draws from the k likeliest tokens; 0: all."},
      {"generation.sampling.top_p", Scope::point, point<&Point::top_p>, number_above(0, 1),
       "Draws from the likeliest tokens that together reach p."},
      {"generation.stop_at_eos", Scope::point, point<&Point::stop_at_eos>, boolean(),
       "Stop at an end-of-text token; `false` makes all answers equally long."},
      {"generation.seed", Scope::point, point<&Point::seed>, integer(0, exact),
       "Seed of sampling, synthetic weights and synthetic prompts."},

      {"scenario.type", Scope::point, point<&Point::scenario>,
       choice(scenarios, {"multi_stream", "server"}),
       "How requests reach a rank: `single_stream`, one after the other, or `offline`, several at "
       "once, a newcomer for each that ends."},
      {"scenario.batch", Scope::point, point<&Point::scenario_batch>, integer(1, 4096),
       "Different prompts of a rank that `offline` decodes together."},

      {"ssm.variant", Scope::point, point<&Point::variant>, choice(all_variant_names),
       "How states pass chunk borders; the last four: what a Mamba-1 model's scan fuses."},
      {"ssm.chunk_size", Scope::point, point<&Point::chunk_size>, integer(0, 1 << 20),
       "Tokens of a chunk; 0: the model's own."},
      {"ssm.lookback", Scope::point, point<&Point::lookback>, integer(0, 1 << 20),
       "Earlier chunks that the variant `lookback` remembers."},
      {"ssm.state_dtype", Scope::point, point<&Point::state_dtype>, choice(dtypes),
       "Storage of the state between tokens and prefill pieces."},

      {"execution.backend", Scope::point, point<&Point::backend>, choice(backends),
       "Who computes; `auto` takes a GPU if there is one."},
      {"execution.mode", Scope::point, point<&Point::mode>, choice(execution_modes),
       "How decode steps reach a GPU: launch after launch, or recorded once and replayed; `auto` "
       "is "
       "`graph` on a GPU, `eager` elsewhere."},
      {"execution.autotune", Scope::point, point<&Point::autotune>, choice(off_on),
       "Time the library's algorithms for each shape of matrix product and keep the fastest, for "
       "later runs too; GPU only."},
      {"execution.fusion", Scope::point, point<&Point::fusion>, choice(switches),
       "Decode through fused kernels; GPU with bf16 or fp16 only, which `auto` goes by."},
      {"execution.attention", Scope::point, point<&Point::attention>, choice(attentions),
       "`flash` keeps scores on the chip; `naive` writes all of them to memory, as a baseline."},
      {"execution.attention_block", Scope::point, point<&Point::attention_block>, integer(0, 128),
       "Keys that `flash` takes at a time in a prompt: 32, 64 or 128; 0: the kernel's own number."},
      {"execution.prefill_tokens", Scope::point, point<&Point::prefill_tokens>, integer(0, 1 << 24),
       "Longest piece of a prompt per forward pass; 0: whole prompts, on a GPU up to 32,768 "
       "tokens."},

      {"measure.warmup", Scope::experiment, in<&Spec::measure, &MeasureSettings::warmup>,
       integer(0, 1000),
       "Unrecorded requests of each rank before its first recorded one at a point."},
      {"measure.repeats", Scope::experiment, in<&Spec::measure, &MeasureSettings::repeats>,
       integer(1, 1000000), "How often every request is measured."},
      {"measure.order", Scope::experiment, in<&Spec::measure, &MeasureSettings::order>,
       choice(orders),
       "`interleaved` goes through all points in each repeat, `blocked` finishes point after "
       "point."},

      {"accuracy.reference", Scope::experiment, in<&Spec::accuracy, &AccuracySettings::reference>,
       choice(references),
       "Compare predictions, after the timed runs, with those of the same weights computed in fp32 "
       "by `default_optimized`."},
      {"accuracy.state_drift", Scope::experiment,
       in<&Spec::accuracy, &AccuracySettings::state_drift>, boolean(),
       "Also how far each mamba layer's last state is from the reference's."},
      {"accuracy.gptscore.judge", Scope::experiment, in<&Spec::accuracy, &AccuracySettings::judge>,
       of(Kind::text), "GPTScore of the outputs: the folder of the model that judges.", true},
      {"accuracy.gptscore.quality", Scope::experiment,
       in<&Spec::accuracy, &AccuracySettings::quality>, of(Kind::text),
       "What the judge reads before a text whose quality it scores; `{given}` is the other text."},
      {"accuracy.gptscore.naturalness", Scope::experiment,
       in<&Spec::accuracy, &AccuracySettings::naturalness>, of(Kind::text),
       "The same for naturalness."},
      {"accuracy.gptscore.informativeness", Scope::experiment,
       in<&Spec::accuracy, &AccuracySettings::informativeness>, of(Kind::text),
       "The same for informativeness."},

      {"parallel.mode", Scope::experiment, in<&Spec::parallel, &ParallelSettings::mode>,
       choice(modes),
       "`data`: each rank takes whole prompts; `sequence`: a group of ranks shares each prompt's "
       "prefill; `tensor`: a group shares every layer's heads and channels."},
      {"parallel.ranks_per_group", Scope::launcher,
       in<&Spec::parallel, &ParallelSettings::ranks_per_group>, integer(1, 4096),
       "Ranks that work on one prompt together."},
      {"parallel.deadline", Scope::launcher, in<&Spec::parallel, &ParallelSettings::deadline>,
       of(Kind::duration),
       "How long ranks of a group wait for one that gives no sign of life; if not stated, 60s, or "
       "20 "
       "times the usual wait."},
      {"parallel.threads", Scope::launcher, in<&Spec::parallel, &ParallelSettings::threads>,
       integer(0, 4096), "Threads per rank; 0: cores of the host divided by its ranks."},

      {"profile.trace", Scope::launcher, top<&Spec::trace>, boolean(),
       "Write a timeline of all ranks and GPUs: `DIR/trace.json`, for Perfetto and "
       "chrome://tracing."},
      {"max_failures", Scope::launcher, top<&Spec::max_failures>, integer(0, billion),
       "Stop after so many failed requests; 0: never."},

      {"output.dir", Scope::launcher, in<&Spec::output, &OutputSettings::dir>, of(Kind::text),
       "Where journals and results go; if not stated, `results/` and the name."},
      {"output.durability", Scope::launcher, in<&Spec::output, &OutputSettings::durability>,
       choice(durabilities),
       "When a result is on disk: after each item, each group of items, or when the system likes."},

      {"slurm.array", Scope::launcher, slurm<&Slurm::array>, integer(1, max_shards),
       "Array tasks that share the items."},
      {"slurm.simultaneous", Scope::launcher, slurm<&Slurm::simultaneous>, integer(0, max_shards),
       "Array tasks that run at the same time; 0: as many as the site lets."},
      {"slurm.nodes", Scope::launcher, slurm<&Slurm::nodes>, integer(1, 100000),
       "Nodes of a task."},
      {"slurm.tasks_per_node", Scope::launcher, slurm<&Slurm::tasks_per_node>, integer(1, 4096),
       "Ranks on a node."},
      {"slurm.cpus_per_task", Scope::launcher, slurm<&Slurm::cpus_per_task>, integer(0, 4096),
       "Cores of a rank; 0: the site's default."},
      {"slurm.gpus_per_node", Scope::launcher, slurm<&Slurm::gpus_per_node>, integer(0, 64),
       "GPUs on a node: the i-th rank there computes on the i-th of them."},
      {"slurm.gpu_option", Scope::launcher, slurm<&Slurm::gpu_option>, choice(gpu_options),
       "How sbatch is asked for them, as the site wants it; ranks see all of their node's anyway."},
      {"slurm.gpu_type", Scope::launcher, slurm<&Slurm::gpu_type>, word(),
       "Of which type, as `h100`."},
      {"slurm.memory", Scope::launcher, slurm<&Slurm::memory>, of(Kind::size), "Memory on a node."},
      {"slurm.time", Scope::launcher, slurm<&Slurm::time>, of(Kind::duration),
       "Time limit of a task; it is queued again until its items are done."},
      {"slurm.signal_before_end", Scope::launcher, slurm<&Slurm::signal_before_end>,
       of(Kind::duration),
       "How long before the time limit a task is told to stop: longer than an item and a minute."},
      {"slurm.requeues", Scope::launcher, slurm<&Slurm::requeues>, integer(0, 1000),
       "How often in a row a task is queued again without a new result in the directory."},
      {"slurm.merge_time", Scope::launcher, slurm<&Slurm::merge_time>, of(Kind::duration),
       "Time limit of the job that writes results.h5."},
      {"slurm.launcher", Scope::launcher, slurm<&Slurm::launcher>, choice(launchers),
       "Who starts the ranks of a task; `none`: one rank without MPI."},
      {"slurm.mpi", Scope::launcher, slurm<&Slurm::mpi>, word(),
       "`srun --mpi=` (see `srun --mpi=list`)."},
      {"slurm.launcher_options", Scope::launcher, slurm<&Slurm::launcher_options>, options(),
       "More for srun or mpirun, as `--map-by numa`."},
      {"slurm.modules", Scope::launcher, slurm<&Slurm::modules>, words(),
       "What `module load` loads first, as `gcc/12 openmpi/4`."},
      {"slurm.sbatch_options", Scope::launcher, slurm<&Slurm::sbatch_options>, options(),
       "More for sbatch, array and merge job, as `--exclusive --mail-type=END`."},
      {"slurm.merge_partition", Scope::launcher, slurm<&Slurm::merge_partition>, word(),
       "For the merge job, which needs no GPU; if not stated, `slurm.partition`."},
      {"slurm.account", Scope::launcher, slurm<&Slurm::account>, word(), "As sbatch takes it."},
      {"slurm.partition", Scope::launcher, slurm<&Slurm::partition>, word(), "As sbatch takes it."},
      {"slurm.qos", Scope::launcher, slurm<&Slurm::qos>, word(), "As sbatch takes it."},
      {"slurm.constraint", Scope::launcher, slurm<&Slurm::constraint>, word("&|()[]*"),
       "As sbatch takes it."},
      {"slurm.reservation", Scope::launcher, slurm<&Slurm::reservation>, word(),
       "As sbatch takes it."},
  };
  return keys;
}

}  // namespace

std::span<const Key> experiment_keys() { return table(); }

const Key* find_key(std::string_view path) {
  const auto found = std::ranges::find(table(), path, &Key::path);
  return found == table().end() ? nullptr : &*found;
}

bool is_section(std::string_view path) {
  return std::ranges::any_of(table(), [&](const Key& key) {
    return key.path.size() > path.size() && key.path.starts_with(path) &&
           key.path[path.size()] == '.';
  });
}

std::span<const std::string_view> later_keys() {
  static constexpr std::array<std::string_view, 1> keys = {"measure.until"};
  return keys;
}

}  // namespace chunkstate
