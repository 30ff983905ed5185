// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/errors.hpp"
#include "experiments/analysis/scaling.hpp"
#include "experiments/analysis/table.hpp"
#include "experiments/cli/results_path.hpp"
#include "experiments/cli/verb.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/hdf5.hpp"
#include "experiments/record/temporary_file.hpp"
#include "experiments/run/scaling_study.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;

struct ScaleFlags {
  std::vector<std::string> inputs;
  ScalingStudy study;
  std::string output;
  bool json = false;
};

std::string percent(double share) {
  return std::isnan(share) ? "-" : fmt::format("{:.1f} %", 100 * share);
}

std::string interval(const ScalingRow& row) {
  if (std::isnan(row.ci_low)) return percent(row.efficiency);
  return fmt::format("{:.1f} % [{:.1f}, {:.1f}]", 100 * row.efficiency, 100 * row.ci_low,
                     100 * row.ci_high);
}

void print_text(const std::vector<ScalingRow>& rows) {
  const ScalingRow& base = rows.front();
  fmt::print("{} scaling; the base is {}: {} for {}\n", scaling_kind(rows),
             counted(base.run->ranks, "rank"), format_seconds(base.run->seconds),
             counted(base.run->items.size(), "item"));
  Table table({"ranks", "threads", "items", "time", "speed-up", "efficiency [95 %]",
               "lost: requests", "start-up", "warm-up", "between", "idle"});
  bool traced = true;
  for (const ScalingRow& row : rows) {
    const ScalingRun& run = *row.run;
    std::vector<std::string> cells = {
        std::to_string(run.ranks),          run.threads < 0 ? "mixed" : std::to_string(run.threads),
        std::to_string(run.items.size()),   format_seconds(run.seconds),
        fmt::format("{:.2f}", row.speedup), interval(row)};
    for (const double lost : row.lost) cells.push_back(percent(&row == &base ? NAN : lost));
    table.add(cells);
    traced = traced && !std::isnan(run.traced.load);
  }
  fmt::print("{}\nseconds per rank\n", table.text());
  Table times({"ranks", "requests", "start-up", "warm-up", "between", "idle", "model load",
               "journal", "communication", "results.h5"});
  for (const ScalingRow& row : rows) {
    const ScalingRun& run = *row.run;
    std::vector<std::string> cells = {std::to_string(run.ranks)};
    for (const double seconds : run.rank_seconds) {
      cells.push_back(format_seconds(seconds / static_cast<double>(run.ranks)));
    }
    for (const double seconds :
         {run.traced.load, run.traced.journal, run.traced.communication, run.traced.results}) {
      cells.push_back(format_seconds(seconds));
    }
    times.add(cells);
  }
  fmt::print("{}", times.text());
  if (!traced) {
    fmt::print(
        "-: only a timeline records these (profile.trace: true, trace.json beside the file)\n");
  }
}

nlohmann::json number(double value) {
  return std::isnan(value) ? nlohmann::json() : nlohmann::json(value);
}

nlohmann::json to_json(const std::vector<ScalingRow>& rows) {
  nlohmann::json all = nlohmann::json::array();
  for (const ScalingRow& row : rows) {
    const ScalingRun& run = *row.run;
    nlohmann::json lost;
    nlohmann::json seconds;
    for (std::size_t i = 0; i < run_times; ++i) {
      lost[run_time_names[i]] = row.lost[i];
      seconds[run_time_names[i]] = run.rank_seconds[i] / static_cast<double>(run.ranks);
    }
    seconds["model_load"] = number(run.traced.load);
    seconds["journal"] = number(run.traced.journal);
    seconds["communication"] = number(run.traced.communication);
    seconds["results"] = number(run.traced.results);
    all.push_back({{"file", run.file},
                   {"ranks", run.ranks},
                   {"threads", run.threads},
                   {"items", run.items.size()},
                   {"seconds", run.seconds},
                   {"work", row.work},
                   {"speedup", row.speedup},
                   {"efficiency", row.efficiency},
                   {"ci_low", number(row.ci_low)},
                   {"ci_high", number(row.ci_high)},
                   {"lost", lost},
                   {"seconds_per_rank", seconds}});
  }
  return {{"kind", scaling_kind(rows)}, {"runs", all}};
}

// The group /scaling of the schema, in a file of its own: it belongs to several results files.
void write_scaling(const fs::path& path, const std::vector<ScalingRow>& rows) {
  const h5::Handle file = h5::create_file(path.string());
  const h5::Group root = h5::root_group(file, path.string());
  root.set_attribute("Conventions", "Chunkstate-1.0");
  const h5::Group group = root.create_group("scaling");
  group.set_attribute("kind", scaling_kind(rows));
  group.write_dimension({"run", "1", "run, by ranks"}, static_cast<std::int64_t>(rows.size()));
  const auto integers = [&](const h5::Label& label, const auto& value) {
    std::vector<std::int64_t> values;
    for (const ScalingRow& row : rows) values.push_back(value(row));
    group.write<std::int64_t>(label, values, {"run"}, -1);
  };
  const auto reals = [&](const h5::Label& label, const auto& value) {
    std::vector<double> values;
    for (const ScalingRow& row : rows) values.push_back(value(row));
    group.write<double>(label, values, {"run"}, NAN);
  };
  using Row = ScalingRow;
  std::vector<std::string> files;
  for (const Row& row : rows) files.push_back(row.run->file);
  group.write_texts({"file", "1", "results file"}, files, "run");
  integers({"ranks", "1", "ranks"}, [](const Row& r) { return r.run->ranks; });
  integers({"threads", "1", "threads per rank"}, [](const Row& r) { return r.run->threads; });
  integers({"items", "1", "requests"},
           [](const Row& r) { return static_cast<std::int64_t>(r.run->items.size()); });
  reals({"seconds", "s", "begin of the run to its last token"},
        [](const Row& r) { return r.run->seconds; });
  reals({"work", "1", "FLOPs, times the base's"}, [](const Row& r) { return r.work; });
  reals({"speedup", "1", "work per time, times the base's"},
        [](const Row& r) { return r.speedup; });
  reals({"efficiency", "1", "speed-up per rank"}, [](const Row& r) { return r.efficiency; });
  reals({"ci_low", "1", "95 % interval of the efficiency, low end"},
        [](const Row& r) { return r.ci_low; });
  reals({"ci_high", "1", "95 % interval of the efficiency, high end"},
        [](const Row& r) { return r.ci_high; });
  for (std::size_t i = 0; i < run_times; ++i) {
    const std::string name = run_time_names[i];
    reals({"lost_" + name, "1", "efficiency lost to " + name},
          [i](const Row& r) { return r.lost[i]; });
    reals({"seconds_" + name, "s", name + " per rank"},
          [i](const Row& r) { return r.run->rank_seconds[i] / static_cast<double>(r.run->ranks); });
  }
  const TemporaryFile temporary(path);
  write_durably(temporary.path(), h5::file_image(file, path.string()));
  rename_durably(temporary.path(), path);
}

bool is_experiment(const std::string& path) {
  const std::string extension = fs::path(path).extension();
  return extension == ".yaml" || extension == ".yml" || extension == ".json";
}

int scale_verb(ScaleFlags flags) {
  for (std::string& input : flags.inputs) input = results_path(input);
  const bool runs = is_experiment(flags.inputs[0]);
  if (runs && flags.inputs.size() > 1) {
    throw UsageError("scale: expected one experiment or results files, found both or several");
  }
  if (!runs && !flags.study.ranks.empty()) {
    throw UsageError("scale: --ranks is for an experiment; " + flags.inputs[0] + " is none");
  }
  if (runs) {
    flags.study.file = flags.inputs[0];
    flags.inputs = run_scaling_study(flags.study);
    if (flags.output.empty()) flags.output = flags.study.out + "/scaling.h5";
  }
  std::vector<ScalingRun> all;
  StoredResults first;
  for (const std::string& file : flags.inputs) {
    StoredResults results = read_results(file);
    if (!all.empty()) check_comparable(flags.inputs[0], first, file, results);
    all.push_back(scaling_run(file, results, fs::path(file).parent_path() / "trace.json"));
    if (all.size() == 1) first = std::move(results);
  }
  const std::vector<ScalingRow> rows = scaling_rows(all);
  if (!flags.output.empty()) write_scaling(flags.output, rows);
  if (flags.json) {
    fmt::print("{}\n", to_json(rows).dump(2));
  } else {
    print_text(rows);
  }
  return exit_ok;
}

}  // namespace

void add_scale(CLI::App& app, VerbAction& action) {
  auto flags = std::make_shared<ScaleFlags>();
  CLI::App* verb = app.add_subcommand(
      "scale", "Speed-up and efficiency of runs on several numbers of ranks, and what was lost");
  verb->add_option("inputs", flags->inputs,
                   "results.h5, or the folders, of such runs, or one experiment to run")
      ->required();
  verb->add_option("--ranks", flags->study.ranks, "run on so many ranks each: 1,2,4")
      ->delimiter(',');
  verb->add_flag("--weak", flags->study.weak, "as much work per rank, not in all");
  verb->add_option("--out", flags->study.out, "folder of the runs, one DIR/ranks-N each");
  verb->add_option("--launcher", flags->study.launcher,
                   "default 'mpirun --oversubscribe --bind-to none -n {ranks}'");
  verb->add_option("-s,--set", flags->study.overrides, "key.path=value, in place of the file's");
  verb->add_option("-o,--output", flags->output, "also write the table as HDF5 (/scaling)");
  verb->add_flag("--json", flags->json, "machine-readable");
  verb->callback([flags, &action] { action = [flags] { return scale_verb(*flags); }; });
}

}  // namespace chunkstate
