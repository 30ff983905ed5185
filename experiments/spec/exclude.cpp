// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/exclude.hpp"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <utility>

#include "experiments/spec/sweep.hpp"

namespace chunkstate {
namespace {

constexpr int max_parentheses = 16;

bool is_number(const Key& key) {
  return key.domain.kind == Domain::Kind::integer || key.domain.kind == Domain::Kind::number;
}

template <class T>
bool compare(const T& a, const T& b, int order) {  // -1: <, 0: ==, 1: >
  return order < 0 ? a < b : order > 0 ? a > b : a == b;
}

}  // namespace

/// Recursive descent over: either = both {"or" both}; both = term {"and" term}; term = "(" either
/// ")" | comparison.
class ConditionParser {
 public:
  using Operator = Condition::Operator;

  ConditionParser(const std::string& text, const Place& place, std::vector<Condition::Step>& steps)
      : text_(text), place_(place), steps_(steps) {}

  void parse() {
    either(0);
    if (skip_spaces(); at_ < text_.size()) fail("'and', 'or' or the end");
  }

 private:
  void either(int depth) {
    both(depth);
    while (word("or")) {
      both(depth);
      steps_.push_back({Operator::either});
    }
  }

  void both(int depth) {
    term(depth);
    while (word("and")) {
      term(depth);
      steps_.push_back({Operator::both});
    }
  }

  void term(int depth) {
    skip_spaces();
    if (!symbol("(")) return comparison();
    if (depth == max_parentheses) fail("at most 16 nested parentheses");
    either(depth + 1);
    skip_spaces();
    if (!symbol(")")) fail("')'");
  }

  void comparison() {
    const std::size_t path_at = at_;
    const std::string path =
        run([](char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; });
    const Key* key = find_key(path);
    if (key == nullptr || key->scope != Scope::point) {
      at_ = path_at;
      if (path.empty()) fail("a setting, as ssm.chunk_size");
      fail_here(fmt::format("unknown setting {}", with_suggestion(path, axis_names())));
    }
    const Operator op = comparison_operator();
    if (!is_number(*key) && op != Operator::equal && op != Operator::unequal) {
      fail_here(fmt::format("{} has no order, expected == or !=", path));
    }
    steps_.push_back({op, key});
    literal(steps_.back());
  }

  Operator comparison_operator() {
    static constexpr std::array<std::pair<std::string_view, Operator>, 6> operators = {{
        {"==", Operator::equal},
        {"!=", Operator::unequal},
        {"<=", Operator::at_most},
        {">=", Operator::at_least},
        {"<", Operator::less},
        {">", Operator::greater},
    }};
    skip_spaces();
    for (const auto& [sign, op] : operators) {
      if (symbol(sign)) return op;
    }
    fail("==, !=, <, <=, > or >=");
  }

  void literal(Condition::Step& step) {
    skip_spaces();
    const std::size_t begin = at_;
    YamlNode node;
    node.kind = YamlNode::Kind::scalar;
    if (at_ < text_.size() && (text_[at_] == '\'' || text_[at_] == '"')) {
      const std::size_t end = text_.find(text_[at_], at_ + 1);
      if (end == std::string::npos) fail("a closing quote");
      node.text = text_.substr(at_ + 1, end - at_ - 1);
      node.quoted = true;
      at_ = end + 1;
    } else {
      node.text =
          run([](char c) { return std::isalnum(c) != 0 || c == '.' || c == '-' || c == '+'; });
      if (node.text.empty()) fail("a value");
    }
    const bool is_text = !is_number(*step.key) && step.key->domain.kind != Domain::Kind::boolean;
    if (is_text && !node.quoted) {
      at_ = begin;
      fail_here(fmt::format("found {}, expected text in quotes", node.described()));
    }
    node.place = {std::make_shared<const std::string>(where(begin)), 0, 0};
    step.text = checked_value(*step.key, node);
    if (is_number(*step.key)) step.number = std::stod(step.text);
  }

  template <class Predicate>
  std::string run(Predicate accepts) {
    const std::size_t begin = at_;
    while (at_ < text_.size() && static_cast<unsigned char>(text_[at_]) < 0x80 &&
           accepts(text_[at_])) {
      ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }

  bool symbol(std::string_view sign) {
    if (text_.compare(at_, sign.size(), sign) != 0) return false;
    at_ += sign.size();
    return true;
  }

  bool word(std::string_view expected) {
    skip_spaces();
    const std::size_t begin = at_;
    if (run([](char c) { return std::isalnum(c) != 0 || c == '_' || c == '.'; }) == expected)
      return true;
    at_ = begin;
    return false;
  }

  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  std::string where(std::size_t position) const {
    return fmt::format("{}: exclude, character {}", place_.text(), position + 1);
  }

  [[noreturn]] void fail_here(const std::string& message) const {
    fail_at({std::make_shared<const std::string>(where(at_)), 0, 0}, message);
  }

  [[noreturn]] void fail(std::string_view expected) const {
    YamlNode rest;
    rest.kind = at_ < text_.size() ? YamlNode::Kind::scalar : YamlNode::Kind::null;
    rest.text = text_.substr(at_);
    fail_here(fmt::format("found {}, expected {}", rest.described(), expected));
  }

  const std::string& text_;
  const Place& place_;
  std::vector<Condition::Step>& steps_;
  std::size_t at_ = 0;
};

Condition::Condition(const std::string& text, const Place& place) {
  ConditionParser(text, place, steps_).parse();
}

bool Condition::holds(const PointSettings& settings) const {
  static ExperimentSpec unused;  // a point key's field is in the settings
  std::vector<bool> results;
  for (const Step& step : steps_) {
    if (step.key == nullptr) {
      const bool second = results.back();
      results.pop_back();
      results.back() =
          step.op == Operator::both ? results.back() && second : results.back() || second;
      continue;
    }
    const auto is = [&](int order) {
      const Field field = step.key->field(unused, const_cast<PointSettings&>(settings));
      if (auto* const* text = std::get_if<std::string*>(&field))
        return compare(**text, step.text, order);
      if (auto* const* value = std::get_if<bool*>(&field))
        return compare(**value, step.text == "true", order);
      if (auto* const* value = std::get_if<double*>(&field))
        return compare(**value, step.number, order);
      if (auto* const* value = std::get_if<std::uint64_t*>(&field)) {
        return compare(static_cast<double>(**value), step.number, order);
      }
      return compare(static_cast<double>(*std::get<std::int64_t*>(field)), step.number, order);
    };
    switch (step.op) {
      case Operator::equal:
        results.push_back(is(0));
        break;
      case Operator::unequal:
        results.push_back(!is(0));
        break;
      case Operator::less:
        results.push_back(is(-1));
        break;
      case Operator::at_most:
        results.push_back(!is(1));
        break;
      case Operator::greater:
        results.push_back(is(1));
        break;
      default:
        results.push_back(!is(-1));
        break;
    }
  }
  return results.back();
}

}  // namespace chunkstate
