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
      runner_(job.setup.spec, job.setup.prompts, job.engines, job.world.rank(), job.run_start),
      batch_(job.setup.spec, job.setup.prompts, job.engines, job.world.rank(), job.run_start) {}

int DataWork::run(const std::vector<std::int64_t>& items, SharedCounter& counter) {
  std::int64_t turn = no_turn;  // claimed, not begun
  try {
    while (true) {
      if (!code_ && stop_signal() != 0) code_ = exit_stopped_early;
      if (!code_ && turn == no_turn && batch_.has_room()) turn = next_turn(items, counter);
      if (code_ && batch_.idle()) return *code_;
      if (!code_ && turn != no_turn) {
        const auto place = static_cast<std::size_t>(items[static_cast<std::size_t>(turn)]);
        if (begin(job_.setup.plan[place], job_.todo[place] == 'p')) {
          progress_.update(turn + 1, failures_);
          turn = no_turn;
          continue;
        }
      }
      for (const RequestRecord& done : batch_.advance()) record(done);
    }
  } catch (...) {  // the journal's file system failed: what is acknowledged is safe
    const Ending ending = ending_of(std::current_exception());
    progress_.finish();
    fmt::print(stderr, "chunkstate: rank {}: {}\n", job_.world.rank(), ending.message);
    return ending.code;
  }
}

// Sets the run's code where there is none.
std::int64_t DataWork::next_turn(const std::vector<std::int64_t>& items, SharedCounter& counter) {
  const std::int64_t most_failures = job_.setup.spec.max_failures;
  if (most_failures > 0 && failures_ >= most_failures) {
    code_ = exit_items_failed;
    return no_turn;
  }
  const std::int64_t turn = counter.next();
  if (turn < static_cast<std::int64_t>(items.size())) return turn;
  code_ = exit_ok;
  return no_turn;
}

// False: not before what runs has ended.
bool DataWork::begin(const WorkItem& item, bool suspect) {
  const PointSettings& settings =
      job_.setup.spec.points[static_cast<std::size_t>(item.point)].settings;
  const bool batched = settings.scenario == "offline";
  if (!(batched && !suspect ? batch_.takes(item) : batch_.idle())) return false;
  if (suspect) {
    const auto poison = poison_record(job_.options, job_.directory, item, job_.world.rank());
    if (poison) {
      record(*poison);
      return true;
    }
  }
  if (!batched) {
    run_alone(item);
    return true;
  }
  batch_.warm_up(item);
  journal_->claim(item.id);
  batch_.begin(item);
  return true;
}

void DataWork::run_alone(const WorkItem& item) {
  batch_.close();
  runner_.warm_up(item);
  journal_->claim(item.id);
  record(runner_.run(item));
}

void DataWork::record(const RequestRecord& record) {
  const TraceRegion region("journal");
  journal_->append(record);
  if (record.status == RequestStatus::failed) ++failures_;
}

}  // namespace chunkstate
