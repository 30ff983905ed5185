// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace chunkstate {

/// Rows of text in aligned columns for a terminal: the first column flush left, the others flush
/// right, a rule under the header.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  /// Must have as many cells as the header.
  void add(std::vector<std::string> cells);
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// "1 rank", "2 ranks".
std::string counted(std::int64_t count, const std::string& noun);
/// Three significant digits and a unit: 1.23 ms, 45.6 s, 789 us. "-" for NaN.
std::string format_seconds(double seconds);
/// Powers of 1024: 18.2 GiB. "-" for NaN.
std::string format_bytes(double bytes);
/// Three significant digits without an exponent where it can be avoided. "-" for NaN.
std::string format_number(double value);

}  // namespace chunkstate
