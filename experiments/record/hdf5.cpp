// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/hdf5.hpp"

#include <hdf5_hl.h>

#include <algorithm>
#include <functional>
#include <numeric>

namespace chunkstate::h5 {
namespace {

// 256 KiB of doubles: large enough to compress, small enough for HDF5's 1 MiB chunk cache.
constexpr hsize_t chunk_elements = 32768;
// Level 1 takes half the time of level 4, and the files are 1 % larger.
constexpr unsigned gzip_level = 1;
constexpr std::size_t memory_increment = std::size_t{16} << 20;

Handle space_of(const std::vector<hsize_t>& extents) {
  if (extents.empty()) return {check(H5Screate(H5S_SCALAR), "H5Screate"), H5Sclose};
  // netCDF knows no empty fixed dimension: one that happens to be empty is declared growable.
  std::vector<hsize_t> largest = extents;
  std::replace(largest.begin(), largest.end(), hsize_t{0}, H5S_UNLIMITED);
  return {check(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), largest.data()),
                "H5Screate_simple"),
          H5Sclose};
}

Handle text_type() {
  Handle type(check(H5Tcopy(H5T_C_S1), "H5Tcopy"), H5Tclose);
  check(H5Tset_size(type.get(), H5T_VARIABLE), "H5Tset_size");
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset");
  return type;
}

Handle access_properties() {
  // Errors become exceptions; printing them too would clutter stderr.
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  Handle properties(check(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate"), H5Pclose);
  check(H5Pset_libver_bounds(properties.get(), H5F_LIBVER_EARLIEST, H5F_LIBVER_V110),
        "H5Pset_libver_bounds");
  check(H5Pset_file_locking(properties.get(), false, true), "H5Pset_file_locking");
  // Closing the file closes what an exception left open in it.
  check(H5Pset_fclose_degree(properties.get(), H5F_CLOSE_STRONG), "H5Pset_fclose_degree");
  return properties;
}

void set_attribute(hid_t object, const std::string& name, hid_t type, hsize_t count,
                   const void* values, const std::string& where) {
  const Handle space = space_of(count == 0 ? std::vector<hsize_t>{} : std::vector<hsize_t>{count});
  const Handle attribute(
      check(H5Acreate2(object, name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
            where + "@" + name),
      H5Aclose);
  check(H5Awrite(attribute.get(), type, values), where + "@" + name);
}

void set_text_attribute(hid_t object, const std::string& name, const std::string& text,
                        const std::string& where) {
  const char* pointer = text.c_str();
  set_attribute(object, name, text_type().get(), 0, &pointer, where);
}

constexpr unsigned creation_order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;

}  // namespace

void throw_error(const std::string& where) {
  std::string text;
  const auto append = [](unsigned, const H5E_error2_t* error, void* out) -> herr_t {
    auto& target = *static_cast<std::string*>(out);
    target += std::string(target.empty() ? "" : ": ") + error->func_name + ": " +
              (error->desc != nullptr ? error->desc : "");
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, append, &text);
  H5Eclear2(H5E_DEFAULT);
  throw Error(where + ": " + (text.empty() ? "HDF5 gives no reason" : text));
}

Handle create_file(const std::string& path) {
  const Handle access = access_properties();
  check(H5Pset_fapl_core(access.get(), memory_increment, false), path);
  const Handle creation(check(H5Pcreate(H5P_FILE_CREATE), path), H5Pclose);
  check(H5Pset_link_creation_order(creation.get(), creation_order), path);
  check(H5Pset_attr_creation_order(creation.get(), creation_order), path);
  check(H5Pset_obj_track_times(creation.get(), false), path);
  return {check(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), path),
          H5Fclose};
}

std::string file_image(const Handle& file, const std::string& path) {
  check(H5Fflush(file.get(), H5F_SCOPE_GLOBAL), path);
  const ssize_t bytes = check(H5Fget_file_image(file.get(), nullptr, 0), path);
  std::string image(static_cast<std::size_t>(bytes), '\0');
  check(H5Fget_file_image(file.get(), image.data(), image.size()), path);
  return image;
}

Handle open_file(const std::string& path) {
  check(H5PLset_loading_state(0), path);
  const Handle access = access_properties();
  return {check(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), path), H5Fclose};
}

Group root_group(const Handle& file, const std::string& path) {
  return {Handle(check(H5Gopen2(file.get(), "/", H5P_DEFAULT), path), H5Gclose), path + ":"};
}

Group Group::create_group(const std::string& name) const {
  const Handle creation(check(H5Pcreate(H5P_GROUP_CREATE), where(name)), H5Pclose);
  check(H5Pset_link_creation_order(creation.get(), creation_order), where(name));
  check(H5Pset_attr_creation_order(creation.get(), creation_order), where(name));
  check(H5Pset_obj_track_times(creation.get(), false), where(name));
  return {Handle(check(H5Gcreate2(handle_.get(), name.c_str(), H5P_DEFAULT, creation.get(),
                                  H5P_DEFAULT),
                       where(name)),
                 H5Gclose),
          where(name)};
}

Group Group::open_group(const std::string& name) const {
  return {Handle(check(H5Gopen2(handle_.get(), name.c_str(), H5P_DEFAULT), where(name)), H5Gclose),
          where(name), reads_};
}

bool Group::has(const std::string& name) const {
  return H5Lexists(handle_.get(), name.c_str(), H5P_DEFAULT) > 0;
}

void Group::set_attribute(const std::string& name, const std::string& text) const {
  set_text_attribute(handle_.get(), name, text, path_);
}

void Group::set_attribute(const std::string& name, std::int64_t value) const {
  h5::set_attribute(handle_.get(), name, H5T_NATIVE_INT64, 0, &value, path_);
}

std::string Group::text_attribute(const std::string& name) const {
  const std::string place = path_ + "@" + name;
  const Handle attribute(check(H5Aopen(handle_.get(), name.c_str(), H5P_DEFAULT), place), H5Aclose);
  const Handle type(check(H5Aget_type(attribute.get()), place), H5Tclose);
  const Handle space(check(H5Aget_space(attribute.get()), place), H5Sclose);
  if (H5Tis_variable_str(type.get()) <= 0 || H5Sget_simple_extent_npoints(space.get()) != 1) {
    throw Error(place + ": expected one variable-length string");
  }
  char* text = nullptr;
  check(H5Aread(attribute.get(), text_type().get(), &text), place);
  const std::string copy = text == nullptr ? "" : text;
  H5free_memory(text);
  return copy;
}

std::int64_t Group::integer_attribute(const std::string& name) const {
  const std::string place = path_ + "@" + name;
  const Handle attribute(check(H5Aopen(handle_.get(), name.c_str(), H5P_DEFAULT), place), H5Aclose);
  const Handle type(check(H5Aget_type(attribute.get()), place), H5Tclose);
  const Handle space(check(H5Aget_space(attribute.get()), place), H5Sclose);
  if (H5Tget_class(type.get()) != H5T_INTEGER || H5Sget_simple_extent_npoints(space.get()) != 1) {
    throw Error(place + ": expected one integer");
  }
  std::int64_t value = 0;
  check(H5Aread(attribute.get(), H5T_NATIVE_INT64, &value), place);
  return value;
}

Handle Group::create_dataset(const Label& label, hid_t type, const std::vector<hsize_t>& extents,
                             const void* fill, bool compress) const {
  const std::string place = where(label.name);
  const Handle creation(check(H5Pcreate(H5P_DATASET_CREATE), place), H5Pclose);
  check(H5Pset_attr_creation_order(creation.get(), creation_order), place);
  check(H5Pset_obj_track_times(creation.get(), false), place);
  if (fill != nullptr) check(H5Pset_fill_value(creation.get(), type, fill), place);
  const bool empty = std::find(extents.begin(), extents.end(), hsize_t{0}) != extents.end();
  if (!extents.empty() && (compress || empty)) {
    std::vector<hsize_t> chunk = extents;
    const hsize_t inner =
        std::accumulate(extents.begin() + 1, extents.end(), hsize_t{1},
                        [](hsize_t a, hsize_t b) { return a * std::max<hsize_t>(b, 1); });
    chunk[0] = std::min(chunk[0], std::max<hsize_t>(1, chunk_elements / inner));
    for (hsize_t& extent : chunk) extent = std::max<hsize_t>(extent, 1);
    check(H5Pset_chunk(creation.get(), static_cast<int>(chunk.size()), chunk.data()), place);
  }
  if (compress && !extents.empty()) {
    check(H5Pset_shuffle(creation.get()), place);
    check(H5Pset_deflate(creation.get(), gzip_level), place);
    check(H5Pset_fletcher32(creation.get()), place);
  }
  Handle dataset(check(H5Dcreate2(handle_.get(), label.name.c_str(), type, space_of(extents).get(),
                                  H5P_DEFAULT, creation.get(), H5P_DEFAULT),
                       place),
                 H5Dclose);
  set_text_attribute(dataset.get(), "units", label.units, place);
  set_text_attribute(dataset.get(), "long_name", label.long_name, place);
  if (fill != nullptr) h5::set_attribute(dataset.get(), "_FillValue", type, 1, fill, place);
  return dataset;
}

std::vector<hsize_t> Group::extents_of(const std::vector<std::string>& dimensions) const {
  std::vector<hsize_t> extents;
  for (const std::string& dimension : dimensions) {
    const Handle scale(
        check(H5Dopen2(handle_.get(), dimension.c_str(), H5P_DEFAULT), where(dimension)), H5Dclose);
    extents.push_back(static_cast<hsize_t>(elements(scale, dimension)));
  }
  return extents;
}

void Group::attach(const Handle& dataset, const std::string& name,
                   const std::vector<std::string>& dimensions) const {
  for (std::size_t i = 0; i < dimensions.size(); ++i) {
    const Handle scale(
        check(H5Dopen2(handle_.get(), dimensions[i].c_str(), H5P_DEFAULT), where(dimensions[i])),
        H5Dclose);
    check(H5DSattach_scale(dataset.get(), scale.get(), static_cast<unsigned>(i)), where(name));
  }
}

void Group::write_dimension(const Label& label, std::int64_t size) const {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(size));
  std::iota(indices.begin(), indices.end(), 0);
  const Handle dataset = create_dataset(label, H5T_NATIVE_INT64, {indices.size()}, nullptr, true);
  check(H5Dwrite(dataset.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, indices.data()),
        where(label.name));
  check(H5DSset_scale(dataset.get(), label.name.c_str()), where(label.name));
}

void Group::write_dimension(const Label& label, std::span<const std::string> coordinates) const {
  const Handle dataset =
      create_dataset(label, text_type().get(), {coordinates.size()}, nullptr, false);
  write_vlen(dataset, label.name, coordinates);
  check(H5DSset_scale(dataset.get(), label.name.c_str()), where(label.name));
}

void Group::write_numbers(const Label& label, hid_t type, const void* values, std::size_t count,
                          const std::vector<std::string>& dimensions, const void* missing) const {
  const std::vector<hsize_t> extents = extents_of(dimensions);
  if (std::accumulate(extents.begin(), extents.end(), hsize_t{1}, std::multiplies<>()) != count) {
    throw Error(where(label.name) + ": " + std::to_string(count) +
                " values do not fill its dimensions");
  }
  const Handle dataset = create_dataset(label, type, extents, missing, true);
  check(H5Dwrite(dataset.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), where(label.name));
  attach(dataset, label.name, dimensions);
}

void Group::write_flags(const Label& label, std::span<const std::uint8_t> values,
                        const std::string& dimension,
                        const std::vector<std::string>& meanings) const {
  write(label, values, {dimension});
  const std::string place = where(label.name);
  const Handle dataset(check(H5Dopen2(handle_.get(), label.name.c_str(), H5P_DEFAULT), place),
                       H5Dclose);
  std::vector<std::uint8_t> codes(meanings.size());
  std::iota(codes.begin(), codes.end(), std::uint8_t{0});
  h5::set_attribute(dataset.get(), "flag_values", H5T_NATIVE_UINT8, codes.size(), codes.data(),
                    place);
  std::string words;
  for (const std::string& meaning : meanings) words += (words.empty() ? "" : " ") + meaning;
  set_text_attribute(dataset.get(), "flag_meanings", words, place);
}

void Group::write_vlen(const Handle& dataset, const std::string& name,
                       std::span<const std::string> values) const {
  std::vector<const char*> pointers;
  pointers.reserve(values.size());
  for (const std::string& value : values) pointers.push_back(value.c_str());
  check(H5Dwrite(dataset.get(), text_type().get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()),
        where(name));
}

void Group::write_texts(const Label& label, std::span<const std::string> values,
                        const std::string& dimension) const {
  const Handle dataset = create_dataset(label, text_type().get(), {values.size()}, nullptr, false);
  write_vlen(dataset, label.name, values);
  attach(dataset, label.name, {dimension});
}

void Group::write_text(const Label& label, const std::string& value) const {
  const Handle dataset = create_dataset(label, text_type().get(), {}, nullptr, false);
  write_vlen(dataset, label.name, {&value, 1});
}

}  // namespace chunkstate::h5
