// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/analysis/summary.hpp"
#include "experiments/report/chart_frame.hpp"

namespace chunkstate {
namespace {

constexpr double plot_height = 240;
constexpr double box_row_height = 44;
constexpr double span_row_height = 22;
constexpr std::size_t most_dots = 1000;  // of a box

std::string line(double x1, double y1, double x2, double y2, const std::string& classes) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
      y2, classes);
}

std::string group_begin(const std::string& name) {
  return fmt::format("<g data-series=\"{}\">\n", escape_markup(name));
}

/// Places for texts beside marks, so that they do not lie on each other.
class Labels {
 public:
  Labels(double top, double bottom) : top_(top), bottom_(bottom) {}

  /// The label of a mark at (x, y): right of it, or left of it near the right edge. Where another
  /// one is in the way it goes up, and from the top of the plot down.
  std::string place(double x, double y, const std::string& text) {
    const double length = character_width * static_cast<double>(text.size());
    const bool fits = x + 8 + length < ChartFrame::right + 8;
    const double begin = fits ? x + 8 : x - 8 - length;
    const double start = std::min(y - 5, bottom_ - 4);
    double line_y = start;
    while (line_y > top_ && is_taken(begin, begin + length, line_y)) line_y -= step;
    if (line_y <= top_) line_y = start + step;
    while (is_taken(begin, begin + length, line_y)) line_y += step;
    taken_.push_back({begin, begin + length, line_y});
    return text_element(fits ? x + 8 : x - 8, line_y,
                        fits ? "class=\"note\"" : "class=\"note\" text-anchor=\"end\"", text);
  }

 private:
  struct Place {
    double begin;
    double end;
    double y;
  };
  static constexpr double step = 13;

  bool is_taken(double begin, double end, double y) const {
    return std::any_of(taken_.begin(), taken_.end(), [&](const Place& other) {
      return begin < other.end && other.begin < end && std::abs(y - other.y) < step;
    });
  }

  double top_;
  double bottom_;
  std::vector<Place> taken_;
};

/// One line chart while it is drawn.
struct Plot {
  ChartFrame& frame;
  const AxisScale& x;
  const AxisScale& y;
  Labels labels;

  std::string tooltip(const ChartSeries& series, const ChartPoint& point) const {
    std::string text = fmt::format("{}: {}, {}", series.name, x.text(point.x), y.text(point.y));
    if (y.usable(point.low) && y.usable(point.high)) {
      text += fmt::format(" ({} to {})", y.text(point.low), y.text(point.high));
    }
    if (!point.note.empty()) text += ", " + point.note;
    if (point.disturbed) text += ", disturbed";
    return escape_markup(text);
  }

  bool usable(const ChartPoint& point) const { return x.usable(point.x) && y.usable(point.y); }

  std::string mark(const ChartSeries& series, const ChartPoint& point, std::size_t index,
                   bool in_cloud) const {
    const double px = x(point.x);
    const double py = y(point.y);
    const std::string numbers = data_attribute("x", point.x) + data_attribute("y", point.y) +
                                data_attribute("low", point.low) +
                                data_attribute("high", point.high);
    if (point.disturbed) {
      return fmt::format(
          "<path d=\"M{:.1f} {:.1f}l6 6m0 -6l-6 6\" class=\"disturbed {}\"{}><title>{}</title>"
          "</path>\n",
          px - 3, py - 3, colour_class(index), numbers, tooltip(series, point));
    }
    return fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" class=\"fill {}{}\"{}><title>{}</title>"
        "</circle>\n",
        px, py, in_cloud ? 2 : 4, in_cloud ? "cloud " : "mark ", colour_class(index), numbers,
        tooltip(series, point));
  }

  void draw_cloud(const ChartSeries& series, std::size_t index) const {
    if (series.cloud.empty()) return;
    std::string marks = group_begin(series.name);
    for (const ChartPoint& point : series.cloud) {
      if (usable(point)) marks += mark(series, point, index, true);
    }
    frame.add(marks + "</g>\n");
  }

  void draw(const ChartSeries& series, std::size_t index) {
    std::string path;
    std::string marks;
    for (const ChartPoint& point : series.points) {
      if (!usable(point)) continue;
      const double px = x(point.x);
      if (series.labelled && path.empty()) frame.add(labels.place(px, y(point.y), series.name));
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", px, y(point.y));
      if (y.usable(point.low) && y.usable(point.high)) {
        marks += line(px, y(point.low), px, y(point.high), "bar " + colour_class(index));
      }
      if (series.marked) marks += mark(series, point, index, false);
    }
    if (series.joined && !path.empty()) {
      marks = fmt::format("<path d=\"{}\" class=\"path {}{}\"/>\n", path, colour_class(index),
                          series.dashed ? " dashed" : "") +
              marks;
    }
    frame.add(group_begin(series.name) + marks + "</g>\n");
  }
};

void draw_box(ChartFrame& frame, const AxisScale& x, const BoxChart::Group& group, double top,
              std::size_t index) {
  frame.add(text_element(12, top + 12, "", group.name));
  std::vector<double> sorted;
  for (const double value : group.values) {
    if (x.usable(value)) sorted.push_back(value);
  }
  if (sorted.empty()) return;
  std::sort(sorted.begin(), sorted.end());
  const std::string colour = colour_class(index);
  const double low = quantile(sorted, 0.25);
  const double high = quantile(sorted, 0.75);
  const double median = quantile(sorted, 0.5);
  constexpr double height = 18;
  const double box = top + 20;
  std::string marks = fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" class=\"fill box "
      "{}\"{}{}/>\n",
      x(low), box, std::max(x(high) - x(low), 0.5), height, colour, data_attribute("low", low),
      data_attribute("high", high));
  marks += line(x(median), box, x(median), box + height, "key " + colour);
  const std::size_t step = sorted.size() / (most_dots + 1) + 1;
  for (std::size_t i = (sorted.size() - 1) % step; i < sorted.size(); i += step) {
    // Neighbours in value at different heights: the golden ratio spreads any number evenly.
    const double spread = std::fmod(static_cast<double>(i) * 0.618034, 1.0);
    marks += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2\" class=\"fill mark {}\"{}><title>{}: {}"
        "</title></circle>\n",
        x(sorted[i]), box + 2 + spread * (height - 4), colour, data_attribute("x", sorted[i]),
        escape_markup(group.name), x.text(sorted[i]));
  }
  frame.add(group_begin(group.name) + marks + "</g>\n");
}

}  // namespace

std::string to_svg(const LineChart& chart) {
  std::vector<LegendEntry> legend;
  std::vector<double> xs;
  std::vector<double> ys;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    const ChartSeries& series = chart.series[i];
    if (!series.labelled) legend.push_back({series.name, i, series.dashed});
    for (const auto* points : {&series.points, &series.cloud}) {
      for (const ChartPoint& point : *points) {
        xs.push_back(point.x);
        ys.insert(ys.end(), {point.y, point.low, point.high});
      }
    }
  }
  ChartFrame frame(chart.name, chart.title, chart.source, legend, plot_height);
  const AxisScale x(chart.x, xs, ChartFrame::left, ChartFrame::right);
  const AxisScale y(chart.y, ys, frame.bottom(), frame.top());
  if (x.empty() || y.empty()) {
    frame.draw_no_data();
    return frame.svg();
  }
  frame.draw_x_axis(chart.x, x);
  frame.draw_y_axis(chart.y, y);
  Plot plot{frame, x, y, Labels(frame.top(), frame.bottom())};
  for (std::size_t i = 0; i < chart.series.size(); ++i) plot.draw_cloud(chart.series[i], i);
  for (std::size_t i = 0; i < chart.series.size(); ++i) plot.draw(chart.series[i], i);
  return frame.svg();
}

std::string to_svg(const BoxChart& chart) {
  std::vector<double> xs;
  for (const BoxChart::Group& group : chart.groups) {
    xs.insert(xs.end(), group.values.begin(), group.values.end());
  }
  ChartFrame frame(chart.name, chart.title, chart.source, {},
                   box_row_height * static_cast<double>(chart.groups.size()));
  const AxisScale x(chart.x, xs, ChartFrame::left, ChartFrame::right);
  if (x.empty()) {
    frame.draw_no_data();
    return frame.svg();
  }
  frame.draw_x_axis(chart.x, x);
  for (std::size_t i = 0; i < chart.groups.size(); ++i) {
    draw_box(frame, x, chart.groups[i], frame.top() + box_row_height * static_cast<double>(i), i);
  }
  return frame.svg();
}

std::string to_svg(const SpanChart& chart) {
  std::vector<LegendEntry> legend;
  for (std::size_t i = 0; i < chart.series.size(); ++i) legend.push_back({chart.series[i], i});
  std::vector<double> xs;
  for (const SpanChart::Span& span : chart.spans) xs.insert(xs.end(), {span.begin, span.end});
  const double height =
      span_row_height * static_cast<double>(std::max<std::size_t>(chart.rows.size(), 3));
  ChartFrame frame(chart.name, chart.title, chart.source, legend, height);
  const AxisScale x(chart.x, xs, ChartFrame::left, ChartFrame::right);
  if (x.empty()) {
    frame.draw_no_data();
    return frame.svg();
  }
  frame.draw_x_axis(chart.x, x);
  for (std::size_t row = 0; row < chart.rows.size(); ++row) {
    frame.add(text_element(ChartFrame::left - 8,
                           frame.top() + span_row_height * (static_cast<double>(row) + 0.68),
                           "text-anchor=\"end\"", chart.rows[row]));
  }
  for (const SpanChart::Span& span : chart.spans) {
    if (!x.usable(span.begin) || !x.usable(span.end)) continue;
    frame.add(fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{}\" class=\"fill mark span "
        "{}\">"
        "<title>{}</title></rect>\n",
        x(span.begin), frame.top() + span_row_height * static_cast<double>(span.row) + 4,
        std::max(x(span.end) - x(span.begin), 0.5), span_row_height - 8, colour_class(span.series),
        escape_markup(span.note)));
  }
  return frame.svg();
}

}  // namespace chunkstate
