// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/data_work.hpp"

#include <fmt/format.h>

#include "core/trace.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/item_probe.hpp"
#include "experiments/run/stop_signal.hpp"

namespace chunkstate {

DataWork::DataWork(const Job& job, JournalWriter* journal, Progress& progress)
    : job_(job),
      journal_(journal),
      progress_(progress),
      runner_(job.setup.spec, job.setup.prompts, job.engines, job.world.rank(), job.run_start) {}

int DataWork::run(const std::vector<std::int64_t>& items, SharedCounter& counter) {
  const std::int64_t most_failures = job_.setup.spec.max_failures;
  try {
    while (stop_signal() == 0) {
      if (most_failures > 0 && failures_ >= most_failures) return exit_items_failed;
      const std::int64_t turn = counter.next();
      if (turn >= static_cast<std::int64_t>(items.size())) return exit_ok;
      const auto place = static_cast<std::size_t>(items[static_cast<std::size_t>(turn)]);
      run_item(job_.setup.plan[place], job_.todo[place] == 'p');
      progress_.update(turn + 1, failures_);
    }
    return exit_stopped_early;
  } catch (...) {  // the journal's file system failed: what is acknowledged is safe
    const Ending ending = ending_of(std::current_exception());
    progress_.finish();
    fmt::print(stderr, "chunkstate: rank {}: {}\n", job_.world.rank(), ending.message);
    return ending.code;
  }
}

void DataWork::run_item(const WorkItem& item, bool suspect) {
  if (suspect) {
    const auto poison = poison_record(job_.options, job_.directory, item, job_.world.rank());
    if (poison) {
      journal_->append(*poison);
      ++failures_;
      return;
    }
  }
  runner_.warm_up(item);
  journal_->claim(item.id);
  const RequestRecord record = runner_.run(item);
  const TraceRegion region("journal");
  journal_->append(record);
  if (record.status == RequestStatus::failed) ++failures_;
}

}  // namespace chunkstate
