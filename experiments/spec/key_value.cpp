// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <limits>
#include <numeric>

#include "experiments/spec/key_table.hpp"

namespace chunkstate {
namespace {

using Kind = Domain::Kind;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alphanumeric(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// JSON's grammar of numbers: no leading zero (012 is ten in YAML 1.1), no +, no .5, no .nan.
bool is_json_number(std::string_view text, bool integer_only) {
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t begin = i;
    while (i < text.size() && is_digit(text[i])) ++i;
    return i > begin;
  };
  if (i < text.size() && text[i] == '-') ++i;
  if (i + 1 < text.size() && text[i] == '0' && is_digit(text[i + 1])) return false;
  if (!digits()) return false;
  if (integer_only) return i == text.size();
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (!digits()) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    if (!digits()) return false;
  }
  return i == text.size();
}

template <class T>
bool parse_whole(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool is_number_with_unit(std::string_view text, std::string_view units) {
  if (text.size() < 2 || units.find(text.back()) == std::string_view::npos) return false;
  text.remove_suffix(1);
  std::int64_t value = 0;
  return is_json_number(text, true) && parse_whole(text, value) && value > 0 && value <= 1000000;
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 100 && text[0] != '.' && text[0] != '-' &&
         std::ranges::all_of(
             text, [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

bool is_word(const Domain& domain, std::string_view text) {
  return !text.empty() && text.size() <= 200 && std::ranges::all_of(text, [&](char c) {
    return is_alphanumeric(c) || word_characters.find(c) != std::string_view::npos ||
           domain.more_characters.find(c) != std::string_view::npos;
  });
}

/// Words with one blank between them. Only options, and the first of them for sure, begin with -:
/// a value that does would be taken for an option.
bool are_words(const Domain& domain, std::string_view text) {
  const bool options = domain.kind == Kind::options;
  if (text.size() > 4096 || text.starts_with('-') != options) return false;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end =
        domain.kind == Kind::word ? text.size() : std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    if (!is_word(domain, word) || (word[0] == '-' && !options)) return false;
    begin = end + 1;
  }
  return true;
}

bool in_range(const Domain& domain, double value) {
  return (domain.above_least ? value > domain.least : value >= domain.least) &&
         value <= domain.most;
}

/// The canonical text, empty if the scalar is outside the domain.
std::string canonical(const Domain& domain, const YamlNode& node) {
  const std::string& text = node.text;
  switch (domain.kind) {
    case Kind::integer: {
      std::int64_t value = 0;
      const bool valid = !node.quoted && is_json_number(text, true) && parse_whole(text, value) &&
                         in_range(domain, static_cast<double>(value));
      return valid ? std::to_string(value) : "";
    }
    case Kind::number: {
      double value = 0;
      const bool valid = !node.quoted && is_json_number(text, false) && parse_whole(text, value) &&
                         in_range(domain, value);
      return valid ? fmt::format("{}", value) : "";
    }
    case Kind::boolean:
      return !node.quoted && (text == "true" || text == "false") ? text : "";
    case Kind::choice:
      return std::ranges::count(domain.choices(), text) != 0 ? text : "";
    case Kind::text:
      return text.size() <= 4096 && (node.quoted || means_text(text)) ? text : "";
    case Kind::name:
      return is_name(text) && (node.quoted || means_text(text)) ? text : "";
    case Kind::word:
    case Kind::words:
    case Kind::options:
      return are_words(domain, text) && (node.quoted || means_text(text)) ? text : "";
    case Kind::duration:
      return is_number_with_unit(text, "smhd") ? text : "";
    case Kind::size:
      return is_number_with_unit(text, "KMGT") ? text : "";
  }
  return "";
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ", "));
}

/// Edits (insert, delete, replace, swap neighbours) that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> cost(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j] + 1, cost[i][j - 1] + 1,
                             cost[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
      }
    }
  }
  return cost[a.size()][b.size()];
}

}  // namespace

std::string Domain::expected() const {
  switch (kind) {
    case Kind::integer:
      return least == most ? fmt::format("{:.0f}", least)
                           : fmt::format("an integer from {:.0f} to {:.0f}", least, most);
    case Kind::number:
      return fmt::format("a number {} {} up to {}", above_least ? "above" : "from", least, most);
    case Kind::boolean:
      return "true or false";
    case Kind::choice:
      return "one of " + joined(choices());
    case Kind::text:
      return "text";
    case Kind::name:
      return "a name of letters, digits, '.', '_' and '-'";
    case Kind::word:
      return fmt::format("a word of letters, digits and {}{}", word_characters, more_characters);
    case Kind::words:
      return fmt::format("words of letters, digits and {}{}, a blank between them", word_characters,
                         more_characters);
    case Kind::options:
      return fmt::format("options of letters, digits and {}{}, a blank between them",
                         word_characters, more_characters);
    case Kind::duration:
      return "a time with its unit, as 120s, 30m, 2h or 1d";
    case Kind::size:
      return "a size with its unit, as 512M or 16G";
  }
  return "";
}

bool means_text(std::string_view plain) {
  static constexpr std::array<std::string_view, 8> words = {"true", "false", "yes",  "no",
                                                            "on",   "off",   "null", "~"};
  std::string lower(plain);
  std::ranges::transform(lower, lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (std::ranges::find(words, lower) != words.end()) return false;
  if (lower == ".nan" || lower.ends_with(".inf") || lower.starts_with("0x")) return false;
  const auto in_number = [](char c) {
    return is_digit(c) || std::string_view("+-._:eo").find(c) != std::string_view::npos;
  };
  const bool begins_as_number =
      !lower.empty() &&
      (is_digit(lower[0]) || std::string_view(".-+").find(lower[0]) != std::string_view::npos);
  return !begins_as_number || !std::ranges::all_of(lower, in_number) ||
         std::ranges::none_of(lower, is_digit);
}

std::string checked_value(const Key& key, const YamlNode& node) {
  const std::string found =
      node.quoted ? fmt::format("the text {}", node.described()) : node.described();
  if (node.kind == YamlNode::Kind::scalar) {
    if (std::ranges::count(key.domain.later, node.text) != 0) {
      fail_at(node.place, fmt::format("{}: '{}' is not in this version", key.path, node.text));
    }
    const std::string value = canonical(key.domain, node);
    if (!value.empty()) return value;
    if (key.domain.kind == Kind::choice) {
      fail_at(node.place, fmt::format("{}: unknown value {}", key.path,
                                      with_suggestion(node.text, key.domain.choices())));
    }
    if (!node.quoted && key.domain.kind == Kind::text && !means_text(node.text)) {
      fail_at(node.place,
              fmt::format("{}: found {}, expected text (write it in quotes)", key.path, found));
    }
  }
  fail_at(node.place,
          fmt::format("{}: found {}, expected {}", key.path, found, key.domain.expected()));
}

void store_value(const Key& key, const std::string& value, ExperimentSpec& spec,
                 PointSettings& settings) {
  const Field field = key.field(spec, settings);
  if (auto* const* text = std::get_if<std::string*>(&field)) **text = value;
  if (auto* const* integer = std::get_if<std::int64_t*>(&field)) parse_whole(value, **integer);
  if (auto* const* natural = std::get_if<std::uint64_t*>(&field)) parse_whole(value, **natural);
  if (auto* const* number = std::get_if<double*>(&field)) parse_whole(value, **number);
  if (auto* const* boolean = std::get_if<bool*>(&field)) **boolean = value == "true";
}

std::string stored_value(const Key& key, const ExperimentSpec& spec,
                         const PointSettings& settings) {
  // One accessor serves both directions; nothing is written through it here.
  const Field field =
      key.field(const_cast<ExperimentSpec&>(spec), const_cast<PointSettings&>(settings));
  return std::visit(
      [](auto stored) -> std::string {
        if constexpr (std::is_same_v<decltype(stored), std::monostate>)
          return "";
        else
          return fmt::format("{}", *stored);
      },
      field);
}

std::string with_suggestion(std::string_view found, const std::vector<std::string>& known) {
  const std::string_view compared = found.substr(0, 64);
  std::size_t nearest = std::numeric_limits<std::size_t>::max();
  std::string best;
  for (const std::string& word : known) {
    const std::size_t distance = edit_distance(compared, word);
    if (distance >= nearest) continue;
    nearest = distance;
    best = word;
  }
  YamlNode shown;
  shown.kind = YamlNode::Kind::scalar;
  shown.text = found;
  // A third of the letters wrong is a misspelling; more is another word.
  if (nearest <= std::max<std::size_t>(1, best.size() / 3)) {
    return fmt::format("{} (did you mean '{}'?)", shown.described(), best);
  }
  return fmt::format("{}; known: {}", shown.described(), joined(known));
}

}  // namespace chunkstate
