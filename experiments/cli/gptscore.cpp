// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "core/engine_names.hpp"
#include "core/errors.hpp"
#include "experiments/cli/results_path.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/merge.hpp"
#include "experiments/run/evaluator.hpp"
#include "parallel/communicator.hpp"

namespace chunkstate {
namespace {

struct GptScoreFlags {
  std::string file;
  std::string out;
  std::string judge;
  std::string backend = "auto";
  int threads = 0;
  AccuracySettings accuracy;  // its instructions
  std::vector<std::string> argv;
};

/// What was known of the request, with the judge's scores.
std::shared_ptr<const Evaluation> scored(const RequestRecord& request, const Prompt& prompt,
                                         const Judge& judge,
                                         const JudgeInstructions& instructions) {
  Evaluation evaluation = request.evaluation ? *request.evaluation : Evaluation{};
  evaluation.gptscore = judge_output(judge, instructions, prompt.text, prompt.answer, request.text);
  return std::make_shared<const Evaluation>(std::move(evaluation));
}

int gptscore_verb(const GptScoreFlags& flags) {
  const JudgeInstructions instructions = instructions_of(flags.accuracy);
  for (const std::string& instruction : instructions) parse_judge_template(instruction);
  const std::string file = results_path(flags.file);
  ResultsMerge merge;
  MergeInput input;
  input.path = file;
  input.results = read_results(input.path);
  merge.add(std::move(input));
  ResultsContent content = merge.take(collect_run_provenance(flags.argv, mpi_library_version()));

  EnginePool engines(resolve_threads(flags.threads));
  const PointSettings settings = judge_settings(flags.judge, flags.backend);
  const OpenModel& files = engines.files(settings);
  const Judge judge(files, engines.model(settings));
  std::int64_t count = 0;
  for (RequestRecord& request : content.requests) {
    if (!request.is_to_evaluate()) continue;
    const Prompt& prompt = content.prompts.prompts[static_cast<std::size_t>(request.prompt)];
    request.evaluation = scored(request, prompt, judge, instructions);
    ++count;
  }
  content.evaluation.judge = files.name;
  content.evaluation.judge_digest = files.digest();
  content.evaluation.instructions = instructions;
  const std::string out = flags.out.empty() ? file : flags.out;
  const std::string digest = write_results(out, content);
  fmt::print("{} outputs scored by {}\nresults: {}\ndigest:  {}\n", count, files.name, out, digest);
  return exit_ok;
}

}  // namespace

void add_gptscore(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<GptScoreFlags>();
  CLI::App* verb = app.add_subcommand(
      "gptscore", "Add GPTScore, a judge model's view of the outputs, to a results file");
  verb->add_option("file", flags->file, "results.h5, or the folder of a run")->required();
  verb->add_option("--judge", flags->judge, "folder of the model that judges")->required();
  verb->add_option("-o,--output", flags->out, "results file to write; default: FILE itself");
  verb->add_option("--quality", flags->accuracy.quality,
                   "what the judge reads before a text; {given} is the other text")
      ->capture_default_str();
  verb->add_option("--naturalness", flags->accuracy.naturalness)->capture_default_str();
  verb->add_option("--informativeness", flags->accuracy.informativeness)->capture_default_str();
  verb->add_option("--backend", flags->backend, "auto, cpu, cuda or reference")
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "CPU threads; 0: all this process may use")
      ->capture_default_str();
  verb->callback([flags, &action] {
    flags->argv = command_line();
    action = [flags] { return gptscore_verb(*flags); };
  });
}

}  // namespace chunkstate
