// SPDX-License-Identifier: Apache-2.0
// record_bench finalise [ITEMS] [TOKENS] [JOURNALS]: how fast journals become a results file.
// record_bench overhead [ITEMS] [ITEM_MS]: what durability costs per item, in four processes.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <thread>

#include "experiments/record/journal.hpp"
#include "experiments/record/merge.hpp"
#include "experiments/record/results_file.hpp"
#include "tests/experiments/example_results.hpp"
#include "tests/temporary_folder.hpp"

namespace {

using namespace chunkstate;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double peak_memory_mib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

std::int64_t argument(int argc, char** argv, int index, std::int64_t otherwise) {
  return argc > index ? std::stoll(argv[index]) : otherwise;
}

/// Two points x ITEMS / 4 prompts x two repeats.
ExampleExperiment experiment_of(std::int64_t items) {
  ExampleExperiment experiment;
  experiment.prompts.prompts.clear();
  for (std::int64_t i = 0; i < items / 4; ++i) {
    experiment.prompts.prompts.push_back(
        {.id = "item-" + std::to_string(i + 1), .text = "What is the answer to this?"});
  }
  return experiment;
}

RunStart start_of(const ResultsContent& content) {
  RunStart start = example_start();
  start.items = static_cast<std::int64_t>(content.requests.size());
  start.config_hash = content.spec.config_hash;
  start.prompts_digest = content.prompts.digest;
  start.provenance = content.processes[0];
  return start;
}

double journal_megabytes(const std::filesystem::path& directory) {
  double bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory / "journal")) {
    bytes += static_cast<double>(entry.file_size());
  }
  return bytes / 1e6;
}

void write_journals(const std::filesystem::path& directory, const RunStart& start,
                    std::int64_t items, std::int64_t tokens, std::int64_t journals) {
  for (std::int64_t j = 0; j < journals; ++j) {
    JournalWriter writer(directory, start, Durability::none);
    for (std::int64_t i = j; i < items; i += journals) {
      const std::int64_t place = i / 2;
      const auto record = example_record(place % 2, place / 2, i % 2, tokens);
      writer.claim(record.item_id);
      writer.append(record);
    }
    writer.end("done");
  }
}

/// Wall and processor time; the second says more on a machine that others use too.
struct Timer {
  Clock::time_point wall = Clock::now();
  std::clock_t processor = std::clock();
  std::string text(double megabytes) const {
    const double seconds = since(wall);
    const double busy = static_cast<double>(std::clock() - processor) / CLOCKS_PER_SEC;
    return fmt::format("{:.3f} s, {:.0f} MB/s ({:.3f} s, {:.0f} MB/s of processor time)", seconds,
                       megabytes / seconds, busy, megabytes / busy);
  }
};

int finalise(std::int64_t items, std::int64_t tokens, std::int64_t journals) {
  const TemporaryFolder folder;
  const ExampleExperiment experiment = experiment_of(items);
  ResultsContent content = example_content(experiment);
  content.requests.clear();
  const RunStart start = start_of(content);
  if (fork() == 0) {
    write_journals(folder.path(), start, items, tokens, journals);
    _exit(0);
  }
  wait(nullptr);
  const double megabytes = journal_megabytes(folder.path());
  const double before = peak_memory_mib();
  const Timer all;
  JournalContents contents = read_journals(folder.path());
  const std::string read = all.text(megabytes);
  content.requests = std::move(contents.records);
  content.processes.resize(static_cast<std::size_t>(journals), start.provenance);
  const auto path = folder.path() / "results.h5";
  const Timer writing;
  write_results(path, content);
  fmt::print("{} items of {} tokens in {} journals: {:.1f} MB, results.h5 {:.1f} MB\n", items,
             tokens, journals, megabytes,
             static_cast<double>(std::filesystem::file_size(path)) / 1e6);
  fmt::print("read {}\nwrite and verify {}\n", read, writing.text(megabytes));
  fmt::print("finalisation {}\nmemory {:.0f} MiB more than before\n", all.text(megabytes),
             peak_memory_mib() - before);
  return 0;
}

/// Seconds that one process spends in its journal, per item.
double work(const std::filesystem::path& directory, Durability durability, std::int64_t items,
            std::chrono::microseconds item) {
  JournalWriter writer(directory, example_start(), durability);
  double in_journal = 0;
  for (std::int64_t i = 0; i < items; ++i) {
    const RequestRecord record = example_record(0, i, 0, 100);
    const auto claim = Clock::now();
    writer.claim(record.item_id);
    in_journal += since(claim);
    std::this_thread::sleep_for(item);
    const auto append = Clock::now();
    writer.append(record);
    in_journal += since(append);
  }
  const auto end = Clock::now();
  writer.end("done");
  return (in_journal + since(end)) / static_cast<double>(items);
}

int overhead(std::int64_t items, std::int64_t item_ms) {
  constexpr int processes = 4;
  const std::chrono::milliseconds item(item_ms);
  for (const std::string name : {"none", "group", "item"}) {
    const TemporaryFolder folder;
    int results[2];
    if (pipe(results) != 0) return 1;
    const auto begin = Clock::now();
    for (int process = 0; process < processes; ++process) {
      if (fork() != 0) continue;
      const double seconds = work(folder.path(), durability_named(name), items, item);
      _exit(write(results[1], &seconds, sizeof(seconds)) == sizeof(seconds) ? 0 : 1);
    }
    double worst = 0;
    for (int process = 0; process < processes; ++process) {
      double seconds = 0;
      if (read(results[0], &seconds, sizeof(seconds)) != sizeof(seconds)) return 1;
      worst = std::max(worst, seconds);
    }
    while (wait(nullptr) > 0) {
    }
    close(results[0]);
    close(results[1]);
    fmt::print("{:5}: {:.1f} us per item in the journal, {:.3f} % of {} ms; {:.2f} s in all\n",
               name, 1e6 * worst, 100e3 * worst / static_cast<double>(item_ms), item_ms,
               since(begin));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "finalise") {
    return finalise(argument(argc, argv, 2, 20000), argument(argc, argv, 3, 4),
                    argument(argc, argv, 4, 4));
  }
  if (what == "overhead")
    return overhead(argument(argc, argv, 2, 200), argument(argc, argv, 3, 50));
  fmt::print(stderr, "record_bench finalise [ITEMS] [TOKENS] [JOURNALS] | overhead [ITEMS] [MS]\n");
  return 64;
}
