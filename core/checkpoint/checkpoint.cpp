// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/checkpoint.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <unordered_map>

#include "core/checkpoint/safetensors.hpp"
#include "core/digest.hpp"
#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "core/json_input.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t max_shards = 4096;
constexpr JsonLimits index_limits{std::size_t{32} << 20, std::size_t{1} << 20, 8};

std::string shape_text(const std::vector<std::int64_t>& extents) {
  std::string text = "[";
  for (const std::int64_t extent : extents) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  }
  return text + "]";
}

std::optional<DType> engine_dtype(const std::string& name) {
  if (name == "F32") return DType::fp32;
  if (name == "BF16") return DType::bf16;
  if (name == "F16") return DType::fp16;
  return std::nullopt;
}

template <class Bits>
bool all_nan(const std::byte* data, std::size_t elements, Bits exponent) {
  constexpr Bits sign = static_cast<Bits>(Bits{1} << (8 * sizeof(Bits) - 1));
  for (std::size_t i = 0; i < elements; ++i) {
    Bits bits = 0;
    std::memcpy(&bits, data + i * sizeof(Bits), sizeof(Bits));
    if (static_cast<Bits>(bits & static_cast<Bits>(~sign)) <= exponent) return false;
  }
  return elements > 0;
}

/// Stops at the first number: one page is touched unless a weight really starts with NaN.
bool all_nan(DType dtype, const std::byte* data, std::size_t elements) {
  switch (dtype) {
    case DType::bf16:
      return all_nan<std::uint16_t>(data, elements, 0x7F80U);
    case DType::fp16:
      return all_nan<std::uint16_t>(data, elements, 0x7C00U);
    case DType::fp32:
      break;
  }
  return all_nan<std::uint32_t>(data, elements, 0x7F800000U);
}

class SafetensorsCheckpoint final : public Checkpoint {
 public:
  void add_file(const fs::path& path) {
    const std::size_t file = files_.size();
    files_.push_back(std::make_unique<MappedFile>(path));
    const std::string_view bytes = files_.back()->bytes();
    for (SafetensorsEntry& entry :
         parse_safetensors_header(bytes, bytes.size(), files_.back()->name())) {
      bytes_ += static_cast<std::int64_t>(entry.end - entry.begin);
      const auto [known, added] = tensors_.try_emplace(entry.name, Stored{entry, file});
      if (!added) {
        throw InputError(path.string() + ": tensor '" + printable(entry.name) + "' is also in " +
                         files_[known->second.file]->name());
      }
    }
  }

  const MappedFile& file_of(const std::string& name) const {
    return *files_[tensors_.at(name).file];
  }

  bool contains(const std::string& name) const override { return tensors_.count(name) > 0; }
  bool made_in_memory() const override { return false; }
  std::int64_t bytes() const override { return bytes_; }

  DType dtype(const std::string& name) const override {
    const Stored& stored = find(name);
    const std::optional<DType> dtype = engine_dtype(stored.entry.dtype);
    if (!dtype) {
      throw InputError(place_of(stored) + "has dtype " + stored.entry.dtype +
                       ", expected F32, F16 or BF16");
    }
    return *dtype;
  }

  CheckpointTensor tensor(const std::string& name,
                          const std::vector<std::int64_t>& extents) const override {
    const Stored& stored = find(name);
    const MappedFile& file = *files_[stored.file];
    const SafetensorsEntry& entry = stored.entry;
    const std::string place = place_of(stored);
    file.check_size();
    if (entry.extents != extents) {
      throw InputError(place + "has shape " + shape_text(entry.extents) + ", expected " +
                       shape_text(extents) + " from config.json");
    }
    const DType stored_dtype = dtype(name);
    CheckpointTensor result{name, stored_dtype, entry.extents, data_of(file, entry, stored_dtype)};
    if (all_nan(stored_dtype, result.data, (entry.end - entry.begin) / bytes_of(stored_dtype))) {
      throw InputError(place + "all of its elements are NaN");
    }
    return result;
  }

  std::string digest() const override {
    const std::lock_guard lock(digest_mutex_);
    if (digest_.empty()) {
      Digest digest;
      for (const auto& file : files_) {
        file->check_size();
        digest.bytes(file->bytes());
      }
      digest_ = digest.hex();
    }
    return digest_;
  }

  std::string identity() const override {
    std::string text;
    for (const auto& file : files_) text += file->identity() + '\n';
    return text;
  }

  void know_digest(const std::string& digest) const override {
    const std::lock_guard lock(digest_mutex_);
    digest_ = digest;
  }

 private:
  struct Stored {
    SafetensorsEntry entry;
    std::size_t file = 0;
  };

  const Stored& find(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      throw InputError(files_.front()->name() + (files_.size() > 1 ? " and its shards" : "") +
                       ": tensor '" + printable(name) + "' is missing");
    }
    return found->second;
  }
  std::string place_of(const Stored& stored) const {
    return files_[stored.file]->name() + ": tensor '" + printable(stored.entry.name) + "': ";
  }

  const std::byte* data_of(const MappedFile& file, const SafetensorsEntry& entry,
                           DType dtype) const {
    const char* in_place = file.bytes().data() + entry.begin;
    if (entry.begin % bytes_of(dtype) == 0) return reinterpret_cast<const std::byte*>(in_place);
    const std::lock_guard lock(copies_mutex_);
    std::vector<std::byte>& copy = copies_[entry.name];
    if (copy.empty()) {
      copy.resize(entry.end - entry.begin);
      std::memcpy(copy.data(), in_place, copy.size());
    }
    return copy.data();
  }

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::unordered_map<std::string, Stored> tensors_;
  std::int64_t bytes_ = 0;
  mutable std::mutex digest_mutex_;
  mutable std::string digest_;
  mutable std::mutex copies_mutex_;
  mutable std::map<std::string, std::vector<std::byte>> copies_;
};

/// A shard's path, for a name that came from an untrusted index: a plain name whose target stays
/// inside the folder. A Hugging Face cache keeps snapshots/REVISION/NAME as links to blobs/HASH
/// beside snapshots; these are followed.
fs::path shard_path(const fs::path& folder, const std::string& name, const std::string& index) {
  const std::string place = index + ": shard '" + printable(name) + "' ";
  if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos ||
      name == "." || name == "..") {
    throw InputError(place + "is not a plain file name");
  }
  std::error_code error;
  const fs::path path = folder / name;
  const fs::path target = fs::canonical(path, error);
  if (error) throw InputError(place + "cannot be read: " + error.message());
  const fs::path root = fs::canonical(folder, error);
  const fs::path cache = root.parent_path();
  const bool inside =
      target.parent_path() == root ||
      (cache.filename() == "snapshots" && target.parent_path() == cache.parent_path() / "blobs");
  if (!inside) throw InputError(place + "is a link out of the folder, to " + target.string());
  return path;
}

void add_shards(const fs::path& folder, const fs::path& index_path, SafetensorsCheckpoint& result) {
  const std::string index = index_path.string();
  const json document =
      parse_json(read_input_file(index_path, index_limits.bytes), index, index_limits);
  const JsonObject object(document, index);
  const json& weight_map = object.at("weight_map");
  const JsonObject checked_map(weight_map, index + ": weight_map");
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map.items()) {
    if (!shard.is_string()) {
      checked_map.fail(printable(name).c_str(), shard, "a file name");
    }
    shards.insert(shard.get<std::string>());
  }
  if (shards.empty() || shards.size() > max_shards) {
    checked_map.fail("names " + std::to_string(shards.size()) + " shards, expected 1 to " +
                     std::to_string(max_shards));
  }
  for (const std::string& shard : shards) result.add_file(shard_path(folder, shard, index));
  for (const auto& [name, shard] : weight_map.items()) {
    const fs::path expected = folder / shard.get<std::string>();
    if (!result.contains(name) || result.file_of(name).name() != expected.string()) {
      checked_map.fail("tensor '" + printable(name) + "' is not in " + expected.string());
    }
  }
}

}  // namespace

std::unique_ptr<Checkpoint> open_safetensors(const fs::path& path) {
  auto checkpoint = std::make_unique<SafetensorsCheckpoint>();
  std::error_code ignored;
  const fs::path single = path / "model.safetensors";
  const fs::path index = path / "model.safetensors.index.json";
  if (!fs::is_directory(path, ignored)) {
    checkpoint->add_file(path);
  } else if (fs::exists(fs::symlink_status(single, ignored)) || !fs::exists(index, ignored)) {
    checkpoint->add_file(single);
  } else {
    add_shards(path, index, *checkpoint);
  }
  return checkpoint;
}

bool Checkpoint::make_on_device(const std::string&, const std::vector<std::int64_t>&,
                                const Executor&, std::byte*) const {
  return false;
}

void Checkpoint::copy_tensor(const std::string& name, const std::vector<std::int64_t>& extents,
                             std::byte* target) const {
  const CheckpointTensor source = tensor(name, extents);
  const auto elements = static_cast<std::size_t>(element_count(source.extents));
  std::memcpy(target, source.data, elements * bytes_of(source.dtype));
}

void check_weights(const Checkpoint& checkpoint, const ModelConfig& config) {
  for (const auto& [name, extents] : expected_tensors(config)) checkpoint.tensor(name, extents);
}

}  // namespace chunkstate
