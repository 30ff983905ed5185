// SPDX-License-Identifier: Apache-2.0
#pragma once

// The 1.10 names of functions that later versions renamed.
#define H5_USE_110_API
#include <hdf5.h>

#include <cstdint>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

/// The part of HDF5 that a results file needs: RAII handles over the C API, one-line errors, and
/// columns that netCDF-4 readers (xarray, ncdump) take for their own: every dimension is a scale in
/// the same group, no enums, no bools.
namespace chunkstate::h5 {

/// "FILE: /requests/ttft: H5Dwrite: ..." with the innermost reason that HDF5 gives.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Owns an HDF5 identifier.
class Handle {
 public:
  Handle() = default;
  Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  hid_t get() const { return id_; }

 private:
  hid_t id_ = H5I_INVALID_HID;
  herr_t (*close_)(hid_t) = nullptr;
};

[[noreturn]] void throw_error(const std::string& where);

/// Throws Error with HDF5's error stack if `result` is negative, else returns it.
template <class Result>
Result check(Result result, const std::string& where) {
  if (result < 0) throw_error(where);
  return result;
}

template <class T>
hid_t native_type() {
  if constexpr (std::is_same_v<T, double>) {
    return H5T_NATIVE_DOUBLE;
  } else if constexpr (std::is_same_v<T, float>) {
    return H5T_NATIVE_FLOAT;
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    return H5T_NATIVE_INT64;
  } else if constexpr (std::is_same_v<T, std::int32_t>) {
    return H5T_NATIVE_INT32;
  } else {
    static_assert(std::is_same_v<T, std::uint8_t>);
    return H5T_NATIVE_UINT8;
  }
}

/// What a column is called and means. `units` "1" for pure numbers and texts.
struct Label {
  std::string name;
  std::string units;
  std::string long_name;
};

class Group {
 public:
  Group(Handle handle, std::string path, std::set<std::string>* reads = nullptr)
      : handle_(std::move(handle)), path_(std::move(path)), reads_(reads) {}

  const std::string& path() const { return path_; }
  /// From now on the names of all columns read here and in groups opened from here go to `names`,
  /// as PATH/NAME.
  void note_reads(std::set<std::string>& names) { reads_ = &names; }
  Group create_group(const std::string& name) const;
  Group open_group(const std::string& name) const;
  bool has(const std::string& name) const;

  void set_attribute(const std::string& name, const std::string& text) const;
  void set_attribute(const std::string& name, std::int64_t value) const;
  std::string text_attribute(const std::string& name) const;
  std::int64_t integer_attribute(const std::string& name) const;

  /// The dimension `label.name` with the coordinates 0 .. size - 1, or with these texts.
  void write_dimension(const Label& label, std::int64_t size) const;
  void write_dimension(const Label& label, std::span<const std::string> coordinates) const;

  /// Values in row-major order over `dimensions`, which were written before. A value equal to
  /// `missing` is announced as _FillValue.
  template <class T>
  void write(const Label& label, std::span<const T> values,
             const std::vector<std::string>& dimensions) const {
    write_numbers(label, native_type<T>(), values.data(), values.size(), dimensions, nullptr);
  }
  template <class T>
  void write(const Label& label, std::span<const T> values,
             const std::vector<std::string>& dimensions, T missing) const {
    write_numbers(label, native_type<T>(), values.data(), values.size(), dimensions, &missing);
  }
  /// Small codes with the CF attributes that explain them; meanings are single words.
  void write_flags(const Label& label, std::span<const std::uint8_t> values,
                   const std::string& dimension, const std::vector<std::string>& meanings) const;
  /// Variable-length UTF-8; ids too: ncdump 4.9.0 crashes on more than one string of a fixed
  /// length.
  void write_texts(const Label& label, std::span<const std::string> values,
                   const std::string& dimension) const;
  void write_text(const Label& label, const std::string& value) const;  // a scalar

  /// All values of a one-dimensional (or scalar) dataset. Throws Error if it is missing, of another
  /// class, or larger than a file of this size can hold.
  template <class T>
  std::vector<T> read(const std::string& name) const {
    const Handle dataset = open_column(name, std::is_floating_point_v<T> ? H5T_FLOAT : H5T_INTEGER);
    std::vector<T> values(static_cast<std::size_t>(elements(dataset, name)));
    read_numbers(dataset, name, native_type<T>(), values.data());
    return values;
  }
  /// Real numbers in rows of `columns`, row-major. Throws Error if it is no such table.
  std::vector<double> read_table(const std::string& name, std::size_t columns) const;
  std::vector<std::string> read_texts(const std::string& name) const;
  std::vector<std::string> read_flags(const std::string& name) const;  // as their meanings
  std::string read_text(const std::string& name) const;                // of a scalar
  H5T_class_t class_of(const std::string& name) const;
  std::string label_of(const std::string& name) const;  // its long_name
  /// The index of the first dimension of a dataset that is attached to no scale of this group;
  /// empty if all are.
  std::string dimension_without_scale(const std::string& name) const;
  /// Reads the whole dataset, so that its checksums are verified; the error if it cannot be read,
  /// else empty.
  std::string unreadable(const std::string& name) const;
  std::vector<std::string> children() const;  // datasets and groups, in creation order
  bool is_group(const std::string& name) const;

 private:
  std::string where(const std::string& name) const { return path_ + "/" + name; }
  Handle create_dataset(const Label& label, hid_t type, const std::vector<hsize_t>& extents,
                        const void* fill, bool compress) const;
  void write_numbers(const Label& label, hid_t type, const void* values, std::size_t count,
                     const std::vector<std::string>& dimensions, const void* missing) const;
  void attach(const Handle& dataset, const std::string& name,
              const std::vector<std::string>& dimensions) const;
  std::vector<hsize_t> extents_of(const std::vector<std::string>& dimensions) const;
  void write_vlen(const Handle& dataset, const std::string& name,
                  std::span<const std::string> values) const;
  Handle open_column(const std::string& name, H5T_class_t expected) const;
  std::int64_t elements(const Handle& dataset, const std::string& name) const;
  void check_plausible(const Handle& dataset, std::int64_t count, const std::string& name) const;
  void read_numbers(const Handle& dataset, const std::string& name, hid_t type, void* values) const;

  Handle handle_;
  std::string path_;
  std::set<std::string>* reads_ = nullptr;
};

/// A new file in memory, in the format that HDF5 1.8 to 1.14 read, creation order tracked. In
/// memory because HDF5 1.10 crashes at exit after a failed write to a full disk; `file_image` gives
/// its bytes. `path` is used in messages only.
Handle create_file(const std::string& path);
std::string file_image(const Handle& file, const std::string& path);
/// For reading only, without HDF5's locks: on parallel file systems they fail. No plugin is loaded.
Handle open_file(const std::string& path);
/// Throws Error if the file holds anything that create_file() and Group do not write and that could
/// lead HDF5 out of it or into a trap: links other than hard ones, groups in groups in groups,
/// external or virtual storage, filters other than shuffle, deflate and fletcher32, chunks of more
/// than 64 MiB, types other than numbers and strings. Reads no data.
void check_contained(const Handle& file, const std::string& path);
Group root_group(const Handle& file, const std::string& path);

}  // namespace chunkstate::h5
