// SPDX-License-Identifier: Apache-2.0
// tokenizer.json -> a tokenizer, which encodes a few texts and decodes what it made of them.
#include "core/tokenizer/tokenizer.hpp"

#include <string>

#include "core/errors.hpp"
#include "tests/fuzz/target.hpp"

using namespace chunkstate;

namespace {

const std::string texts[] = {"Who?\n\"Me\" 12345 don't <|eot_id|>  ",
                             "\xE2\x82\xAC \xF0\x9F\x98\x80 \xC3\xA9t\xC3\xA9\t\r\n",
                             std::string(64, 'a') + "!"};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const Tokenizer tokenizer(text_of(data, size), "tokenizer.json");
    for (const std::string& text : texts) {
      try {
        const auto ids = tokenizer.encode(text, true);
        for (const std::int32_t id : ids) expect(id >= 0 && id < tokenizer.size(), "a known id");
        tokenizer.decode(ids);
      } catch (const InputError&) {  // the vocabulary lacks a byte, or the expression its limits
      }
    }
  } catch (const InputError&) {
  }
  return 0;
}
