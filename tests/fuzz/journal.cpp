// SPDX-License-Identifier: Apache-2.0
// The journals of a directory -> what they say, as `run` and `status` read them. Every line of the
// input is given its checksum, which no fuzzer could guess; one that starts with '~' goes in
// without the '~' and as it is.
#include "experiments/record/journal.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "experiments/record/checksum.hpp"
#include "experiments/record/run_status.hpp"
#include "tests/fuzz/target.hpp"
#include "tests/temporary_folder.hpp"

using namespace chunkstate;

namespace {

std::string with_checksums(std::string_view input) {
  std::string bytes;
  while (!input.empty()) {
    const std::size_t end = std::min(input.find('\n'), input.size());
    std::string_view line = input.substr(0, end);
    if (line.starts_with('~')) {
      line.remove_prefix(1);
    } else {
      char checksum[16] = "";
      std::snprintf(checksum, sizeof(checksum), "%08x ", crc32c(line));
      bytes += checksum;
    }
    bytes += line;
    if (end < input.size()) bytes += '\n';
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() / "journal");
  const std::filesystem::path path = folder.path() / "journal/host-1-20261121T103102Z.jsonl";
  write_bytes(path, with_checksums(text_of(data, size)));

  const JournalContents contents = read_journals(folder.path());
  std::set<std::string> ids;
  for (const RequestRecord& record : contents.records) {
    expect(ids.insert(record.item_id).second, "one record per item");
    expect(contents.find(record.item_id) == &record, "a record is found by its item");
  }
  RunStart mine;
  mine.yaml_resolved = "name: x\nssm:\n  variant: default\n";
  try {
    check_same_experiment(folder.path(), contents, mine);
  } catch (const OtherExperimentError&) {
  }
  if (size % 4 == 0) read_status(folder.path());  // reads them all again
  return 0;
}
