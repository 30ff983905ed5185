// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/linear/linear.hpp"

// linear() by oneDNN, for comparison alone: -DCHUNKSTATE_ONEDNN=ON, Debian's libdnnl-dev.
#if CHUNKSTATE_HAS_ONEDNN
#include <omp.h>

#include <dnnl.hpp>
#include <unordered_map>

namespace chunkstate {

class OnednnProduct {
 public:
  static constexpr bool exists = true;

  /// bf16 throughout, weights in the layout that oneDNN prefers, reordered here once.
  OnednnProduct(const LinearArgs& args, int threads)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Tag = dnnl::memory::format_tag;
    constexpr auto bf16_type = dnnl::memory::data_type::bf16;
    omp_set_num_threads(threads);
    const dnnl::memory::dims x{args.x.extent[0], args.x.extent[1]};
    const dnnl::memory::dims w{args.weight.extent[1], args.weight.extent[0]};
    const dnnl::memory::dims y{args.y.extent[0], args.y.extent[1]};
    const dnnl::memory::desc x_desc(x, bf16_type, Tag::ab), y_desc(y, bf16_type, Tag::ab);
    const dnnl::memory::desc any(w, bf16_type, Tag::any), stored(w, bf16_type, Tag::ba);
    const dnnl::matmul::desc operation(x_desc, any, y_desc);
    const dnnl::matmul::primitive_desc chosen(operation, engine_);
    product_ = dnnl::matmul(chosen);
    const auto at = [](const std::byte* data) { return const_cast<std::byte*>(data); };
    dnnl::memory from(stored, engine_, at(args.weight.data));
    dnnl::memory weight(chosen.weights_desc(), engine_);
    dnnl::reorder(from, weight).execute(stream_, from, weight);
    stream_.wait();
    arguments_ = {{DNNL_ARG_SRC, dnnl::memory(x_desc, engine_, at(args.x.data))},
                  {DNNL_ARG_WEIGHTS, weight},
                  {DNNL_ARG_DST, dnnl::memory(y_desc, engine_, args.y.data)}};
  }

  void run() const {
    dnnl::stream stream = stream_;
    product_.execute(stream, arguments_);
    stream.wait();
  }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul product_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

}  // namespace chunkstate

#else

namespace chunkstate {

struct OnednnProduct {
  static constexpr bool exists = false;
  OnednnProduct(const LinearArgs&, int) {}
  void run() const {}
};

}  // namespace chunkstate
#endif
