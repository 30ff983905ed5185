// SPDX-License-Identifier: Apache-2.0
#include "experiments/report/report_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "experiments/report/chart.hpp"

namespace chunkstate {
namespace {

std::vector<std::string> titles_of(const ReportTable& table) {
  std::vector<std::string> titles;
  for (const TableColumn& column : table.header) titles.push_back(column.title);
  return titles;
}

std::vector<std::string> texts_of(const std::vector<TableCell>& row) {
  std::vector<std::string> texts;
  for (const TableCell& cell : row) texts.push_back(cell.text);
  return texts;
}

// Cells joined as `open` cell `between` cell `close`.
template <class Escape>
std::string joined(const std::vector<std::string>& cells, const std::string& open,
                   const std::string& between, const std::string& close, const Escape& escape) {
  std::string line = open;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    line += (i > 0 ? between : "") + escape(cells[i]);
  }
  return line + close;
}

std::string escape_markdown(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|' || c == '\\') result += '\\';
    result += c == '\n' ? ' ' : c;
  }
  return result;
}

std::string escape_latex(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '\\':
        result += "\\textbackslash{}";
        break;
      case '~':
        result += "\\textasciitilde{}";
        break;
      case '^':
        result += "\\textasciicircum{}";
        break;
      case '&':
      case '%':
      case '$':
      case '#':
      case '_':
      case '{':
      case '}':
        result += '\\';
        [[fallthrough]];
      default:
        result += c;
    }
  }
  return result;
}

std::string data_attribute(const char* name, double value) {
  return std::isnan(value) ? "" : fmt::format(" data-{}=\"{}\"", name, full_number(value));
}

template <class Holds>
bool any_row(const ReportTable& table, std::size_t column, const Holds& holds) {
  return std::any_of(table.rows.begin(), table.rows.end(),
                     [&](const auto& row) { return holds(row[column]); });
}

}  // namespace

std::string full_number(double value) { return std::isnan(value) ? "" : fmt::format("{}", value); }

std::string escape_csv(const std::string& text, char separator) {
  if (text.find_first_of(std::string("\"\r\n") + separator) == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

std::string to_csv(const ReportTable& table) {
  std::vector<bool> numbers;
  std::vector<bool> intervals;
  std::vector<std::string> names;
  for (std::size_t c = 0; c < table.header.size(); ++c) {
    numbers.push_back(any_row(table, c, [](const TableCell& s) { return !std::isnan(s.value); }));
    intervals.push_back(any_row(table, c, [](const TableCell& s) { return !std::isnan(s.low); }));
    names.push_back(table.header[c].key);
    if (!intervals[c]) continue;
    names.push_back(table.header[c].key + "_low");
    names.push_back(table.header[c].key + "_high");
  }
  const auto escape = [](const std::string& text) { return escape_csv(text); };
  std::string text = joined(names, "", ",", "\r\n", escape);
  for (const auto& row : table.rows) {
    std::vector<std::string> cells;
    for (std::size_t c = 0; c < row.size(); ++c) {
      cells.push_back(numbers[c] ? full_number(row[c].value) : row[c].text);
      if (!intervals[c]) continue;
      cells.push_back(full_number(row[c].low));
      cells.push_back(full_number(row[c].high));
    }
    text += joined(cells, "", ",", "\r\n", escape);
  }
  return text;
}

std::string to_markdown(const ReportTable& table) {
  std::string text = joined(titles_of(table), "| ", " | ", " |\n|", escape_markdown);
  for (std::size_t i = 0; i < table.header.size(); ++i) text += " --- |";
  text += '\n';
  for (const auto& row : table.rows) {
    text += joined(texts_of(row), "| ", " | ", " |\n", escape_markdown);
  }
  return text;
}

std::string to_latex(const ReportTable& table) {
  std::string text =
      fmt::format("% {}, from {}\n\\begin{{tabular}}{{l{}}}\n\\toprule\n", table.title,
                  table.source, std::string(table.header.size() - 1, 'r'));
  text += joined(titles_of(table), "", " & ", " \\\\\n\\midrule\n", escape_latex);
  for (const auto& row : table.rows) {
    text += joined(texts_of(row), "", " & ", " \\\\\n", escape_latex);
  }
  return text + "\\bottomrule\n\\end{tabular}\n";
}

std::string to_html(const ReportTable& table) {
  std::string text = fmt::format(
      "<p class=\"caption\" id=\"caption-{0}\">{1} <code>{2}</code></p>\n<div class=\"scroll\">"
      "<table id=\"table-{0}\" aria-labelledby=\"caption-{0}\">\n<thead><tr>",
      table.name, escape_markup(table.title), escape_markup(table.source));
  for (const TableColumn& column : table.header) {
    text += fmt::format("<th data-key=\"{}\">{}</th>", escape_markup(column.key),
                        escape_markup(column.title));
  }
  text += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    text += "<tr>";
    for (const TableCell& cell : row) {
      text += fmt::format("<td{}{}{}>{}</td>", data_attribute("value", cell.value),
                          data_attribute("low", cell.low), data_attribute("high", cell.high),
                          escape_markup(cell.text));
    }
    text += "</tr>\n";
  }
  return text + "</tbody></table></div>\n";
}

}  // namespace chunkstate
