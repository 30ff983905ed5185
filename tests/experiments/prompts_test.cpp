// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>
#include <span>

#include "experiments/spec/prompt_set.hpp"
#include "tests/catch.hpp"
#include "tests/temporary_folder.hpp"

namespace chunkstate {
namespace {

TEST_CASE("A JSON list and JSON Lines give the same prompts") {
  const std::string first =
      R"({"prompt": "one", "answer": "1", "id": "x", "token_len": 250, "num_chunks": 1})";
  const std::string second =
      R"({"prompt": "zw\u00f6lf\n", "topic": "numbers", "tags": ["a", {"b": 1.50}], "n": -3})";
  const PromptSet list = parse_prompts("[" + first + ",\n " + second + "]\n", "list.json");
  const PromptSet lines = parse_prompts(first + "\n" + second + "\n", "lines.jsonl");
  REQUIRE(list.prompts.size() == 2);
  CHECK(list.prompts[0].text == "one");
  CHECK(list.prompts[0].answer == "1");
  CHECK(list.prompts[0].id == "x");
  CHECK(list.prompts[0].token_len == 250);
  CHECK(list.prompts[0].num_chunks == 1);
  CHECK(list.prompts[1].text == "zw\xC3\xB6lf\n");
  CHECK(list.prompts[1].answer.empty());
  CHECK(list.prompts[1].id == "item-2");
  CHECK(list.prompts[1].token_len == -1);
  const std::vector<std::pair<std::string, std::string>> extra = {
      {"topic", "\"numbers\""}, {"tags", R"(["a",{"b":1.50}])"}, {"n", "-3"}};
  CHECK(list.prompts[1].extra == extra);
  CHECK(lines.digest == list.digest);
  CHECK(list.digest.size() == 32);
}

TEST_CASE("Line ends, a byte order mark and a missing last newline do not matter") {
  const std::string digest =
      parse_prompts("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n", "p").digest;
  CHECK(parse_prompts("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}", "p").digest == digest);
  CHECK(parse_prompts("{\"prompt\": \"a\"}\r\n{\"prompt\": \"b\"}\r\n", "p").digest == digest);
  CHECK(parse_prompts("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\n\n \r\n", "p").digest == digest);
  CHECK(parse_prompts("\xEF\xBB\xBF{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}", "p").digest ==
        digest);
  CHECK(parse_prompts("\n[{\"prompt\":\n\"a\"}, {\"prompt\": \"b\"}\r\n]", "p").digest == digest);
}

TEST_CASE("The digest changes with every field and with the order") {
  std::set<std::string> digests;
  const std::string texts[] = {
      R"([{"prompt": "a"}, {"prompt": "b"}])",
      R"([{"prompt": "b"}, {"prompt": "a"}])",
      R"([{"prompt": "a"}])",
      R"([{"prompt": "ab"}])",
      R"([{"prompt": "a", "answer": "b"}])",
      R"([{"prompt": "a", "id": "b"}])",
      R"([{"prompt": "a", "token_len": 1}])",
      R"([{"prompt": "a", "num_chunks": 1}])",
      R"([{"prompt": "a", "x": 1}])",
      R"([{"prompt": "a", "x": "1"}])",
      R"([{"prompt": "a", "y": 1}])",
  };
  for (const std::string& text : texts) digests.insert(parse_prompts(text, "p").digest);
  CHECK(digests.size() == std::size(texts));
}

TEST_CASE("A limit keeps the first prompts and looks at no others") {
  const std::string text = "[{\"prompt\": \"a\"}, {\"prompt\": \"b\"}, {\"prompt\": 3}]";
  const PromptSet two = parse_prompts(text, "p", 2);
  CHECK(two.prompts.size() == 2);
  CHECK(two.digest ==
        parse_prompts("{\"prompt\": \"a\"}\n{\"prompt\": \"b\"}\nbroken", "p", 2).digest);
  CHECK(parse_prompts("{\"prompt\": \"a\"}", "p", 5).prompts.size() == 1);
}

TEST_CASE("Texts of many lengths come back whole across the pieces in which a file is read") {
  const TemporaryFolder folder;
  for (const std::size_t length : {1, 4095, 65500, 65520, 65535, 65536, 65537, 200000}) {
    CAPTURE(length);
    std::string text;
    while (text.size() < length) text += static_cast<char>('a' + text.size() % 23);
    const std::string object = "{\"prompt\": \"" + text + "\"}";
    const std::string line_file = folder.write(
        "p.jsonl", object + "\n" + object.substr(0, object.size() - 1) + ", \"id\": \"second\"}");
    const std::string list_file = folder.write("p.json", "[" + object + "]");
    const PromptSet lines = load_prompts(line_file);
    REQUIRE(lines.prompts.size() == 2);
    CHECK(lines.prompts[0].text == text);
    CHECK(lines.prompts[1].text == text);
    CHECK(lines.prompts[1].id == "second");
    CHECK(load_prompts(list_file).prompts.at(0).text == text);
  }
}

TEST_CASE("The shipped prompt sets load and state their lengths") {
  const std::string folder = std::string(CHUNKSTATE_SOURCE_DIR) + "/experiments/prompts/";
  const PromptSet by_chunks = load_prompts(folder + "performance_by_chunks.json");
  CHECK(by_chunks.prompts.size() == 40);
  for (const Prompt& prompt : by_chunks.prompts) {
    CHECK(prompt.num_chunks == (prompt.token_len + 255) / 256);
    CHECK(prompt.extra.empty());
  }
  CHECK(load_prompts(folder + "accuracy_256.json").prompts.at(39).token_len == 250);
  CHECK(load_prompts(folder + "accuracy_512.json").prompts.at(39).token_len == 505);
}

TEST_CASE("Synthetic prompts are a function of the seed") {
  const PromptSet set = synthetic_prompts(100, 8, 8192, 42);
  REQUIRE(set.prompts.size() == 8);
  CHECK(set.digest == synthetic_prompts(100, 8, 8192, 42).digest);
  CHECK(set.digest != synthetic_prompts(100, 8, 8192, 43).digest);
  std::set<std::vector<std::int32_t>> distinct;
  for (const Prompt& prompt : set.prompts) {
    CHECK(prompt.tokens.size() == 100);
    CHECK(prompt.token_len == 100);
    CHECK(*std::ranges::min_element(prompt.tokens) >= 0);
    CHECK(*std::ranges::max_element(prompt.tokens) < 8192);
    distinct.insert(prompt.tokens);
  }
  CHECK(distinct.size() == 8);

  const PromptSet longer = synthetic_prompts(150, 3, 8192, 42);
  CHECK(std::ranges::equal(set.prompts[2].tokens, std::span(longer.prompts[2].tokens).first(100)));
  CHECK_THROWS_AS(synthetic_prompts(0, 1, 10, 0), std::invalid_argument);
  CHECK_THROWS_AS(synthetic_prompts(1, 1, 0, 0), std::invalid_argument);
  CHECK_THROWS_AS(synthetic_prompts(1LL << 40, 1LL << 40, 10, 0), std::invalid_argument);
}

}  // namespace
}  // namespace chunkstate
