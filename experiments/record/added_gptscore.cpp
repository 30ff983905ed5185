// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/added_gptscore.hpp"

#include <fmt/format.h>

#include <map>
#include <memory>

#include "experiments/record/result_digest.hpp"

namespace chunkstate {

void keep_added_gptscore(const std::filesystem::path& file, ResultsContent& content) {
  if (content.evaluation.judges() || !std::filesystem::exists(file)) return;
  StoredResults before;
  try {
    before = read_results(file);
  } catch (const std::exception&) {
    return;  // damaged or unreadable: it is being written anew
  }
  if (!before.evaluation.judges()) return;
  std::map<std::string, const RequestRecord*> old;
  for (const RequestRecord& request : before.requests) old[request.item_id] = &request;
  std::vector<std::shared_ptr<const Evaluation>> kept;
  for (const RequestRecord& request : content.requests) {
    if (!request.is_to_evaluate()) continue;
    const auto found = old.find(request.item_id);
    if (found == old.end() || !found->second->evaluation ||
        result_digest(*found->second) != result_digest(request)) {
      fmt::print(stderr,
                 "{}: had GPTScores of other outputs, which are left out: run `chunkstate "
                 "gptscore` again\n",
                 file.string());
      return;
    }
    Evaluation evaluation = request.evaluation ? *request.evaluation : Evaluation{};
    evaluation.gptscore = found->second->evaluation->gptscore;
    kept.push_back(std::make_shared<const Evaluation>(std::move(evaluation)));
  }
  auto next = kept.begin();
  for (RequestRecord& request : content.requests) {
    if (request.is_to_evaluate()) request.evaluation = *next++;
  }
  content.evaluation.judge = before.evaluation.judge;
  content.evaluation.judge_digest = before.evaluation.judge_digest;
  content.evaluation.instructions = before.evaluation.instructions;
}

}  // namespace chunkstate
