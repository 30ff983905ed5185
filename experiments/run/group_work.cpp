// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/group_work.hpp"

#include <stdexcept>

#include "core/trace.hpp"
#include "experiments/run/exit_code.hpp"
#include "experiments/run/item_probe.hpp"
#include "experiments/run/stop_signal.hpp"

namespace chunkstate {

GroupWork::GroupWork(const Job& job, RankGroups& groups, JournalWriter* journal, Progress& progress)
    : job_(job),
      groups_(groups),
      journal_(journal),
      progress_(progress),
      runner_(job.setup.spec, job.setup.prompts, job.engines, job.world.rank(), job.run_start,
              groups.engine_groups()) {}

int GroupWork::run(const std::vector<std::int64_t>& items, SharedCounter& counter) {
  const auto claim = [&] { return next_turn(items, counter); };
  try {
    std::int64_t turn = groups_.share(claim);
    for (; turn >= 0; turn = groups_.share(claim)) {
      // The position in the plan, because hosts of one group may have other lists of items.
      const std::int64_t index =
          groups_.share([&] { return items[static_cast<std::size_t>(turn)]; });
      const auto place = static_cast<std::size_t>(index);
      run_item(job_.setup.plan[place], job_.todo[place] == 'p');
      progress_.update(turn + 1, failures_);
    }
    if (turn == turn_done) return exit_ok;
    return turn == turn_stopped ? exit_stopped_early : exit_items_failed;
  } catch (...) {  // the group cannot go on without this rank
    progress_.finish();
    const int code = report_failure(job_.world.rank());
    job_.world.abort(code);
    return code;
  }
}

std::int64_t GroupWork::next_turn(const std::vector<std::int64_t>& items,
                                  SharedCounter& counter) const {
  const std::int64_t most = job_.setup.spec.max_failures;
  if (stop_signal() != 0) return turn_stopped;
  if (most > 0 && failures_ >= most) return turn_failures;
  const std::int64_t turn = counter.next();
  return turn < static_cast<std::int64_t>(items.size()) ? turn : turn_done;
}

bool GroupWork::is_poison(const WorkItem& item) {
  const BusyRank probing(job_.world);
  const auto record = poison_record(job_.options, job_.directory, item, job_.world.rank());
  if (!record) return false;
  journal_->append(*record);
  ++failures_;
  return true;
}

void GroupWork::run_item(const WorkItem& item, bool suspect) {
  const bool speaks = groups_.speaks();
  if (suspect && groups_.share([&] { return is_poison(item) ? 1 : 0; }) != 0) return;
  {
    const BusyRank loading(job_.world);
    job_.engines.model(job_.setup.spec.points[static_cast<std::size_t>(item.point)].settings);
  }
  {
    const TraceRegion region("wait for group");
    groups_.group().barrier();
  }
  runner_.warm_up(item);
  if (speaks) {
    const BusyRank writing(job_.world);  // a file system may take its time
    journal_->claim(item.id);
  }
  const RequestRecord record = runner_.run(item);
  if (runner_.failed_alone()) throw std::runtime_error("item " + item.id + ": " + record.error);
  if (!speaks) return;
  const BusyRank writing(job_.world);
  const TraceRegion region("journal");
  journal_->append(record);
  if (record.status == RequestStatus::failed) ++failures_;
}

}  // namespace chunkstate
