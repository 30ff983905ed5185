// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/temporary_file.hpp"

#include <cerrno>
#include <charconv>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/record/file_io.hpp"
#include "experiments/record/process_identity.hpp"

namespace chunkstate {
namespace {

/// Removes `word` and the point before it from the end of `text`; false if it is not a number.
bool take_number(std::string_view& text, std::int64_t& number) {
  const std::size_t point = text.rfind('.');
  if (point == std::string_view::npos) return false;
  const std::string_view word = text.substr(point + 1);
  text = text.substr(0, point);
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc{} && end == word.data() + word.size();
}

void remove_abandoned(const std::filesystem::path& directory, std::string_view prefix,
                      const ProcessIdentity& here) {
  std::error_code failed;
  std::vector<std::filesystem::path> abandoned;
  for (std::filesystem::directory_iterator entry(directory, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix)) continue;
    std::string_view rest = std::string_view(name).substr(prefix.size());
    ProcessIdentity owner = here;
    if (!take_number(rest, owner.start_ticks) || !take_number(rest, owner.pid)) continue;
    if (rest == here.host && liveness(owner) == Liveness::dead) abandoned.push_back(entry->path());
  }
  for (const auto& path : abandoned) std::filesystem::remove(path, failed);
}

}  // namespace

TemporaryFile::TemporaryFile(const std::filesystem::path& target) {
  const ProcessIdentity here = this_process();
  const std::string prefix = target.filename().string() + ".tmp.";
  const std::filesystem::path folder = target.has_parent_path() ? target.parent_path() : ".";
  std::error_code unknown;
  const std::filesystem::file_status status = std::filesystem::status(folder, unknown);
  if (!std::filesystem::exists(status)) throw FileError(ENOENT, folder, "open");
  if (!std::filesystem::is_directory(status)) throw FileError(ENOTDIR, folder, "open");
  remove_abandoned(folder, prefix, here);
  path_ = target;
  path_.replace_filename(prefix + here.host + "." + std::to_string(here.pid) + "." +
                         std::to_string(here.start_ticks));
}

TemporaryFile::~TemporaryFile() {
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace chunkstate
