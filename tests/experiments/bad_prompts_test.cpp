// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <unistd.h>

#include "experiments/spec/prompt_set.hpp"
#include "tests/experiments/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace chunkstate {
namespace {

using namespace std::string_literals;

std::string many_fields() {
  std::string text = "{\"prompt\": \"a\"";
  for (int i = 0; i < 300; ++i) text += ", \"field" + std::to_string(i) + "\": 1";
  return text + "}";
}

const std::vector<BadText>& rows() {
  const std::string good = "{\"prompt\": \"a\"}\n";
  static const std::vector<BadText> table = {
      {29, "", "p.jsonl: found no prompt, expected one at least"},
      {29, "\n\n", "found no prompt"},
      {29, "[]", "found no prompt"},
      {29, " [ ]\n", "found no prompt"},
      {32, good + "{\"prompt\": \"b", "p.jsonl:2: item 2: not valid JSON"},
      {32, "[{\"prompt\": \"a\"},\n {\"prompt\": \"b\"", "p.jsonl:2: item 2: not valid JSON"},
      {32, "[{\"prompt\": \"a\"}",
       "not valid JSON: syntax error while parsing array - unexpected end of input"},
      {32, "[{\"prompt\": \"a\"}] []", "not valid JSON"},
      {32, good + "{\"prompt\": \"b\"} {}\n", "p.jsonl:2: item 3: not valid JSON"},
      {33, good + "\n" + good, "p.jsonl:2: item 2: found a blank line, expected a prompt"},
      {33, "\r\n" + good, "p.jsonl:1: item 1: found a blank line"},
      {34, "{\"prompt\": \"" + repeated("x", 17 << 20) + "\"}",
       "p.jsonl:1: item 1: found more than 16 MiB"},
      {34, "[{\"prompt\": \"" + repeated("x", 17 << 20) + "\"}]",
       "p.jsonl:1: item 1: found more than 16 MiB"},
      {34, repeated(" ", 17 << 20), "found more than 16 MiB"},
      {35, "{\"prompt\": \"a\", \"id\": \"x\"}\n{\"prompt\": \"b\", \"id\": \"x\"}\n",
       "p.jsonl:2: item 2: duplicate id \"x\" (first at item 1)"},
      {35, "{\"prompt\": \"a\"}\n{\"prompt\": \"b\", \"id\": \"item-1\"}\n",
       "duplicate id \"item-1\""},
      {36, good + "{\"answer\": \"b\"}\n",
       "p.jsonl:2: item 2: found no key 'prompt', expected one"},
      {36, "{}", "p.jsonl:1: item 1: found no key 'prompt'"},
      {36, "[{\"prompt\": \"a\"},\n{\"promt\": \"b\"}]",
       "p.jsonl:2: item 2: found no key 'prompt'"},
      {36, "{\"prompt\": null}", "prompt: found null, expected text"},
      {36, "{\"prompt\": [\"a\"]}", "prompt: found a list, expected text"},
      {36, "{\"prompt\": 3}", "prompt: found an integer, expected text"},
      {36, "\"a\"\n", "found text, expected an object with the key 'prompt'"},
      {36, "[[{\"prompt\": \"a\"}]]", "found a list, expected an object"},
      {36, "prompt,answer\na,b\n", "p.jsonl:1: item 1: not valid JSON"},
      {37, "{\"prompt\": \"a\", \"id\": 7}", "id: found an integer, expected text"},
      {37, "{\"prompt\": \"a\", \"id\": \"\"}", "id: found an empty text"},
      {37, "{\"prompt\": \"a\", \"answer\": {}}", "answer: found an object, expected text"},
      {37, "{\"prompt\": \"a\", \"token_len\": \"7\"}",
       "token_len: found text, expected an integer"},
      {37, "{\"prompt\": \"a\", \"num_chunks\": -1}",
       "num_chunks: found -1, expected an integer of at least 0"},
      {37, "{\"prompt\": \"a\", \"num_chunks\": 1.5}",
       "num_chunks: found a number, expected an integer"},
      {38, "{\"prompt\": \"\\ud800\"}",
       "not valid JSON: syntax error while parsing value - invalid string: surrogate"},
      {38, "{\"prompt\": \"\\udc00x\"}", "surrogate"},
      {39, "{\"prompt\": \"a\\u0000b\"}", "found a NUL character in a text, expected none"},
      {39, "{\"prompt\": \"a\0b\"}"s, "not valid JSON"},
      {39, "{\"prompt\": \"a\", \"x\\u0000\": 1}", "found a NUL character"},
      {40, "{\"prompt\": \"a\xFF\"}", "ill-formed UTF-8 byte"},
      {40, "{\"prompt\": \"\xED\xA0\x80\"}", "ill-formed UTF-8 byte"},
      {40, "[{\"prompt\":\n\"\xC0\xAF\"}]", "p.jsonl:2: item 1: not valid JSON"},
      {41, repeated("[", 10000), "found a list, expected an object"},
      {41, "{\"prompt\": \"a\", \"x\": " + repeated("[", 10000) + "}",
       "found nesting deeper than 64 levels"},
      {41, "[{\"prompt\": \"a\", \"x\": " + repeated("{\"y\":", 10000),
       "found nesting deeper than 64 levels"},
      {42, "{\"prompt\": \"a\", \"x\": 1e9999}", "number overflow parsing '1e9999'"},
      {42, "{\"prompt\": \"a\", \"x\": NaN}", "not valid JSON"},
      {42, "{\"prompt\": \"a\", \"token_len\": 9223372036854775808}",
       "token_len: found a number, expected an integer"},
      {43, "{\"prompt\": \"a\", \"prompt\": \"b\"}", "p.jsonl:1: item 1: duplicate key \"prompt\""},
      {43, "{\"prompt\": \"a\", \"x\": {\"y\": 1, \"y\": 2}}", "duplicate key \"y\""},
      {44, good + "{\"prompt\": \"\"}", "p.jsonl:2: item 2: prompt: found an empty text"},
      {46, many_fields(), "found more than 256 kinds of fields"},
      {47, "\x1F\x8B\x08\0\0\0\0\0"s, "p.jsonl: found gzip data, expected JSON (gunzip it first)"},
      {47, "\x28\xB5\x2F\xFD\x24", "found zstd data"},
      {47, "PK\x03\x04", "found a zip archive"},
      {21, "\xFF\xFE{\0"s, "found UTF-16 text, expected UTF-8"},
  };
  return table;
}

TEST_CASE("Every bad prompt file ends with one clear line") {
  for (const BadText& row : rows()) {
    check_bad_input({row.number, [&] { parse_prompts(row.text, "p.jsonl"); }, row.expected}, 65);
  }
}

TEST_CASE("Prompts are read from regular files only, within limits") {
  const TemporaryFolder folder;
  const std::string fifo = folder.path("fifo");
  REQUIRE(mkfifo(fifo.c_str(), 0644) == 0);
  const std::string one_line = folder.write("line.jsonl", "{\"prompt\": \"");
  REQUIRE(truncate(one_line.c_str(), 1LL << 30) == 0);
  const std::string list = folder.write("list.json", "[" + repeated(" ", 1000));
  REQUIRE(truncate(list.c_str(), 1LL << 30) == 0);
  const std::vector<BadText> table = {
      {26, folder.path(""), "found a directory, expected a regular file"},
      {26, fifo, "found a FIFO, expected a regular file"},
      {26, "/dev/zero", "found a device, expected a regular file"},
      {26, folder.path("absent"), "absent: cannot be opened: No such file or directory"},
      {34, one_line, "line.jsonl:1: item 1: found more than 16 MiB"},
      {34, list, "list.json:1: item 1: not valid JSON"},
  };
  for (const BadText& row : table) {
    check_bad_input({row.number, [&] { load_prompts(row.text); }, row.expected}, 65);
  }
}

TEST_CASE("A prompt file that may not be read is named") {
  const TemporaryFolder folder;
  const std::string path = folder.write("secret.json", "[]");
  check_forbidden(path, 65, [](const std::string& file) { load_prompts(file); });
}

TEST_CASE("A long file is read piece by piece and only as far as needed") {
  const TemporaryFolder folder;
  std::ofstream file(folder.path("long.jsonl"));
  const std::string line = "{\"prompt\": \"" + repeated("word ", 40) + "\", \"n\": 1}\n";
  for (int i = 0; i < 500000; ++i) file << line;  // 112 MB
  file << "not JSON\n";
  file.close();
  const std::int64_t before = peak_memory_bytes();
  const double start = cpu_seconds();
  const PromptSet set = load_prompts(folder.path("long.jsonl"), 1000);
  const double seconds = cpu_seconds() - start;
  CHECK(set.prompts.size() == 1000);
  CHECK(seconds < most_seconds);
  if (counts_memory) CHECK(peak_memory_bytes() - before < 8 << 20);
}

TEST_CASE("No change of bytes makes the prompt reader fail in another way") {
  const std::string lines =
      "{\"prompt\": \"a\\u00e4\\ud83d\\ude00\", \"answer\": \"b\", \"id\": \"x\", \"token_len\": "
      "3}\r\n"
      "{\"prompt\": \"c\", \"more\": {\"list\": [1, -2.5e3, true, null, {\"k\": \"v\"}]}}\n";
  const std::string list =
      "[{\"prompt\": \"a\", \"answer\": null},\n {\"prompt\": \"\xC3\xA4\", \"num_chunks\": 2}]\n";
  const std::vector<std::string> pieces = {"{",
                                           "}",
                                           "[",
                                           "]",
                                           ",",
                                           ":",
                                           "\"",
                                           "\\",
                                           "\\u",
                                           "\n",
                                           "null",
                                           "1e",
                                           "-",
                                           "\xEF\xBB\xBF",
                                           std::string(1, '\0')};
  check_changed_bytes<InputError>({lines, list}, pieces, 20240608,
                                  [](const std::string& text) { parse_prompts(text, "p.jsonl"); });
}

}  // namespace
}  // namespace chunkstate
