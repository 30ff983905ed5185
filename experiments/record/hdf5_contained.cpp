// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "experiments/record/hdf5.hpp"

namespace chunkstate::h5 {
namespace {

constexpr int deepest_group = 2;  // /provenance/ranks
constexpr int most_objects = 4096;
constexpr double largest_chunk_bytes = 64 << 20;

struct Link {
  std::string name;
  H5L_type_t type;
};

std::vector<Link> links_of(hid_t group, const std::string& place) {
  std::vector<Link> links;
  const auto visit = [](hid_t, const char* name, const H5L_info_t* info, void* out) -> herr_t {
    auto& all = *static_cast<std::vector<Link>*>(out);
    all.push_back({name, info->type});
    return all.size() > most_objects ? 1 : 0;  // 1: enough seen
  };
  check(H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, visit, &links), place);
  return links;
}

class Checker {
 public:
  void check_group(hid_t group, const std::string& path, int depth) {
    for (const Link& link : links_of(group, path)) {
      const std::string place = path + "/" + link.name;
      if (link.type != H5L_TYPE_HARD) {
        throw Error(place + ": a " + (link.type == H5L_TYPE_SOFT ? "soft" : "external") +
                    " link; results files have none");
      }
      if (++objects_ > most_objects) {
        throw Error(path + ": more than " + std::to_string(most_objects) + " objects");
      }
      check_object(group, link.name, place, depth);
    }
  }

 private:
  void check_object(hid_t group, const std::string& name, const std::string& place, int depth) {
    const Handle object(check(H5Oopen(group, name.c_str(), H5P_DEFAULT), place), H5Oclose);
    switch (H5Iget_type(object.get())) {
      case H5I_GROUP:
        if (depth == deepest_group) throw Error(place + ": groups in groups too deep");
        check_group(object.get(), place, depth + 1);
        break;
      case H5I_DATASET:
        check_dataset(object.get(), place);
        break;
      default:
        throw Error(place + ": neither a group nor a dataset");
    }
  }

  static void check_dataset(hid_t dataset, const std::string& place) {
    const Handle creation(check(H5Dget_create_plist(dataset), place), H5Pclose);
    const H5D_layout_t layout = H5Pget_layout(creation.get());
    if (layout == H5D_VIRTUAL) throw Error(place + ": a virtual dataset");
    if (check(H5Pget_external_count(creation.get()), place) > 0) {
      throw Error(place + ": its data are in another file");
    }
    const Handle type(check(H5Dget_type(dataset), place), H5Tclose);
    const H5T_class_t kind = H5Tget_class(type.get());
    if (kind != H5T_INTEGER && kind != H5T_FLOAT && kind != H5T_STRING) {
      throw Error(place + ": neither numbers nor strings");
    }
    check_filters(creation.get(), place);
    if (layout == H5D_CHUNKED) check_chunk(creation.get(), H5Tget_size(type.get()), place);
  }

  static void check_filters(hid_t creation, const std::string& place) {
    constexpr std::array known{H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32};
    const int filters = check(H5Pget_nfilters(creation), place);
    for (int i = 0; i < filters; ++i) {
      unsigned flags = 0;
      std::size_t values = 0;
      const H5Z_filter_t filter = H5Pget_filter2(creation, static_cast<unsigned>(i), &flags,
                                                 &values, nullptr, 0, nullptr, nullptr);
      if (std::find(known.begin(), known.end(), filter) == known.end()) {
        throw Error(place + ": filter " + std::to_string(filter) +
                    "; known are shuffle, deflate and fletcher32");
      }
    }
  }

  static void check_chunk(hid_t creation, std::size_t element_bytes, const std::string& place) {
    std::array<hsize_t, H5S_MAX_RANK> extents{};
    const int rank = check(H5Pget_chunk(creation, H5S_MAX_RANK, extents.data()), place);
    auto bytes = static_cast<double>(element_bytes);
    for (int i = 0; i < rank; ++i) {
      bytes *= static_cast<double>(extents[static_cast<std::size_t>(i)]);
    }
    if (bytes > largest_chunk_bytes) {
      throw Error(place + ": chunks of more than 64 MiB");
    }
  }

  int objects_ = 0;
};

}  // namespace

void check_contained(const Handle& file, const std::string& path) {
  const Handle root(check(H5Gopen2(file.get(), "/", H5P_DEFAULT), path), H5Gclose);
  Checker().check_group(root.get(), path + ":", 0);
}

}  // namespace chunkstate::h5
