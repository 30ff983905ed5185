// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "experiments/report/chart.hpp"

namespace chunkstate {

/// Maps values of an axis to coordinates of the drawing.
class AxisScale {
 public:
  /// Covers all usable values; `begin` and `end` are coordinates, in either order.
  AxisScale(const Axis& axis, const std::vector<double>& values, double begin, double end);

  bool empty() const { return ticks_.empty(); }
  bool usable(double value) const;
  double operator()(double value) const;
  const std::vector<double>& ticks() const { return ticks_; }
  std::string text(double tick) const;

 private:
  const Axis& axis_;
  double begin_;
  double end_;
  double low_ = 0;  // in the axis' own scale: the logarithm if it is logarithmic
  double high_ = 1;
  std::vector<double> ticks_;
};

/// A line of the legend.
struct LegendEntry {
  std::string name;
  std::size_t series = 0;  // its colour
  bool dashed = false;
};

/// The parts that all charts share: the <svg> element with title, legend, axes and source line.
/// Narrow, so that the texts are readable where the whole is as wide as a phone.
class ChartFrame {
 public:
  static constexpr double width = 460;
  static constexpr double left = 80;
  static constexpr double right = 448;

  /// `height` of the plot area; the legend takes as many rows as it needs above it.
  ChartFrame(const std::string& name, const std::string& title, const std::string& source,
             const std::vector<LegendEntry>& legend, double height);

  double top() const { return top_; }
  double bottom() const { return bottom_; }
  void add(const std::string& element) { body_ += element; }
  void draw_x_axis(const Axis& axis, const AxisScale& scale);
  void draw_y_axis(const Axis& axis, const AxisScale& scale);
  void draw_x_label(const std::string& label);
  void draw_no_data();
  std::string svg() const;

 private:
  std::string name_;
  std::string title_;
  std::string body_;
  double top_ = 0;
  double bottom_ = 0;
  double height_ = 0;
};

/// <text>, content escaped.
std::string text_element(double x, double y, const std::string& attributes,
                         const std::string& content);
/// Average width of a character at 12 px.
inline constexpr double character_width = 6.4;
/// ` data-x="0.1"`, in full; nothing for NaN.
std::string data_attribute(const char* name, double value);
/// The CSS classes of a series: its colour, and where colours come again, dotted lines.
std::string colour_class(std::size_t series);

}  // namespace chunkstate
