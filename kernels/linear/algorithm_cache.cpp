// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/algorithm_cache.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string_view>
#include <system_error>

namespace chunkstate {
namespace {

constexpr std::string_view title = "chunkstate matrix product algorithms 1, ";
constexpr std::uintmax_t largest_file = std::uintmax_t{4} << 20;

using Table = std::map<std::string, TunedAlgorithm>;

std::filesystem::path user_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::filesystem::path(cache) / "chunkstate";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return std::filesystem::path(home) / ".cache" / "chunkstate";
  }
  return {};
}

std::string file_name(const std::string& owner) {
  std::string name = "products-";
  for (const char c : owner) {
    name += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '-';
  }
  return name + ".txt";
}

void warn(const std::filesystem::path& file, const std::string& text) {
  std::fprintf(stderr, "chunkstate: %s: %s\n", file.c_str(), text.c_str());
}

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

// FNV-1a: a damaged line must not become another algorithm.
std::uint64_t checksum(std::string_view text) {
  std::uint64_t sum = 0xcbf29ce484222325ULL;
  for (const char c : text) sum = (sum ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return sum;
}

// product TAB words TAB microseconds TAB checksum of what comes before
std::string line_of(const std::string& product, const TunedAlgorithm& algorithm) {
  std::string line = product + '\t';
  for (const std::uint64_t word : algorithm.words) line += hex(word);
  char time[32];
  std::snprintf(time, sizeof time, "\t%.3f\t", algorithm.microseconds);
  line += time;
  return line + hex(checksum(line));
}

bool parse_hex(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse_line(std::string_view line, Table& table) {
  const std::size_t words = line.find('\t');
  const std::size_t time = words == line.npos ? line.npos : line.find('\t', words + 1);
  const std::size_t sum = time == line.npos ? line.npos : line.find('\t', time + 1);
  if (sum == line.npos || time - words - 1 != 8 * 16 || line.size() - sum - 1 != 16) return false;
  std::uint64_t stored = 0;
  if (!parse_hex(line.substr(sum + 1), stored) || stored != checksum(line.substr(0, sum + 1))) {
    return false;
  }
  TunedAlgorithm algorithm;
  for (std::size_t k = 0; k < 8; ++k) {
    if (!parse_hex(line.substr(words + 1 + 16 * k, 16), algorithm.words[k])) return false;
  }
  algorithm.microseconds = std::atof(std::string(line.substr(time + 1, sum - time - 1)).c_str());
  table[std::string(line.substr(0, words))] = algorithm;
  return true;
}

Table read_table(const std::filesystem::path& file, const std::string& owner, bool say_why) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(file, error);
  if (error) return {};
  std::string damage;
  Table table;
  if (bytes > largest_file) {
    damage = "larger than " + std::to_string(largest_file) + " bytes";
  } else {
    std::ifstream stream(file);
    std::string line;
    std::int64_t number = 1;
    if (!std::getline(stream, line) || line != std::string(title) + owner) {
      damage = "line 1 is not '" + std::string(title) + owner + "'";
    }
    while (damage.empty() && std::getline(stream, line)) {
      ++number;
      if (!parse_line(line, table)) damage = "line " + std::to_string(number) + " is damaged";
    }
  }
  if (damage.empty()) return table;
  if (say_why) warn(file, damage + "; not used, searching again");
  return {};
}

bool write_file(const std::filesystem::path& file, const std::string& text) {
  std::string part = file.string() + ".XXXXXX";
  const int descriptor = ::mkstemp(part.data());
  if (descriptor < 0) return false;
  const bool written =
      ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(descriptor);
  std::error_code error;
  if (written) std::filesystem::rename(part, file, error);
  if (written && !error) return true;
  std::filesystem::remove(part, error);
  return false;
}

}  // namespace

AlgorithmCache::AlgorithmCache(std::string owner) : AlgorithmCache(user_folder(), owner) {}

AlgorithmCache::AlgorithmCache(const std::filesystem::path& folder, std::string owner)
    : owner_(std::move(owner)) {
  if (folder.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder, error);  // where this fails, so does add()
  file_ = folder / file_name(owner_);
}

std::optional<TunedAlgorithm> AlgorithmCache::find(const std::string& product) const {
  if (file_.empty()) return std::nullopt;
  const Table table = read_table(file_, owner_, true);
  const auto found = table.find(product);
  if (found == table.end()) return std::nullopt;
  return found->second;
}

void AlgorithmCache::add(const std::string& product, const TunedAlgorithm& algorithm) const {
  if (file_.empty()) return;
  Table table = read_table(file_, owner_, false);
  table[product] = algorithm;
  std::string text = std::string(title) + owner_ + '\n';
  for (const auto& [key, value] : table) text += line_of(key, value) + '\n';
  if (!write_file(file_, text)) {
    static bool said = false;
    if (!said) warn(file_, "cannot be written; every process searches for itself");
    said = true;
  }
}

AlgorithmCache::Turn::Turn(const AlgorithmCache& cache) {
  if (cache.file().empty()) return;
  const std::string path = cache.file().string() + ".lock";
  descriptor_ = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor_ < 0) return;
  while (::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {
  }
}

AlgorithmCache::Turn::~Turn() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace chunkstate
