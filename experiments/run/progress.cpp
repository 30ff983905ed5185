// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "experiments/analysis/table.hpp"
#include "experiments/run/clock.hpp"

namespace chunkstate {
namespace {

constexpr double redraw_seconds = 0.1;
constexpr double line_seconds = 10.0;

}  // namespace

Progress::Progress(std::int64_t total, bool enabled, const char* things)
    : total_(total),
      enabled_(enabled && total > 0),
      terminal_(isatty(STDERR_FILENO) != 0),
      things_(things),
      start_(monotonic_seconds()),
      last_(start_) {}

Progress::~Progress() { finish(); }

std::string Progress::bar(std::int64_t claimed, std::int64_t failed, double elapsed) const {
  const double share = static_cast<double>(claimed) / static_cast<double>(total_);
  const double left = share > 0 ? elapsed * (1.0 - share) / share : 0.0;
  std::string text = fmt::format("{}/{} {}", claimed, total_, things_);
  if (failed > 0) text += fmt::format(", {} failed", failed);
  text += fmt::format(", {} elapsed, about {} left", format_seconds(elapsed), format_seconds(left));
  if (!terminal_) return text;
  constexpr int width = 30;
  const int filled = static_cast<int>(share * width);
  return fmt::format("[{}{}] {}", std::string(static_cast<std::size_t>(filled), '#'),
                     std::string(static_cast<std::size_t>(width - filled), '.'), text);
}

void Progress::update(std::int64_t claimed, std::int64_t failed) {
  if (!enabled_) return;
  const double now = monotonic_seconds();
  if (now - last_ < (terminal_ ? redraw_seconds : line_seconds)) return;
  last_ = now;
  const std::string text = bar(std::min(claimed, total_), failed, now - start_);
  fmt::print(stderr, "{}{}{}", terminal_ ? "\r" : "", text, terminal_ ? "\033[K" : "\n");
  drawn_ = terminal_;
}

void Progress::finish() {
  if (drawn_) fmt::print(stderr, "\r\033[K");
  drawn_ = false;
  enabled_ = false;
}

}  // namespace chunkstate
