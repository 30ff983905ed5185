// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/errors.hpp"
#include "core/utf8.hpp"

namespace chunkstate {
namespace {

using nlohmann::json;

constexpr std::uint64_t max_header_bytes = 100'000'000;  // the format's own limit
constexpr std::size_t max_tensors = std::size_t{1} << 20;
constexpr std::size_t max_rank = 16;

struct FormatDtype {
  const char* name;
  std::uint64_t bits;
};

constexpr std::array<FormatDtype, 22> format_dtypes = {{
    {"BOOL", 8},        {"U8", 8},          {"I8", 8},      {"U16", 16},    {"I16", 16},
    {"U32", 32},        {"I32", 32},        {"U64", 64},    {"I64", 64},    {"F16", 16},
    {"BF16", 16},       {"F32", 32},        {"F64", 64},    {"C64", 64},    {"F8_E4M3", 8},
    {"F8_E5M2", 8},     {"F8_E8M0", 8},     {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
}};

std::string tensor_text(const std::string& name) { return "tensor '" + printable(name) + "'"; }

std::string offsets_text(std::uint64_t begin, std::uint64_t end) {
  return "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + "]";
}

/// Follows the only shape a header may have: {name: {dtype, shape, data_offsets}, "__metadata__":
/// {key: string}}. Nothing else is stored, so that a hostile header costs no more memory than its
/// own size.
class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const std::string& file) : file_(file) {}

  std::vector<SafetensorsEntry> take() { return std::move(entries_); }

  bool start_object(std::size_t) override {
    if (place_ == Place::file) return move_to(Place::header);
    if (place_ == Place::header) return move_to(in_metadata_ ? Place::metadata : Place::tensor);
    fail("holds an object where " + expected());
  }

  bool key(string_t& name) override {
    if (place_ == Place::header) {
      in_metadata_ = name == "__metadata__";
      if (in_metadata_) {
        if (std::exchange(has_metadata_, true)) fail("key '__metadata__' appears twice");
        return true;
      }
      if (entries_.size() == max_tensors) {
        fail("has more than " + std::to_string(max_tensors) + " tensors");
      }
      entries_.push_back({std::move(name), {}, {}, 0, 0});
      fields_ = 0;
    } else if (place_ == Place::tensor) {
      field_ = name == "dtype"          ? Field::dtype
               : name == "shape"        ? Field::shape
               : name == "data_offsets" ? Field::offsets
                                        : Field::none;
      if (field_ == Field::none) fail("unknown key '" + printable(name) + "'");
      const unsigned bit = 1U << static_cast<unsigned>(field_);
      if ((fields_ & bit) != 0) fail("key '" + name + "' appears twice");
      fields_ |= bit;
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      if (fields_ != 7) {
        const char* missing = (fields_ & 1U) == 0   ? "dtype"
                              : (fields_ & 2U) == 0 ? "shape"
                                                    : "data_offsets";
        fail(std::string(missing) + " is missing");
      }
      return move_to(Place::header);
    }
    if (place_ == Place::metadata) return move_to(Place::header);
    return move_to(Place::end);
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::tensor && (field_ == Field::shape || field_ == Field::offsets)) {
      offsets_read_ = 0;
      return move_to(Place::array);
    }
    fail("holds an array where " + expected());
  }

  bool end_array() override {
    if (field_ == Field::offsets && offsets_read_ != 2) fail("data_offsets has not two elements");
    return move_to(Place::tensor);
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::array) fail("holds a number where " + expected());
    if (field_ == Field::offsets) {
      if (offsets_read_ == 2) fail("data_offsets has not two elements");
      (offsets_read_++ == 0 ? entries_.back().begin : entries_.back().end) = value;
      return true;
    }
    if (value > static_cast<std::uint64_t>(INT64_MAX)) {
      fail("shape has the extent " + std::to_string(value) + ", expected less than 2^63");
    }
    if (entries_.back().extents.size() == max_rank) {
      fail("shape has more than " + std::to_string(max_rank) + " extents");
    }
    entries_.back().extents.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) return true;
    if (place_ != Place::tensor || field_ != Field::dtype) {
      fail("holds '" + printable(value) + "' where " + expected());
    }
    entries_.back().dtype = std::move(value);
    return true;
  }

  bool null() override { fail("holds null where " + expected()); }
  bool boolean(bool) override { fail("holds a boolean where " + expected()); }
  bool binary(binary_t&) override { fail("holds binary data where " + expected()); }
  bool number_integer(number_integer_t value) override {
    fail("holds " + std::to_string(value) + " where " + expected());
  }
  bool number_float(number_float_t, const string_t& text) override {
    fail("holds " + printable(text) + " where " + expected());
  }

  bool parse_error(std::size_t position, const std::string&,
                   const json::exception& error) override {
    const std::string_view text = error.what();
    const std::size_t reason = text.rfind(": syntax error");
    throw InputError(
        file_ + ": byte " + std::to_string(8 + (position > 0 ? position - 1 : 0)) +
        ": the header is not JSON" +
        (reason == std::string_view::npos ? std::string() : printable(text.substr(reason), 160)));
  }

 private:
  enum class Place { file, header, metadata, tensor, array, end };
  enum class Field { dtype, shape, offsets, none };

  bool move_to(Place place) {
    place_ = place;
    return true;
  }

  std::string expected() const {
    switch (place_) {
      case Place::file:
        return "an object is expected";
      case Place::header:
        return "a tensor's {dtype, shape, data_offsets} is expected";
      case Place::metadata:
        return "a string is expected";
      case Place::array:
        return "an integer of at least 0 is expected";
      default:
        break;
    }
    return field_ == Field::dtype ? "a dtype is expected" : "an array of integers is expected";
  }

  [[noreturn]] void fail(const std::string& what) const {
    const bool in_tensor = !in_metadata_ && !entries_.empty() && place_ != Place::file;
    throw InputError(file_ + ": header: " + (in_metadata_ ? "__metadata__: " : "") +
                     (in_tensor ? tensor_text(entries_.back().name) + ": " : "") + what);
  }

  const std::string& file_;
  Place place_ = Place::file;
  Field field_ = Field::none;
  bool in_metadata_ = false;
  bool has_metadata_ = false;
  unsigned fields_ = 0;
  int offsets_read_ = 0;
  std::vector<SafetensorsEntry> entries_;
};

std::uint64_t header_length(std::string_view bytes) {
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) {
    length = (length << 8) | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  }
  return length;
}

/// The header's JSON text, with the spaces that may pad it cut off.
std::string_view header_text(std::string_view bytes, std::uint64_t file_size,
                             const std::string& file) {
  if (file_size < 8 || bytes.size() < 8) {
    throw InputError(file + ": has " + std::to_string(file_size) +
                     " bytes, expected at least 8 for the header's length");
  }
  const std::uint64_t length = header_length(bytes);
  if (length == 0 || length > max_header_bytes) {
    throw InputError(file + ": byte 0: the header's length is " + std::to_string(length) +
                     ", expected 1 to " + std::to_string(max_header_bytes));
  }
  if (length > file_size - 8 || length > bytes.size() - 8) {
    throw InputError(file + ": byte 0: the header's length is " + std::to_string(length) +
                     ", but only " + std::to_string(file_size - 8) + " bytes follow");
  }
  std::string_view text = bytes.substr(8, length);
  if (text.front() != '{') {
    throw InputError(file + ": byte 8: the header starts with '" + printable(text.substr(0, 1)) +
                     "', expected '{'");
  }
  const std::size_t last = text.find_last_not_of(' ');
  if (text[last] != '}') {
    throw InputError(file + ": byte " + std::to_string(8 + last) + ": the header ends with '" +
                     printable(text.substr(last, 1)) + "', expected '}' and spaces only");
  }
  return text.substr(0, last + 1);
}

void check_unique_names(const std::vector<SafetensorsEntry>& entries, const std::string& file) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) names.emplace_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    throw InputError(file + ": header: " + tensor_text(std::string(*twice)) + " appears twice");
  }
}

std::uint64_t stated_bytes(const SafetensorsEntry& entry, const std::string& place) {
  const auto* dtype = std::find_if(format_dtypes.begin(), format_dtypes.end(),
                                   [&](const FormatDtype& d) { return entry.dtype == d.name; });
  if (dtype == format_dtypes.end()) {
    std::string known;
    for (const FormatDtype& d : format_dtypes) known += std::string(" ") + d.name;
    throw InputError(place + "unknown dtype '" + printable(entry.dtype) + "'; known:" + known);
  }
  std::uint64_t bits = dtype->bits;
  for (const std::int64_t extent : entry.extents) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(extent), &bits)) {
      throw InputError(place + "the product of its shape overflows 64 bits");
    }
  }
  if (bits % 8 != 0) throw InputError(place + "its elements do not fill whole bytes");
  return bits / 8;
}

void check_entry(const SafetensorsEntry& entry, std::uint64_t data_bytes, const std::string& file) {
  const std::string place = file + ": " + tensor_text(entry.name) + ": ";
  const std::string offsets = offsets_text(entry.begin, entry.end);
  if (entry.begin > entry.end) throw InputError(place + offsets + ": begin is after end");
  if (entry.end > data_bytes) {
    throw InputError(place + offsets + ": end is beyond the " + std::to_string(data_bytes) +
                     " bytes of data in the file (cut off?)");
  }
  const std::uint64_t expected = stated_bytes(entry, place);
  if (entry.end - entry.begin != expected) {
    throw InputError(place + offsets + " hold " + std::to_string(entry.end - entry.begin) +
                     " bytes, expected " + std::to_string(expected) + " for its shape and dtype " +
                     entry.dtype);
  }
}

}  // namespace

std::vector<SafetensorsEntry> parse_safetensors_header(std::string_view bytes,
                                                       std::uint64_t file_size,
                                                       const std::string& file) {
  const std::string_view text = header_text(bytes, file_size, file);
  const std::uint64_t data_begin = 8 + header_length(bytes);
  const std::uint64_t data_bytes = file_size - data_begin;

  HeaderReader reader(file);
  json::sax_parse(text.begin(), text.end(), &reader);
  std::vector<SafetensorsEntry> entries = reader.take();
  check_unique_names(entries, file);
  for (const SafetensorsEntry& entry : entries) check_entry(entry, data_bytes, file);

  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t next = 0;
  const std::string* before = nullptr;
  for (SafetensorsEntry& entry : entries) {
    const std::string offsets = offsets_text(entry.begin, entry.end);
    if (entry.begin < next) {
      throw InputError(file + ": " + tensor_text(entry.name) + ": " + offsets + " overlap " +
                       tensor_text(*before) + ", which ends at " + std::to_string(next));
    }
    if (entry.begin > next) {
      throw InputError(file + ": " + tensor_text(entry.name) + ": " + offsets +
                       " leave a hole: expected to begin at " + std::to_string(next));
    }
    next = entry.end;
    before = &entry.name;
    entry.begin += data_begin;
    entry.end += data_begin;
  }
  if (next != data_bytes) {
    throw InputError(file + ": " + std::to_string(data_bytes - next) +
                     " bytes follow the last tensor's data, which ends at byte " +
                     std::to_string(data_begin + next));
  }
  return entries;
}

}  // namespace chunkstate
