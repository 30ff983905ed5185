// SPDX-License-Identifier: Apache-2.0
#include "experiments/spec/prompt_set.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "core/digest.hpp"
#include "core/errors.hpp"
#include "experiments/spec/byte_reader.hpp"
#include "experiments/spec/input_file.hpp"
#include "experiments/spec/prompt_json.hpp"

namespace chunkstate {
namespace {

constexpr std::int64_t max_synthetic_ids = std::int64_t{1} << 28;
constexpr std::int64_t max_vocab_size = std::int64_t{1} << 31;

std::string digest_of(const std::vector<Prompt>& prompts) {
  Digest digest;
  for (const Prompt& prompt : prompts) {
    digest.text(prompt.id).text(prompt.text).text(prompt.answer);
    digest.integer(prompt.token_len).integer(prompt.num_chunks).text(token_bytes(prompt));
    digest.integer(static_cast<std::int64_t>(prompt.extra.size()));
    for (const auto& [name, value] : prompt.extra) digest.text(name).text(value);
  }
  return digest.hex();
}

/// What a file is instead of JSON, by its first bytes; empty if it may be JSON.
std::string_view known_format(std::string_view head) {
  if (head.starts_with("\x1F\x8B")) return "gzip data, expected JSON (gunzip it first)";
  if (head.starts_with("\x28\xB5\x2F\xFD")) return "zstd data, expected JSON (unpack it first)";
  if (head.starts_with("PK\x03\x04")) return "a zip archive, expected JSON (unpack it first)";
  if (head.starts_with("\xFF\xFE") || head.starts_with("\xFE\xFF"))
    return "UTF-16 text, expected UTF-8";
  return {};
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

void read_lines(ByteReader& bytes, PromptCollector& prompts) {
  std::string text;
  std::int64_t blank_line = 0;
  while (!prompts.is_full()) {
    const std::int64_t line = bytes.line();
    if (!bytes.take_line(text, max_prompt_bytes)) return;
    if (is_blank(text) && text.size() <= max_prompt_bytes) {
      if (blank_line == 0) blank_line = line;
      continue;
    }
    if (blank_line > 0) prompts.fail(blank_line, "found a blank line, expected a prompt");
    if (text.size() > max_prompt_bytes) {
      prompts.fail(line, "found more than 16 MiB, expected at most so much for a prompt");
    }
    read_prompt_line(text, line, prompts);
  }
}

PromptSet read_prompts(ByteReader::Source source, const std::string& file, std::int64_t limit) {
  ByteReader bytes(std::move(source));
  if (const std::string_view format = known_format(bytes.peek(4)); !format.empty()) {
    throw InputError(fmt::format("{}: found {}", file, format));
  }
  if (bytes.peek(3).starts_with("\xEF\xBB\xBF")) {  // some editors' mark, which changes nothing
    for (int i = 0; i < 3; ++i) bytes.skip();
  }
  const std::string_view head = bytes.peek(4096);
  const std::size_t first = head.find_first_not_of(" \t\r\n");
  PromptCollector prompts(file, limit);
  if (first != std::string_view::npos && head[first] == '[') {
    read_prompt_list(bytes, prompts);
  } else {
    read_lines(bytes, prompts);
  }
  PromptSet set{prompts.take(), {}};
  if (set.prompts.empty())
    throw InputError(fmt::format("{}: found no prompt, expected one at least", file));
  set.digest = digest_of(set.prompts);
  return set;
}

/// SplitMix64 (Steele, Lea, Flood 2014): the value at a position of a stream, without the ones
/// before it.
std::uint64_t random_at(std::uint64_t stream, std::uint64_t position) {
  std::uint64_t x = stream + (position + 1) * 0x9E3779B97F4A7C15U;
  x = (x ^ (x >> 30U)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27U)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31U);
}

}  // namespace

std::string token_bytes(const Prompt& prompt) {
  std::string bytes;
  bytes.reserve(4 * prompt.tokens.size());
  for (const std::int32_t token : prompt.tokens) {
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(token >> shift);
  }
  return bytes;
}

PromptSet parse_prompts(const std::string& bytes, const std::string& file, std::int64_t limit) {
  std::size_t at = 0;
  const auto source = [&](char* buffer, std::size_t capacity) {
    const std::size_t count = std::min(capacity, bytes.size() - at);
    std::memcpy(buffer, bytes.data() + at, count);
    at += count;
    return count;
  };
  return read_prompts(source, file, limit);
}

PromptSet load_prompts(const std::string& path, std::int64_t limit) {
  InputFile file(path);
  return read_prompts(
      [&](char* buffer, std::size_t capacity) { return file.read(buffer, capacity); }, path, limit);
}

PromptSet synthetic_prompts(std::int64_t tokens, std::int64_t count, std::int64_t vocab_size,
                            std::uint64_t seed) {
  if (tokens < 1 || count < 1 || vocab_size < 1 || vocab_size > max_vocab_size ||
      tokens > max_synthetic_ids / count) {
    throw std::invalid_argument(
        fmt::format("synthetic_prompts: found {} x {} tokens of {}, expected positive numbers and "
                    "at most {} tokens",
                    count, tokens, vocab_size, max_synthetic_ids));
  }
  PromptSet set;
  for (std::int64_t i = 0; i < count; ++i) {
    Prompt prompt;
    prompt.id = fmt::format("synthetic-{}", i + 1);
    prompt.token_len = tokens;
    const std::uint64_t stream = random_at(seed, static_cast<std::uint64_t>(i));
    for (std::int64_t t = 0; t < tokens; ++t) {
      const std::uint64_t value =
          random_at(stream, static_cast<std::uint64_t>(t)) % static_cast<std::uint64_t>(vocab_size);
      prompt.tokens.push_back(static_cast<std::int32_t>(value));
    }
    set.prompts.push_back(std::move(prompt));
  }
  set.digest = digest_of(set.prompts);
  return set;
}

}  // namespace chunkstate
