// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace chunkstate {

/// A text as people read it, and the number behind it where there is one.
struct TableCell {
  TableCell(std::string content) : text(std::move(content)) {}  // NOLINT: cells are texts
  TableCell(const char* content) : text(content) {}             // NOLINT
  TableCell(std::string content, double number, double from, double to)
      : text(std::move(content)), value(number), low(from), high(to) {}

  std::string text;
  double value = std::numeric_limits<double>::quiet_NaN();
  double low = std::numeric_limits<double>::quiet_NaN();  // its interval
  double high = std::numeric_limits<double>::quiet_NaN();
};

struct TableColumn {
  TableColumn(std::string heading) : TableColumn(heading, heading) {}      // NOLINT
  TableColumn(const char* heading) : TableColumn(std::string(heading)) {}  // NOLINT
  TableColumn(std::string heading, std::string column)
      : title(std::move(heading)), key(std::move(column)) {}

  std::string title;
  std::string key;  // in CSV and for programs: "ttft"
};

/// A table: the same for the page, CSV, Markdown and LaTeX.
struct ReportTable {
  std::string name;     // of its file: "summary"
  std::string section;  // heading under which the page shows it
  std::string title;
  std::string source;  // where its numbers are in the results file
  std::vector<TableColumn> header;
  std::vector<std::vector<TableCell>> rows;  // as long as the header
};

/// RFC 4180; texts with a comma, quote or line break are quoted. A column with numbers has them in
/// full (shortest text that reads back as the same number; missing is empty), and its interval, if
/// any row has one, in two more columns, `_low` and `_high`.
std::string to_csv(const ReportTable& table);
std::string to_markdown(const ReportTable& table);
/// A tabular environment with booktabs' rules.
std::string to_latex(const ReportTable& table);
/// <table>; cells carry their numbers in full as data-value, data-low, data-high.
std::string to_html(const ReportTable& table);

/// A field of CSV, quoted if it must be; `separator` is ',' or a tab.
std::string escape_csv(const std::string& text, char separator = ',');
/// The shortest text that reads back as the same number; empty for NaN.
std::string full_number(double value);

}  // namespace chunkstate
