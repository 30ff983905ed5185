// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/chart_frame.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace chunkstate {
namespace {

constexpr std::size_t colours = 8;
constexpr double legend_row = 18;

struct Colour {
  const char* name;
  const char* light;
  const char* dark;
};

// Okabe and Ito's colours, told apart by colour-blind readers; lighter ones on a dark ground.
constexpr Colour palette[] = {
    {"ink", "#222", "#ddd"},      {"faint", "#ddd", "#3a3a3a"}, {"c0", "#0072b2", "#5fb3ea"},
    {"c1", "#d55e00", "#ff9350"}, {"c2", "#009e73", "#45cfa4"}, {"c3", "#cc79a7", "#ee9fc8"},
    {"c4", "#b8860b", "#e6c04a"}, {"c5", "#56b4e9", "#8fd3ff"}, {"c6", "#8a5ad0", "#b99cf0"},
    {"c7", "#666", "#aaa"},
};

// The style with each colour as `colour(name)` writes it.
template <class Write>
std::string style_with(const Write& colour) {
  std::string style = fmt::format(
      ".chart{{font:12px system-ui,sans-serif;width:100%;height:auto}}\n"
      ".chart text{{fill:{0}}}.chart .title{{font-size:15px;font-weight:600}}"
      ".chart .source{{font-size:9px;opacity:.7;font-family:monospace}}"
      ".chart .note{{font-size:11px}}.chart .grid{{stroke:{1}}}.chart .key{{stroke-width:3}}"
      ".chart .again.path,.chart .again.key{{stroke-dasharray:2 3}}"
      ".chart .dashed{{stroke-dasharray:6 4}}.chart .path{{fill:none;stroke-width:2}}"
      ".chart .bar{{stroke-width:1.5;opacity:.7}}"
      ".chart .box{{fill-opacity:.15;stroke-width:1.5}}.chart .cloud{{opacity:.4;stroke:none}}"
      ".chart .disturbed{{fill:none;stroke-width:1.5}}.chart .span{{stroke:none}}\n",
      colour(palette[0]), colour(palette[1]));
  for (std::size_t i = 0; i < colours; ++i) {
    style += fmt::format(".chart .c{0}{{stroke:{1}}}.chart .fill.c{0}{{fill:{1}}}\n", i,
                         colour(palette[2 + i]));
  }
  return style;
}

// 1.5e10 as "15G".
std::string with_prefix(double value) {
  static constexpr const char* prefixes[] = {"", "k", "M", "G", "T", "P"};
  std::size_t i = 0;
  // 2048 stays as it is, 1000M does not.
  while (std::abs(value) >= (i == 0 ? 10000 : 1000) && i + 1 < std::size(prefixes)) {
    value /= 1000;
    ++i;
  }
  return fmt::format("{:.4g}{}", value, prefixes[i]);
}

}  // namespace

std::vector<double> linear_ticks(double low, double high, int most, Steps steps) {
  const double rough = (high - low) / most;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * (1 - 1e-9)) {
      step = factor * power;
      break;
    }
  }
  if (steps == Steps::whole) step = std::max(step, 1.0);
  if (steps == Steps::binary) step = std::exp2(std::ceil(std::log2(rough)));
  std::vector<double> ticks;
  const double first = std::floor(low / step + 1e-9);
  const double last = std::ceil(high / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<double> logarithmic_ticks(double low, double high, double base) {
  const double first = std::floor(std::log(low) / std::log(base) + 1e-9);
  const double last = std::max(std::ceil(std::log(high) / std::log(base) - 1e-9), first + 1);
  const bool fine = base == 10 && last - first <= 2;
  std::vector<double> ticks;
  for (double i = first; i <= last; ++i) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (factor == 1 || (fine && i < last)) ticks.push_back(factor * std::pow(base, i));
    }
  }
  // Of the fine ones, those that no value reaches go.
  while (fine && ticks.size() > 2 && ticks[1] <= low * (1 + 1e-9)) ticks.erase(ticks.begin());
  while (fine && ticks.size() > 2 && ticks[ticks.size() - 2] >= high * (1 - 1e-9)) ticks.pop_back();
  return ticks;
}

std::string escape_markup(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      case '\'':
        result += "&#39;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string text_element(double x, double y, const std::string& attributes,
                         const std::string& content) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, attributes,
                     escape_markup(content));
}

std::string colour_class(std::size_t series) {
  return fmt::format("c{}{}", series % colours, series < colours ? "" : " again");
}

AxisScale::AxisScale(const Axis& axis, const std::vector<double>& values, double begin, double end)
    : axis_(axis), begin_(begin), end_(end) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const double value : values) {
    if (!usable(value)) continue;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (low > high) return;
  if (axis.scale != Scale::linear) {
    ticks_ = logarithmic_ticks(low, high, axis.scale == Scale::log2 ? 2 : 10);
    low_ = std::log(ticks_.front());
    high_ = std::log(ticks_.back());
    return;
  }
  if (axis.from_zero) {
    low = std::min(low, 0.0);
    high = std::max(high, 0.0);
  }
  if (low == high) {
    const double around = low == 0 ? 1 : std::abs(low) / 10;
    low -= around;
    high += around;
  }
  ticks_ = linear_ticks(low, high, 6, axis.steps);
  low_ = ticks_.front();
  high_ = ticks_.back();
}

bool AxisScale::usable(double value) const {
  return std::isfinite(value) && (axis_.scale == Scale::linear || value > 0);
}

double AxisScale::operator()(double value) const {
  const double place = axis_.scale == Scale::linear ? value : std::log(value);
  return begin_ + (place - low_) / (high_ - low_) * (end_ - begin_);
}

std::string AxisScale::text(double tick) const {
  if (tick == 0) return "0";
  return axis_.format ? axis_.format(tick) : with_prefix(tick);
}

ChartFrame::ChartFrame(const std::string& name, const std::string& title, const std::string& source,
                       const std::vector<LegendEntry>& legend, double height)
    : name_(name), title_(title) {
  body_ += text_element(12, 22, "class=\"title\"", title);
  double x = 12;
  double y = 42;
  for (const LegendEntry& entry : legend) {
    const double needed = 34 + character_width * static_cast<double>(entry.name.size());
    if (x > 12 && x + needed > right) {
      x = 12;
      y += legend_row;
    }
    body_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"key {}{}\"/>\n", x,
        y - 4, x + 16, y - 4, colour_class(entry.series), entry.dashed ? " dashed" : "");
    body_ += text_element(x + 21, y, "class=\"legend\"", entry.name);
    x += needed;
  }
  top_ = y + (legend.empty() ? -6 : 14);
  bottom_ = top_ + height;
  height_ = bottom_ + 58;
  body_ += text_element(right, height_ - 6, "class=\"source\" text-anchor=\"end\"", source);
}

void ChartFrame::draw_x_axis(const Axis& axis, const AxisScale& scale) {
  // Labels that would touch are left out, the marks stay.
  double free_from = -1e9;
  for (const double tick : scale.ticks()) {
    const double x = scale(tick);
    add(
        fmt::format("<line x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" y2=\"{2:.1f}\" "
                    "class=\"grid\"/>\n",
                    x, top_, bottom_));
    const std::string text = scale.text(tick);
    const double half = character_width * static_cast<double>(text.size()) / 2;
    const double centre = std::min(x, width - 4 - half);
    if (centre - half < free_from) continue;
    add(text_element(centre, bottom_ + 18, "text-anchor=\"middle\"", text));
    free_from = centre + half + 6;
  }
  draw_x_label(axis.label);
}

void ChartFrame::draw_y_axis(const Axis& axis, const AxisScale& scale) {
  for (const double tick : scale.ticks()) {
    const double y = scale(tick);
    add(
        fmt::format("<line x1=\"{0:.1f}\" y1=\"{2:.1f}\" x2=\"{1:.1f}\" y2=\"{2:.1f}\" "
                    "class=\"grid\"/>\n",
                    left, right, y));
    add(text_element(left - 6, y + 4, "text-anchor=\"end\"", scale.text(tick)));
  }
  const double middle = (top_ + bottom_) / 2;
  add(text_element(
      10, middle, fmt::format("text-anchor=\"middle\" transform=\"rotate(-90 10 {:.1f})\"", middle),
      axis.label));
}

void ChartFrame::draw_x_label(const std::string& label) {
  add(text_element((left + right) / 2, bottom_ + 38, "text-anchor=\"middle\"", label));
}

void ChartFrame::draw_no_data() {
  add(text_element((left + right) / 2, (top_ + bottom_) / 2, "text-anchor=\"middle\"", "no data"));
}

std::string ChartFrame::svg() const {
  return fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" id=\"{}\" viewBox=\"0 0 {} "
      "{:.0f}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
      name_, width, height_, escape_markup(title_), body_);
}

std::string data_attribute(const char* name, double value) {
  return std::isnan(value) ? "" : fmt::format(" data-{}=\"{}\"", name, value);
}

std::string chart_style() {
  std::string light;
  std::string dark;
  for (const Colour& colour : palette) {
    light += fmt::format("--{}:{};", colour.name, colour.light);
    dark += fmt::format("--{}:{};", colour.name, colour.dark);
  }
  return fmt::format(".chart{{{}}}\n@media (prefers-color-scheme:dark){{.chart{{{}}}}}\n", light,
                     dark) +
         style_with([](const Colour& colour) { return fmt::format("var(--{})", colour.name); });
}

std::string svg_file(const std::string& svg) {
  const std::size_t end_of_tag = svg.find('>') + 1;
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + svg.substr(0, end_of_tag) + "\n<style>" +
         style_with([](const Colour& colour) { return std::string(colour.light); }) + "</style>" +
         svg.substr(end_of_tag);
}

}  // namespace chunkstate
