// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/evaluation_work.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "experiments/run/evaluator.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/item_probe.hpp"
#include "experiments/run/progress.hpp"
#include "experiments/run/stop_signal.hpp"
#include "parallel/partition.hpp"

namespace chunkstate {
namespace {

/// An output to evaluate, as rank 0 tells the others.
struct Output {
  std::size_t item = 0;  // index into the plan
  bool suspect = false;  // processes died of it
  RequestRecord request;
};

std::string encoded(const std::vector<Output>& outputs) {
  nlohmann::json list = nlohmann::json::array();
  for (const Output& output : outputs) {
    list.push_back({output.item, output.suspect, output.request.text, output.request.token_ids});
  }
  return list.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<Output> decoded(const std::string& text) {
  std::vector<Output> outputs;
  for (const auto& entry : nlohmann::json::parse(text)) {
    Output output{entry[0].get<std::size_t>(), entry[1].get<bool>(), {}};
    output.request.text = entry[2].get<std::string>();
    output.request.token_ids = entry[3].get<std::vector<std::int32_t>>();
    outputs.push_back(std::move(output));
  }
  return outputs;
}

/// Rank 0 reads what all ranks wrote.
std::vector<Output> shared_outputs(const Job& job, const std::vector<std::size_t>& items) {
  std::string text;
  agree(job.world, [&] {
    if (job.world.rank() != 0) return;
    std::vector<Output> outputs;
    const JournalContents journals = read_journals(job.directory);
    for (const std::size_t item : items) {
      const std::string& id = job.setup.plan[item].id;
      const RequestRecord* record = journals.find(id);
      if (record == nullptr || !is_to_evaluate(*record, job.options.retry_failed)) continue;
      const auto deaths = journals.deaths.find(evaluation_claim(id));
      outputs.push_back(
          {item, deaths != journals.deaths.end() && deaths->second >= deaths_of_a_poisonous_item,
           *record});
    }
    text = encoded(outputs);
  });
  job.world.broadcast(text, 0);
  return decoded(text);
}

/// The outputs that this rank's host evaluates, in the plan's order.
std::vector<Output> outputs_of_this_host(const Job& job, std::vector<Output> all) {
  std::vector<double> costs;
  for (const Output& output : all) costs.push_back(std::max(job.setup.plan[output.item].cost, 1.0));
  const auto parts = balance(costs, job.world.hosts());
  std::vector<std::int64_t> mine = parts[static_cast<std::size_t>(job.world.host())];
  std::sort(mine.begin(), mine.end());
  std::vector<Output> outputs;
  for (const std::int64_t i : mine) outputs.push_back(std::move(all[static_cast<std::size_t>(i)]));
  return outputs;
}

}  // namespace

bool is_to_evaluate(const RequestRecord& request, bool retry_failed) {
  if (!request.is_to_evaluate()) return false;
  return !request.evaluation || (retry_failed && !request.evaluation->error.empty());
}

int evaluate_outputs(const Job& job, const std::vector<std::size_t>& items,
                     JournalWriter* journal) {
  const std::vector<Output> outputs = outputs_of_this_host(job, shared_outputs(job, items));
  const auto counter = make_shared_counter(job.world);
  Progress progress(static_cast<std::int64_t>(outputs.size()),
                    job.world.rank() == 0 && !job.options.quiet, "outputs evaluated");
  Evaluator evaluator(job.setup.spec, job.setup.prompts, job.engines);
  std::int64_t failures = 0;
  try {
    while (stop_signal() == 0) {
      const std::int64_t turn = counter->next();
      if (turn >= static_cast<std::int64_t>(outputs.size())) return exit_ok;
      const Output& output = outputs[static_cast<std::size_t>(turn)];
      const WorkItem& item = job.setup.plan[output.item];
      const std::string claim = evaluation_claim(item.id);
      Evaluation evaluation;
      const std::string death = output.suspect ? probe_item(job.options, job.directory, claim) : "";
      if (death.empty()) {
        journal->claim(claim);
        evaluation = evaluator.run(item, output.request);
      } else {
        evaluation.error =
            "poison: processes died while they evaluated this output, and so did one that did "
            "nothing else (" +
            death + ")";
      }
      journal->append(item.id, evaluation);
      if (!evaluation.error.empty()) ++failures;
      progress.update(turn + 1, failures);
    }
    return exit_stopped_early;
  } catch (...) {  // the journal's file system failed: what is acknowledged is safe
    progress.finish();
    return report_failure(job.world.rank());
  }
}

}  // namespace chunkstate
