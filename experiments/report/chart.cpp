// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/chart.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/analysis/summary.hpp"
#include "experiments/report/chart_frame.hpp"

namespace chunkstate {
namespace {

constexpr double plot_height = 300;
constexpr double span_row_height = 22;

std::string circle(double x, double y, double radius, std::size_t series,
                   const std::string& tooltip) {
  return fmt::format(
      "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" class=\"fill {}\"><title>{}</title></circle>\n",
      x, y, radius, colour_class(series), escape_markup(tooltip));
}

std::string line(double x1, double y1, double x2, double y2, const std::string& classes) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
      y2, classes);
}

void draw_series(ChartFrame& frame, const AxisScale& x, const AxisScale& y,
                 const ChartSeries& series, std::size_t index) {
  std::string path;
  std::string marks;
  for (const ChartPoint& point : series.points) {
    if (!x.usable(point.x) || !y.usable(point.y)) continue;
    const double px = x(point.x);
    const double py = y(point.y);
    path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", px, py);
    if (y.usable(point.low) && y.usable(point.high)) {
      marks += line(px, y(point.low), px, y(point.high), "bar " + colour_class(index));
    }
    if (!series.marked) continue;
    std::string tooltip = fmt::format("{}: {}, {}", series.name, x.text(point.x), y.text(point.y));
    if (y.usable(point.low) && y.usable(point.high)) {
      tooltip += fmt::format(" ({} to {})", y.text(point.low), y.text(point.high));
    }
    if (!point.note.empty()) {
      tooltip += ", " + point.note;
      marks += text_element(px + 7, py - 6, "class=\"note\"", point.note);
    }
    marks += circle(px, py, 4, index, tooltip);
  }
  if (series.joined && !path.empty()) {
    frame.add(fmt::format("<path d=\"{}\" class=\"path {}{}\"/>\n", path, colour_class(index),
                          series.dashed ? " dashed" : ""));
  }
  frame.add(marks);
}

void draw_box(ChartFrame& frame, const AxisScale& y, const BoxChart::Group& group, double centre,
              double half_width, std::size_t index) {
  std::vector<double> sorted;
  for (const double value : group.values) {
    if (y.usable(value)) sorted.push_back(value);
  }
  if (sorted.empty()) return;
  std::sort(sorted.begin(), sorted.end());
  const std::string colour = colour_class(index);
  const double low = y(quantile(sorted, 0.25));
  const double high = y(quantile(sorted, 0.75));
  const double median = y(quantile(sorted, 0.5));
  frame.add(fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" "
      "class=\"fill box {}\"/>\n",
      centre - half_width, std::min(low, high), 2 * half_width, std::abs(high - low), colour));
  frame.add(line(centre - half_width, median, centre + half_width, median, "key " + colour));
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    // Neighbours in value side by side: the golden ratio spreads any number of dots evenly.
    const double spread = std::fmod(static_cast<double>(i) * 0.618034, 1.0) - 0.5;
    frame.add(circle(centre + spread * half_width * 1.2, y(sorted[i]), 2, index,
                     fmt::format("{}: {}", group.name, y.text(sorted[i]))));
  }
}

}  // namespace

std::string to_svg(const LineChart& chart) {
  std::vector<std::pair<std::string, bool>> legend;
  std::vector<double> xs;
  std::vector<double> ys;
  for (const ChartSeries& series : chart.series) {
    legend.emplace_back(series.name, series.dashed);
    for (const ChartPoint& point : series.points) {
      xs.push_back(point.x);
      ys.insert(ys.end(), {point.y, point.low, point.high});
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
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    draw_series(frame, x, y, chart.series[i], i);
  }
  return frame.svg();
}

std::string to_svg(const BoxChart& chart) {
  std::vector<double> ys;
  for (const BoxChart::Group& group : chart.groups) {
    ys.insert(ys.end(), group.values.begin(), group.values.end());
  }
  ChartFrame frame(chart.name, chart.title, chart.source, {}, plot_height);
  const AxisScale y(chart.y, ys, frame.bottom(), frame.top());
  if (y.empty()) {
    frame.draw_no_data();
    return frame.svg();
  }
  frame.draw_y_axis(chart.y, y);
  const double step =
      (ChartFrame::right - ChartFrame::left) / static_cast<double>(chart.groups.size());
  for (std::size_t i = 0; i < chart.groups.size(); ++i) {
    const double centre = ChartFrame::left + (static_cast<double>(i) + 0.5) * step;
    draw_box(frame, y, chart.groups[i], centre, std::min(step * 0.35, 40.0), i);
    // Long names of neighbours on two lines, so that they do not touch.
    frame.add(text_element(centre, frame.bottom() + (i % 2 == 0 ? 18 : 34),
                           "text-anchor=\"middle\"", chart.groups[i].name));
  }
  return frame.svg();
}

std::string to_svg(const SpanChart& chart) {
  std::vector<std::pair<std::string, bool>> legend;
  for (const std::string& name : chart.series) legend.emplace_back(name, false);
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
        "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{}\" class=\"fill {}\" "
        "stroke=\"none\"><title>{}</title></rect>\n",
        x(span.begin), frame.top() + span_row_height * static_cast<double>(span.row) + 4,
        std::max(x(span.end) - x(span.begin), 0.5), span_row_height - 8, colour_class(span.series),
        escape_markup(span.note)));
  }
  return frame.svg();
}

}  // namespace chunkstate
