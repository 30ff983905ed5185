// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace chunkstate {

/// The algorithm that was fastest for a product, as the library stores it.
struct TunedAlgorithm {
  std::array<std::uint64_t, 8> words{};
  double microseconds = 0;  // of one product when it was chosen
};

/// What searches on this machine have found, in a text file of the user's cache folder, so that the
/// next process takes the same algorithms: the search is saved and results repeat bit by bit. One
/// file per `owner`, whose algorithms mean nothing to others: a device's name and the library's
/// version. A damaged or foreign file counts as empty and is replaced by the next add(); one line
/// on stderr says so. Without a folder to write to, every process searches for itself.
class AlgorithmCache {
 public:
  /// In $XDG_CACHE_HOME/chunkstate or ~/.cache/chunkstate.
  explicit AlgorithmCache(std::string owner);
  AlgorithmCache(const std::filesystem::path& folder, std::string owner);

  const std::filesystem::path& file() const { return file_; }  // empty: nowhere

  /// `product`: one line without tabs that tells products apart.
  std::optional<TunedAlgorithm> find(const std::string& product) const;
  /// Replaces the file as a whole. Keeps what other processes added meanwhile. Call it in a Turn.
  void add(const std::string& product, const TunedAlgorithm& algorithm) const;

  /// Held by one process at a time, so that the ranks of a host do not time against each other and
  /// agree on the result. Waits for the others; where files cannot be locked, it does nothing.
  class Turn {
   public:
    explicit Turn(const AlgorithmCache& cache);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    int descriptor_ = -1;
  };

 private:
  std::string owner_;
  std::filesystem::path file_;
};

}  // namespace chunkstate
