// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "experiments/spec/experiment_spec.hpp"
#include "tests/experiments/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace chunkstate {
namespace {

using namespace std::string_literals;

// Line 6 is where the rows below add theirs.
const std::string head =
    "schema: 1\n"
    "name: test\n"
    "model: {path: m}\n"
    "prompts: {file: p.json}\n"
    "measure: {repeats: 2}\n";

std::string alias_bomb() {
  std::string text = "a: &a0 [x, x]\n";
  for (int i = 1; i < 40; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "b" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before + ", " + before +
            "]\n";
  }
  return text;
}

std::string large_sweep() {
  std::string values = "1";
  for (int i = 2; i <= 1001; ++i) values += "," + std::to_string(i);
  return head + "sweep: {matrix: {ssm.chunk_size: [" + values + "], ssm.lookback: [" + values +
         "]}}\n";
}

const std::vector<BadText>& rows() {
  static const std::vector<BadText> table = {
      {1, "", "exp.yaml:1:1: found nothing, expected a map with the keys schema, name"},
      {1, "\n \n", "found nothing"},
      {2, "# only\n# comments\n", "found nothing, expected a map"},
      {3, "- schema\n- name\n", "exp.yaml:1:1: found a list, expected a map"},
      {3, "schema", "found 'schema', expected a map"},
      {4, head + "promts: {limit: 3}\n",
       "exp.yaml:6:1: unknown key 'promts' (did you mean 'prompts'?)"},
      {4, head + "ssm: {variannt: default}\n",
       "exp.yaml:6:7: unknown key 'variannt' (did you mean 'variant'?)"},
      {4, head + "chunk_size: 3\n", "unknown key 'chunk_size' (did you mean 'ssm.chunk_size'?)"},
      {4, head + "model_parallel_size: 3\n",
       "unknown key 'model_parallel_size'; known: schema, name, model"},
      {4, head + "sweep: {matrx: {}}\n",
       "exp.yaml:6:9: unknown key 'matrx' (did you mean 'matrix'?)"},
      {4, head + "sweep: {matrix: {ssm.chunk_sizes: [1]}}\n",
       "exp.yaml:6:18: unknown sweep axis 'ssm.chunk_sizes' (did you mean"},
      {4, head + "\"" + repeated("x", 900) + "\": 1\n", "unknown key 'xxxxx"},
      {5, head + "name: again\n", "exp.yaml:6:1: duplicate key 'name' (first in line 2)"},
      {5, head + "ssm: {variant: default, variant: default}\n",
       "exp.yaml:6:25: duplicate key 'variant'"},
      {5, head + "sweep: {matrix: {ssm.lookback: [1], ssm.lookback: [2]}}\n",
       "duplicate key 'ssm.lookback'"},
      {6, "name: a\nmodel: {path: m}\nprompts: {file: p}\n", "the key 'schema' is missing"},
      {6, "schema: 1\nmodel: {path: m}\nprompts: {file: p}\n", "the key 'name' is missing"},
      {6, "schema: 1\nname: a\nmodel: {dtype: bf16}\nprompts: {file: p}\n",
       "exp.yaml:3:1: the key 'model.path' is missing"},
      {6, "schema: 1\nname: a\nmodel: {path: m}\n", "prompts: found neither file nor synthetic"},
      {6, "schema: 1\nname: a\nmodel: {path: m}\nprompts: {synthetic: {count: 1}}\n",
       "exp.yaml:4:11: the key 'prompts.synthetic.tokens' is missing"},
      {7, head + "ssm: {chunk_size: \"four\"}\n",
       "exp.yaml:6:19: ssm.chunk_size: found the text 'four', expected an integer"},
      {7, head + "ssm: {chunk_size: \"4\"}\n", "found the text '4', expected an integer"},
      {7, head + "ssm: {chunk_size: 64.0}\n", "found '64.0', expected an integer"},
      {7, head + "ssm: {chunk_size: [64]}\n", "found a list, expected an integer"},
      {7, head + "ssm: {variant: }\n", "ssm.variant: found nothing, expected one of"},
      {7, head + "ssm: 64\n", "exp.yaml:6:6: ssm: found '64', expected a map with keys of variant"},
      {7, head + "ssm:\n", "ssm: found nothing, expected a map"},
      {7, head + "ssm: {}\n", "ssm: found an empty map, expected a map"},
      {7, head + "ssm: {variant: defualt}\n", "unknown value 'defualt' (did you mean 'default'?)"},
      {7, "schema: 2\nname: a\nmodel: {path: m}\nprompts: {file: p}\n",
       "exp.yaml:1:9: schema: found '2', expected 1"},
      {7, "schema: 1\nname: 007\nmodel: {path: m}\nprompts: {file: p}\n", "name: found '007'"},
      {8, head + "generation: {max_new_tokens: 0}\n", "found '0', expected an integer from 1"},
      {8, head + "generation: {max_new_tokens: -4}\n", "found '-4', expected an integer from 1"},
      {8, head + "generation: {seed: 9223372036854775808}\n",
       "found '9223372036854775808', expected an integer"},
      {8, head + "generation: {seed: -1}\n", "found '-1', expected an integer from 0"},
      {8, head + "generation: {sampling: {temperature: 1e400}}\n",
       "found '1e400', expected a number above 0"},
      {8, head + "generation: {sampling: {temperature: 0}}\n",
       "found '0', expected a number above 0"},
      {8, head + "generation: {sampling: {top_p: 1.5}}\n",
       "found '1.5', expected a number above 0 up to 1"},
      {9, head + "generation: {sampling: {temperature: .nan}}\n",
       "found '.nan', expected a number"},
      {9, head + "generation: {sampling: {temperature: .inf}}\n",
       "found '.inf', expected a number"},
      {9, head + "ssm: {lookback: -.inf}\n", "found '-.inf', expected an integer"},
      {10, head + "ssm: {chunk_size: 012}\n", "found '012', expected an integer"},
      {10, head + "ssm: {chunk_size: 0x40}\n", "found '0x40', expected an integer"},
      {10, head + "ssm: {chunk_size: 1_000}\n", "found '1_000', expected an integer"},
      {10, head + "generation: {use_cache: yes}\n", "found 'yes', expected true or false"},
      {10, head + "generation: {use_cache: True}\n", "found 'True', expected true or false"},
      {10, head + "output: {dir: no}\n", "found 'no', expected text (write it in quotes)"},
      {10, head + "slurm: {time: 30}\n", "slurm.time: found '30', expected a time with its unit"},
      {10, head + "slurm: {time: 30 min}\n", "found '30 min', expected a time with its unit"},
      {10, head + "slurm: {account: 'a; rm -rf /'}\n", "expected a word of letters"},
      {11, head + "ssm:\n\tchunk_size: 64\n",
       "exp.yaml:7:2: found a tab in the indentation, expected spaces"},
      {12, head + "output: {dir: \"results\n", "exp.yaml:"},
      {12, head + "output: {dir: 'results}\n", "not valid YAML"},
      {13, repeated("[", 501), "exp.yaml:1:33: found nesting deeper than 32 levels"},
      {13, repeated("- ", 501) + "x", "found nesting deeper than 32 levels"},
      {13, repeated("[\n", 501), "exp.yaml:1:1: found a list as a key"},
      {13, repeated("? ", 501) + "x", "exp.yaml:1:"},
      {14, repeated("[", 1000000), "found nesting deeper than 32 levels"},
      {14, repeated("{a: ", 200000), "found nesting deeper than 32 levels"},
      {14, repeated("[[[[\n", 200000), "exp.yaml:1:1: found a list as a key"},
      {15, alias_bomb(), "exp.yaml:1:4: found an anchor (&)"},
      {16, "a: &a [*a]\n", "found an anchor (&)"},
      {17, "a: *nothing\n", "exp.yaml:1:4: not valid YAML"},
      {18, "<<: {a: 1}\n", "exp.yaml:1:1: found a merge key (<<)"},
      {18, "a: !!python/object:os.system x\n", "found the tag"},
      {18, "%TAG ! tag:x,2000:\n---\na: 1\n", "found a directive"},
      {19, head + "---\n" + head, "exp.yaml:6:1: found a second document"},
      {19, head + "...\n---\n", "found a second document"},
      {20, head + repeated("# filler\n", 120000),
       "found more than 1048576 bytes, expected at most 1 MiB"},
      {21, "\xEF\xBB\xBF" + head, "found a UTF-8 byte order mark"},
      {21, "\xFF\xFEs\0c\0"s, "found UTF-16 or UTF-32 text"},
      {21, "\0s\0c\0h"s, "found a NUL byte"},
      {22, head + "output: {dir: r\xE9sultats}\n",
       "exp.yaml:6:16: found the byte 0xE9, which is not UTF-8"},
      {22, head + "output: {dir: \xED\xA0\x80}\n", "which is not UTF-8"},
      {22, head + "output: {dir: \xC0\xAF}\n", "which is not UTF-8"},
      {23, head + "output: {dir: a\0b}\n"s, "found a NUL byte"},
      {23, head + "output: {dir: \"a\\0b\"}\n",
       "exp.yaml:6:15: found a control character in a value"},
      {23, head + "output: {dir: \"a\\nb\"}\n", "found a control character in a value"},
      {24, "schema: 1\nname: ../../etc\nmodel: {path: m}\nprompts: {file: p}\n",
       "found '../../etc', expected a name"},
      {24, "schema: 1\nname: /etc\nmodel: {path: m}\nprompts: {file: p}\n",
       "found '/etc', expected a name"},
      {25, large_sweep(), "found more than 50000 points"},
      {25, head + "sweep: {}\n", "sweep: found no axis"},
      {25, head + "sweep: {matrix: {}, zip: {}}\n", "sweep: found no axis"},
      {25, head + "sweep: {matrix: {ssm.lookback: []}}\n", "ssm.lookback: found an empty list"},
      {25, head + "sweep: {matrix: {ssm.lookback: 3}}\n",
       "ssm.lookback: found '3', expected a list"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1, 2, 1]}}\n",
       "exp.yaml:6:39: ssm.lookback: found '1' twice"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1, two]}}\n",
       "exp.yaml:6:36: ssm.lookback: found 'two', expected an integer"},
      {25, head + "sweep: {matrix: {measure.repeats: [1]}}\n", "cannot be a sweep axis"},
      {25, head + "sweep: {zip: {ssm.lookback: [1, 2], ssm.chunk_size: [64]}}\n",
       "ssm.lookback has 2 values and ssm.chunk_size has 1"},
      {25, head + "sweep: {zip: {ssm.lookback: [1, 1], ssm.chunk_size: [8, 8]}}\n",
       "zip: row 2 is there twice"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, zip: {ssm.lookback: [2]}}\n",
       "set the same thing"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1, 2]}, exclude: [\"ssm.lookback > 0\"]}\n",
       "all 2 points are excluded"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"ssm.lookback = 0\"]}\n",
       "exp.yaml:6:48: exclude, character 14: found '= 0', expected ==, !="},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"ssm.lokback == 0\"]}\n",
       "exclude, character 1: unknown setting 'ssm.lokback' (did you mean"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"ssm.variant == 'defualt'\"]}\n",
       "character 16: ssm.variant: unknown value 'defualt' (did you mean"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"ssm.variant == default\"]}\n",
       "found 'default', expected text in quotes"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"ssm.variant < 'default'\"]}\n",
       "ssm.variant has no order"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"(ssm.lookback == 0\"]}\n",
       "found nothing, expected ')'"},
      {25,
       head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"" + repeated("(", 5000) + "\"]}\n",
       "at most 16 nested parentheses"},
      {25, head + "sweep: {matrix: {ssm.lookback: [1]}, exclude: [\"ssm.lookback == 0 xor 1\"]}\n",
       "expected 'and', 'or' or the end"},
      // What the contract names and this version does not have.
      {4, head + "profile: {trace: 1}\n", "profile.trace: found '1'"},
      {5, head + "measure: {repeats: 3}\n", "duplicate key 'measure'"},
      {4, repeated("schema: 1\n", 1) + "measure: {until: {ci_rel: 1%}}\n",
       "'measure.until' is not in this version"},
      // What does not go together.
      {6, head + "accuracy: {gptscore: {quality: 'x {given}'}}\n", "is missing"},
      {7, head + "accuracy: {gptscore: {judge: m, quality: 'no place'}}\n",
       "expected {given} exactly once"},
      {7, head + "accuracy: {state_drift: true}\n", "accuracy.state_drift"},
      {7, head + "generation: {batch: 2, sampling: sample}\n",
       "generation.batch: found 2, expected 1 with sampling"},
      {7, head + "generation: {batch: 2}\nparallel: {mode: sequence}\n",
       "generation.batch: found 2, expected 1 in parallel.mode sequence"},
      {7, head + "parallel: {ranks_per_group: 2}\n",
       "parallel.ranks_per_group: found 2, expected 1 in mode data"},
      {7, head + "parallel: {mode: sequence}\nexecution: {prefill_tokens: 64}\n",
       "execution.prefill_tokens: found 64, expected 0 (whole prompts) in parallel.mode sequence"},
      {7, head + "ssm: {variant: own_end_state}\n",
       "exp.yaml:6:7: ssm.variant: 'own_end_state' cannot decode from a cached state"},
      {7, head + "sweep: {matrix: {ssm.variant: [default, own_end_state]}}\n",
       "point 1 (ssm.variant=own_end_state): ssm.variant: 'own_end_state' cannot decode"},
      {7,
       "schema: 1\nname: a\nmodel: {path: m}\nprompts: {file: p, synthetic: {tokens: 1, count: "
       "1}}\n",
       "found both file and synthetic"},
      {7,
       "schema: 1\nname: a\nmodel: {path: m}\nprompts: {synthetic: {tokens: 16777216, count: "
       "1000}}\n",
       "found 1000 x 16777216 tokens, expected at most"},
  };
  return table;
}

TEST_CASE("Every bad experiment file ends with one clear line") {
  for (const BadText& row : rows()) {
    check_bad_input({row.number, [&] { parse_experiment(row.text, "exp.yaml"); }, row.expected},
                    64);
  }
}

TEST_CASE("Every bad override ends with one clear line") {
  const std::vector<BadText> table = {
      {4, "promts.limit=3", "-s promts.limit=3: unknown key 'promts' (did you mean 'prompts'?)"},
      {4, "prompts.limit", "expected key.path=value"},
      {4, "=3", "expected key.path=value"},
      {4, "a..b=3", "expected key.path=value"},
      {7, "prompts.limit=three",
       "-s prompts.limit=three: prompts.limit: found 'three', expected an integer"},
      {6, "model.path=", "the key 'model.path' is missing"},
      {14, "prompts.limit=" + repeated("[", 100000), "found nesting deeper than 32 levels"},
      {15, "prompts.limit=&a 3", "found an anchor"},
      {19, "prompts.limit=3\n---\n4", "found a second document"},
      {25, "sweep.matrix.ssm.variant=[default, x]", "unknown value 'x'"},
      {25, "sweep.matrix.ssm.variant=default", "found 'default', expected a list"},
  };
  for (const BadText& row : table) {
    const auto read = [&] { parse_experiment(head, "exp.yaml", {row.text}); };
    check_bad_input({row.number, read, row.expected}, 64);
  }
  const std::vector<std::string> swept = {"sweep.matrix.ssm.lookback=[1, 2]", "ssm.lookback=3"};
  CHECK_THROWS_WITH(parse_experiment(head, "exp.yaml", swept),
                    "-s ssm.lookback=3: 'ssm.lookback' is a sweep axis, expected "
                    "sweep.matrix.ssm.lookback=[...]");
}

TEST_CASE("An experiment is read from regular files only") {
  const TemporaryFolder folder;
  const std::string fifo = folder.path("fifo");
  REQUIRE(mkfifo(fifo.c_str(), 0644) == 0);
  const std::string sparse = folder.path("sparse.yaml");
  REQUIRE(truncate(folder.write("sparse.yaml", head).c_str(), 1LL << 40) == 0);
  const std::vector<BadText> table = {
      {26, folder.path(""), "found a directory, expected a regular file"},
      {26, fifo, "found a FIFO, expected a regular file"},
      {26, "/dev/zero", "/dev/zero: found a device, expected a regular file"},
      {26, folder.path("absent.yaml"), "absent.yaml: cannot be opened: No such file or directory"},
      {26, folder.path(repeated("x", 300)), "cannot be opened: File name too long"},
      {20, sparse, "found more than 1048576 bytes"},
      {23, folder.path("a\0b"s), "the path holds a NUL byte"},
      {26, "", "'': cannot be opened"},
  };
  for (const BadText& row : table) {
    check_bad_input({row.number, [&] { load_experiment(row.text); }, row.expected}, 64);
  }
}

TEST_CASE("An experiment file that may not be read is named") {
  const TemporaryFolder folder;
  const std::string path = folder.write("secret.yaml", head);
  check_forbidden(path, 64, [](const std::string& file) { load_experiment(file); });
}

TEST_CASE("No change of bytes makes the reader fail in another way") {
  const std::string seed_text = head +
                                "generation: {max_new_tokens: 7, sampling: {temperature: 0.5}}\n"
                                "ssm:\n  variant: \"lookback\"\n  chunk_size: 64  # comment\n"
                                "sweep:\n  matrix:\n    ssm.lookback: [0, 1, 2]\n"
                                "  exclude: [\"ssm.lookback == 1 and (ssm.chunk_size < 5)\"]\n"
                                "slurm: {time: 30m, account: 'a'}\n";
  const std::vector<std::string> pieces = {"\t",
                                           "\n",
                                           "- ",
                                           "? ",
                                           ": ",
                                           "&a ",
                                           "*a",
                                           "[",
                                           "]",
                                           "{",
                                           "}",
                                           "'",
                                           "\"",
                                           "|\n",
                                           ">-\n",
                                           "!!",
                                           "---\n",
                                           "...\n",
                                           "%",
                                           "#",
                                           ",",
                                           "\\x",
                                           "\xC3",
                                           "0x",
                                           "~",
                                           "<<",
                                           "@",
                                           "`",
                                           std::string(1, '\0')};
  check_changed_bytes<UsageError>({seed_text}, pieces, 20240607, [](const std::string& text) {
    parse_experiment(text, "exp.yaml");
  });
}

}  // namespace
}  // namespace chunkstate
