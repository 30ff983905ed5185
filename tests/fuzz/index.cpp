// SPDX-License-Identifier: Apache-2.0
// model.safetensors.index.json beside two shards (a.safetensors: a, b; c.safetensors: c) -> a
// checkpoint.
#include "core/checkpoint/checkpoint.hpp"
#include "core/errors.hpp"
#include "tests/core/input_builders.hpp"
#include "tests/fuzz/target.hpp"

using namespace chunkstate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const bool shards_are_there = [] {
    folder.write("a.safetensors", safetensors_file({tensor_entry("a", "F32", "[1]", "[0,4]"),
                                                    tensor_entry("b", "BF16", "[2]", "[4,8]")},
                                                   "aaaabbbb"));
    folder.write("c.safetensors",
                 safetensors_file({tensor_entry("c", "F16", "[2]", "[0,4]")}, "cccc"));
    return true;
  }();
  expect(shards_are_there, "the shards are written");
  folder.write("model.safetensors.index.json", std::string(text_of(data, size)));
  try {
    const auto checkpoint = open_safetensors(folder.path());
    expect(checkpoint->contains("a") != checkpoint->contains("c") || checkpoint->bytes() == 12,
           "an index names all tensors of its shards");
    if (checkpoint->contains("b"))
      expect(checkpoint->tensor("b", {2}).data[0] == std::byte{'b'}, "b");
  } catch (const InputError&) {
  }
  return 0;
}
