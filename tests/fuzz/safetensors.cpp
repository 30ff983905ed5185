// SPDX-License-Identifier: Apache-2.0
// The start of a safetensors file -> its entries. The last four bytes of the input say how much
// longer the file is than what follows the header, so that tensors need no data.
#include "core/checkpoint/safetensors.hpp"

#include <cstring>

#include "core/errors.hpp"
#include "tests/fuzz/target.hpp"

using namespace chunkstate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint32_t more = 0;
  if (size < sizeof(more)) return 0;
  size -= sizeof(more);
  std::memcpy(&more, data + size, sizeof(more));
  const std::uint64_t file_size = size + more;
  try {
    std::uint64_t end = 0;
    for (const auto& entry : parse_safetensors_header(text_of(data, size), file_size, "file")) {
      expect(end == 0 || entry.begin == end, "entries follow each other without holes or overlaps");
      expect(entry.begin <= entry.end && entry.end <= file_size, "an entry lies in the file");
      end = entry.end;
    }
    expect(end == 0 || end == file_size, "the entries fill the file");
  } catch (const InputError&) {
  }
  return 0;
}
