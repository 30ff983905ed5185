// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace chunkstate {

/// Charts as SVG text: the same for the report's page and for figures of a paper. Colours are the
/// classes of chart_style(), so that a page can be dark or light; a file of its own contains it.

enum class Scale : std::uint8_t { linear, log2, log10 };
/// Between the marks of a linear axis: 1, 2 or 5 times a power of ten; that but at least 1, for
/// counts; or powers of two, for bytes.
enum class Steps : std::uint8_t { decimal, whole, binary };

struct Axis {
  std::string label;  // with the unit: "time per token, ms"
  Scale scale = Scale::linear;
  bool from_zero = true;  // linear only: the axis starts at 0 if no value is below
  /// How a value is written; empty: three digits with k, M, G, T, P. Zero is always "0".
  std::function<std::string(double)> format;
  Steps steps = Steps::decimal;
};

struct ChartPoint {
  double x = 0;
  double y = 0;
  double low = std::numeric_limits<double>::quiet_NaN();  // interval of y, drawn as a bar
  double high = std::numeric_limits<double>::quiet_NaN();
  std::string note;        // in its tooltip
  bool disturbed = false;  // drawn as a cross
};

struct ChartSeries {
  std::string name;
  std::vector<ChartPoint> points;
  std::vector<ChartPoint> cloud = {};  // what the points summarise: small, faint dots
  bool joined = true;                  // by a line, in the order given
  bool marked = true;                  // a dot on each point
  bool dashed = false;                 // an ideal or a ceiling
  bool labelled = false;               // its name beside its first point instead of in the legend
};

/// Points over two numeric axes.
struct LineChart {
  std::string name;  // of the figure's file and anchor: [a-z0-9-]
  std::string title;
  std::string source;  // where the numbers are: "/summary/value"
  Axis x;
  Axis y;
  std::vector<ChartSeries> series;
};

/// A distribution per group: the quartiles as a box, every value as a dot (of more than 1000, as
/// many evenly spaced by rank, and the largest); one group below the other, its name above its box,
/// so that any number of long names is readable.
struct BoxChart {
  struct Group {
    std::string name;
    std::vector<double> values;
  };
  std::string name;
  std::string title;
  std::string source;
  Axis x;
  std::vector<Group> groups;
};

/// What each of several rows (ranks) did when.
struct SpanChart {
  struct Span {
    std::size_t row = 0;
    double begin = 0;
    double end = 0;
    std::size_t series = 0;  // index into series: the colour
    std::string note;
  };
  std::string name;
  std::string title;
  std::string source;
  Axis x;
  std::vector<std::string> rows;
  std::vector<std::string> series;
  std::vector<Span> spans;
};

/// One <svg> element. Values that are NaN or infinite, and those not above 0 on a logarithmic axis,
/// are left out. A chart without a value says "no data". Marks carry their numbers in full as
/// data-x, data-y, data-low and data-high, inside a group with data-series.
std::string to_svg(const LineChart& chart);
std::string to_svg(const BoxChart& chart);
std::string to_svg(const SpanChart& chart);

/// CSS of the classes that charts use, for light and dark.
std::string chart_style();

/// The element as a file: XML declaration and a style of light colours, without CSS variables,
/// which few programs but browsers know.
std::string svg_file(const std::string& svg);

/// Round numbers that cover [low, high], about `most` of them. low < high.
std::vector<double> linear_ticks(double low, double high, int most, Steps steps);
/// Powers of `base` that cover [low, high]; of a base of 10 over at most two powers also 2 and 5
/// times as much. 0 < low <= high.
std::vector<double> logarithmic_ticks(double low, double high, double base);

/// & < > and quotes as entities.
std::string escape_markup(const std::string& text);

}  // namespace chunkstate
