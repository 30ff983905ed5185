// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run_trace.hpp"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <nlohmann/json.hpp>
#include <span>

#include "core/trace.hpp"
#include "experiments/record/file_io.hpp"
#include "experiments/record/provenance.hpp"
#include "experiments/record/temporary_file.hpp"
#include "experiments/record/trace_file.hpp"
#include "experiments/run/rank_groups.hpp"

namespace chunkstate {
namespace {

// Ranks of one host read one clock: what the exchange finds between them is the noise of the
// exchange.
bool shares_first_clock(const Communicator& world, const ClockOffset& offset) {
  return world.host() == 0 && std::abs(offset.offset_ns) <= offset.uncertainty_ns;
}

// The file, too, is bounded: by some 300 MB, which Perfetto still opens.
TraceLimits limits_of(int ranks) {
  const TraceLimits most;
  return {std::min<std::int64_t>(most.phases, 1'000'000 / ranks),
          std::min<std::int64_t>(most.steps, 2'000'000 / ranks)};
}

nlohmann::json to_json(const ClockOffset& offset) {
  return {{"offset_us", 1e-3 * static_cast<double>(offset.offset_ns)},
          {"uncertainty_us", 1e-3 * static_cast<double>(offset.uncertainty_ns)}};
}

// A file that takes bytes until something goes wrong, and keeps what it was.
class TraceOutput {
 public:
  explicit TraceOutput(const std::filesystem::path& path) : path_(path), temporary_(path) {
    guarded([&] { file_ = FileDescriptor(temporary_.path(), O_WRONLY | O_CREAT | O_TRUNC); });
  }
  void add(std::string_view bytes) {
    guarded([&] { expect(write_all(file_.get(), bytes), "write"); });
  }
  /// What went wrong; empty if the file is there.
  std::string finish() {
    guarded([&] {
      expect(sync_data(file_.get()), "fdatasync");
      expect(file_.close(), "close");
      rename_durably(temporary_.path(), path_);
    });
    return problem_;
  }

 private:
  template <class Body>
  void guarded(const Body& body) {
    if (!problem_.empty()) return;
    try {
      body();
    } catch (const std::exception& error) {
      problem_ = error.what();
    }
  }
  void expect(int error, const char* operation) const {
    if (error != 0) throw FileError(error, temporary_.path(), operation);
  }

  std::filesystem::path path_;
  TemporaryFile temporary_;
  FileDescriptor file_;
  std::string problem_;
};

// A rank's events go to rank 0 as pieces with their lengths before them; a length of 0 ends them.
void send_piece(Communicator& world, std::string_view piece) {
  const auto length = static_cast<std::int64_t>(piece.size());
  world.post(std::as_bytes(std::span(&length, 1)), 0);
  if (length > 0) world.post(std::as_bytes(std::span(piece.data(), piece.size())), 0);
  world.flush();
}

std::string receive_piece(Communicator& world, int from) {
  std::int64_t length = 0;
  world.receive(std::as_writable_bytes(std::span(&length, 1)), from);
  std::string piece(static_cast<std::size_t>(length), '\0');
  if (length > 0) world.receive(std::as_writable_bytes(std::span(piece)), from);
  return piece;
}

std::string gather_events(Communicator& world, const TraceContent& content, const TraceRank& mine,
                          const std::filesystem::path& file, const std::string& other_data) {
  if (world.rank() != 0) {
    write_trace_events(content, mine, [&](std::string_view piece) { send_piece(world, piece); });
    send_piece(world, {});
    return {};
  }
  TraceOutput output(file);
  output.add(trace_head(other_data));
  bool is_first = true;
  const auto add = [&](std::string_view piece) {
    if (!is_first) output.add(",\n");
    is_first = false;
    output.add(piece);
  };
  write_trace_events(content, mine, add);
  for (int rank = 1; rank < world.size(); ++rank) {
    for (std::string piece; !(piece = receive_piece(world, rank)).empty();) add(piece);
  }
  output.add(trace_tail());
  return output.finish();
}

}  // namespace

RunTrace::RunTrace(Communicator& world, bool device)
    : world_(world), before_(measure_clock_offset(world, trace_clock)) {
  start_trace(device, limits_of(world.size()));
}

RunTrace::~RunTrace() { stop_trace(); }

void RunTrace::write(const std::filesystem::path& file, const std::string& experiment,
                     const std::string& run_id) {
  const TraceContent content = stop_trace();
  ClockOffset after = measure_clock_offset(world_, trace_clock);
  const BusyRank writing(world_);

  nlohmann::json facts = {{"rank", world_.rank()},      {"host", collect_rank_provenance().host},
                          {"start", to_json(before_)},  {"end", to_json(after)},
                          {"dropped", content.dropped}, {"gpu", content.device}};
  if (shares_first_clock(world_, before_) && shares_first_clock(world_, after)) {
    before_.offset_ns = after.offset_ns = 0;
  }
  const ClockCorrection correction(before_, after);
  facts["correction_us"] = 1e-3 * static_cast<double>(before_.offset_ns);
  facts["drift_ns_per_s"] = correction.drift();
  std::int64_t begin = correction.on_first_rank(before_.at_ns);
  for (const TraceSpan& span : content.spans) {
    begin = std::min(begin, correction.on_first_rank(span.begin_ns));
  }
  facts["begin_ns"] = begin;

  nlohmann::json ranks = nlohmann::json::array();
  for (const std::string& text : world_.all_gather(facts.dump())) {
    ranks.push_back(nlohmann::json::parse(text));
    begin = std::min(begin, ranks.back()["begin_ns"].get<std::int64_t>());
    ranks.back().erase("begin_ns");
  }
  const TraceRank mine{world_.rank(),
                       fmt::format("rank {}, {}", world_.rank(), facts["host"].get<std::string>()),
                       [&](std::int64_t ns) { return correction.on_first_rank(ns) - begin; }};
  const nlohmann::json other = {{"experiment", experiment}, {"run_id", run_id}, {"ranks", ranks}};
  const std::string problem = gather_events(world_, content, mine, file, other.dump());
  if (!problem.empty()) fmt::print(stderr, "no timeline: {}\n", problem);
}

std::string trace_file_name(int shard, int shards) {
  return shards <= 1 ? "trace.json" : fmt::format("trace.shard-{}-of-{}.json", shard, shards);
}

}  // namespace chunkstate
