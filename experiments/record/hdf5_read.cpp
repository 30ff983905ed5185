// SPDX-License-Identifier: Apache-2.0
#include <hdf5_hl.h>

#include <algorithm>
#include <sstream>

#include "experiments/record/hdf5.hpp"

namespace chunkstate::h5 {
namespace {

/// Deflate shrinks at most 1032-fold: a dataset that claims more is damaged or hostile, and is not
/// allocated.
constexpr double highest_compression = 1100;
constexpr double always_allowed_bytes = 1 << 20;

}  // namespace

Handle Group::open_column(const std::string& name, H5T_class_t expected) const {
  Handle dataset(check(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), where(name)), H5Dclose);
  const Handle type(check(H5Dget_type(dataset.get()), where(name)), H5Tclose);
  if (H5Tget_class(type.get()) != expected) {
    throw Error(where(name) + ": expected " +
                (expected == H5T_STRING    ? "strings"
                 : expected == H5T_INTEGER ? "integers"
                                           : "floating-point numbers"));
  }
  return dataset;
}

std::int64_t Group::elements(const Handle& dataset, const std::string& name) const {
  const Handle space(check(H5Dget_space(dataset.get()), where(name)), H5Sclose);
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), where(name));
  const hssize_t count = check(H5Sget_simple_extent_npoints(space.get()), where(name));
  if (rank > 1)
    throw Error(where(name) + ": expected one dimension, found " + std::to_string(rank));
  check_plausible(dataset, count, name);
  return count;
}

void Group::check_plausible(const Handle& dataset, std::int64_t count,
                            const std::string& name) const {
  const Handle type(check(H5Dget_type(dataset.get()), where(name)), H5Tclose);
  const Handle file(check(H5Iget_file_id(dataset.get()), where(name)), H5Fclose);
  hsize_t file_bytes = 0;
  check(H5Fget_filesize(file.get(), &file_bytes), where(name));
  const double bytes = static_cast<double>(count) * static_cast<double>(H5Tget_size(type.get()));
  if (bytes > always_allowed_bytes + highest_compression * static_cast<double>(file_bytes)) {
    throw Error(where(name) + ": " + std::to_string(count) + " elements cannot be in a file of " +
                std::to_string(file_bytes) + " bytes");
  }
}

void Group::read_numbers(const Handle& dataset, const std::string& name, hid_t type,
                         void* values) const {
  check(H5Dread(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), where(name));
  if (reads_ != nullptr) reads_->insert(where(name));
}

std::vector<double> Group::read_table(const std::string& name, std::size_t columns) const {
  const Handle dataset = open_column(name, H5T_FLOAT);
  const Handle space(check(H5Dget_space(dataset.get()), where(name)), H5Sclose);
  hsize_t extents[2] = {0, 0};
  if (check(H5Sget_simple_extent_ndims(space.get()), where(name)) != 2 ||
      check(H5Sget_simple_extent_dims(space.get(), extents, nullptr), where(name)) != 2 ||
      extents[1] != columns) {
    throw Error(where(name) + ": expected rows of " + std::to_string(columns) + " numbers");
  }
  const hssize_t count = check(H5Sget_simple_extent_npoints(space.get()), where(name));
  check_plausible(dataset, count, name);
  std::vector<double> values(static_cast<std::size_t>(count));
  read_numbers(dataset, name, H5T_NATIVE_DOUBLE, values.data());
  return values;
}

std::vector<std::string> Group::read_texts(const std::string& name) const {
  const Handle dataset = open_column(name, H5T_STRING);
  const Handle type(check(H5Dget_type(dataset.get()), where(name)), H5Tclose);
  if (check(H5Tis_variable_str(type.get()), where(name)) == 0) {
    throw Error(where(name) + ": expected variable-length strings");
  }
  const auto count = static_cast<std::size_t>(elements(dataset, name));
  std::vector<std::string> texts(count);
  std::vector<char*> pointers(count, nullptr);
  const Handle space(check(H5Dget_space(dataset.get()), where(name)), H5Sclose);
  read_numbers(dataset, name, type.get(), pointers.data());
  for (std::size_t i = 0; i < count; ++i) texts[i] = pointers[i] == nullptr ? "" : pointers[i];
  H5Dvlen_reclaim(type.get(), space.get(), H5P_DEFAULT, pointers.data());
  return texts;
}

std::string Group::read_text(const std::string& name) const {
  const std::vector<std::string> texts = read_texts(name);
  if (texts.size() != 1) throw Error(where(name) + ": expected one string");
  return texts[0];
}

H5T_class_t Group::class_of(const std::string& name) const {
  const Handle dataset(check(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), where(name)),
                       H5Dclose);
  const Handle type(check(H5Dget_type(dataset.get()), where(name)), H5Tclose);
  return H5Tget_class(type.get());
}

std::string Group::label_of(const std::string& name) const {
  return Group(Handle(check(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), where(name)),
                      H5Dclose),
               where(name))
      .text_attribute("long_name");
}

std::vector<std::string> Group::read_flags(const std::string& name) const {
  const std::vector<std::uint8_t> codes = read<std::uint8_t>(name);
  const Group dataset(
      Handle(check(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), where(name)), H5Dclose),
      where(name));
  std::vector<std::string> meanings;
  std::istringstream words(dataset.text_attribute("flag_meanings"));
  for (std::string word; words >> word;) meanings.push_back(word);
  std::vector<std::string> values;
  values.reserve(codes.size());
  for (const std::uint8_t code : codes) {
    if (code >= meanings.size()) {
      throw Error(where(name) + ": code " + std::to_string(code) + " has no meaning");
    }
    values.push_back(meanings[code]);
  }
  return values;
}

std::string Group::dimension_without_scale(const std::string& name) const {
  const Handle dataset(check(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), where(name)),
                       H5Dclose);
  if (H5DSis_scale(dataset.get()) > 0) return "";
  const Handle space(check(H5Dget_space(dataset.get()), where(name)), H5Sclose);
  const int rank = check(H5Sget_simple_extent_ndims(space.get()), where(name));
  const std::vector<std::string> siblings = children();
  for (int dimension = 0; dimension < rank; ++dimension) {
    const bool found = std::any_of(siblings.begin(), siblings.end(), [&](const auto& sibling) {
      if (is_group(sibling)) return false;
      const Handle scale(
          check(H5Dopen2(handle_.get(), sibling.c_str(), H5P_DEFAULT), where(sibling)), H5Dclose);
      return H5DSis_scale(scale.get()) > 0 &&
             H5DSis_attached(dataset.get(), scale.get(), static_cast<unsigned>(dimension)) > 0;
    });
    H5Eclear2(H5E_DEFAULT);
    if (!found) return std::to_string(dimension);
  }
  return "";
}

std::string Group::unreadable(const std::string& name) const {
  try {
    const Handle dataset(check(H5Dopen2(handle_.get(), name.c_str(), H5P_DEFAULT), where(name)),
                         H5Dclose);
    const Handle type(check(H5Dget_type(dataset.get()), where(name)), H5Tclose);
    if (H5Tget_class(type.get()) == H5T_STRING) {
      read_texts(name);
      return "";
    }
    const Handle space(check(H5Dget_space(dataset.get()), where(name)), H5Sclose);
    const hssize_t count = check(H5Sget_simple_extent_npoints(space.get()), where(name));
    check_plausible(dataset, count, name);
    std::vector<char> values(static_cast<std::size_t>(count) * H5Tget_size(type.get()));
    read_numbers(dataset, name, type.get(), values.data());
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<std::string> Group::children() const {
  std::vector<std::string> names;
  const auto visit = [](hid_t, const char* name, const H5L_info_t*, void* out) -> herr_t {
    static_cast<std::vector<std::string>*>(out)->emplace_back(name);
    return 0;
  };
  check(H5Literate(handle_.get(), H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr, visit, &names), path_);
  return names;
}

bool Group::is_group(const std::string& name) const {
  H5O_info_t info;
  check(H5Oget_info_by_name(handle_.get(), name.c_str(), &info, H5P_DEFAULT), where(name));
  return info.type == H5O_TYPE_GROUP;
}

}  // namespace chunkstate::h5
