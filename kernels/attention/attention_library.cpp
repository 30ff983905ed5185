// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/attention_library.hpp"

#if CHUNKSTATE_HAS_CUDNN
#define CUDNN_FRONTEND_SKIP_JSON_LIB
#include <cudnn_frontend.h>

#include <array>
#include <bit>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/base/cuda_check.cuh"
#include "kernels/base/workspace.cuh"

namespace chunkstate::cuda {
namespace {

namespace fe = cudnn_frontend;

// Shorter pieces are too little work to be worth a plan of their own.
constexpr std::int64_t least_tokens = 256;
// Offsets inside the library's kernels may have 32 bits.
constexpr std::int64_t most_elements = std::int64_t{1} << 31;
// Prompts of many lengths: each plan takes some memory.
constexpr std::size_t most_plans = 128;

enum Operand : std::int64_t { q_operand = 1, k_operand, v_operand, y_operand };

// What a plan is made for: type, scale, extents and strides.
using Key = std::array<std::int64_t, 15>;

struct Plan {
  fe::graph::Graph graph;
  std::int64_t workspace = 0;
  std::string refusal;  // empty: can run
};

struct HandleDestroyer {
  using pointer = cudnnHandle_t;
  void operator()(cudnnHandle_t handle) const { cudnnDestroy(handle); }
};

struct Library {
  std::mutex mutex;
  std::unique_ptr<void, HandleDestroyer> handle;
  std::string refusal;
  std::map<Key, std::unique_ptr<Plan>> plans;
};

// A handle belongs to the device that was current when it was made.
Library& library_of(int device) {
  static std::mutex mutex;
  static std::map<int, std::unique_ptr<Library>> of_device;
  const std::lock_guard lock(mutex);
  auto& library = of_device[device];
  if (!library) {
    library = std::make_unique<Library>();
    cudnnHandle_t handle = nullptr;
    const cudnnStatus_t status = cudnnCreate(&handle);
    if (status == CUDNN_STATUS_SUCCESS) {
      library->handle.reset(handle);
    } else {
      library->refusal = std::string("cuDNN: ") + cudnnGetErrorString(status);
    }
  }
  return *library;
}

// [rows, heads, head_dim] as the library's [1, heads, rows, head_dim].
template <class Byte>
void describe(fe::graph::Tensor_attributes& tensor, const BasicAnyView<Byte, 3>& view,
              Operand operand) {
  const auto [rows, heads, head_dim] = view.extent;
  tensor.set_uid(operand)
      .set_dim({1, heads, rows, head_dim})
      .set_stride({rows * view.stride[0], view.stride[1], view.stride[0], 1});
}

template <class Byte>
std::shared_ptr<fe::graph::Tensor_attributes> input(fe::graph::Graph& graph,
                                                    const BasicAnyView<Byte, 3>& view,
                                                    Operand operand) {
  fe::graph::Tensor_attributes tensor;
  describe(tensor, view, operand);
  return graph.tensor(tensor);
}

fe::error_t build(Plan& plan, cudnnHandle_t handle, const AttentionArgs& args) {
  fe::graph::Graph& graph = plan.graph;
  graph
      .set_io_data_type(args.q.dtype == DType::bf16 ? fe::DataType_t::BFLOAT16
                                                    : fe::DataType_t::HALF)
      .set_intermediate_data_type(fe::DataType_t::FLOAT)
      .set_compute_data_type(fe::DataType_t::FLOAT);
  const auto q = input(graph, args.q, q_operand);
  const auto k = input(graph, args.k, k_operand);
  const auto v = input(graph, args.v, v_operand);
  // Query t sees keys up to keys - tokens + t: the mask's diagonal ends in the last corner.
  const bool whole = args.q.extent[0] == args.k.extent[0];
  auto attributes = fe::graph::SDPA_attributes()
                        .set_name("attention")
                        .set_generate_stats(false)
                        .set_attn_scale(args.scale)
                        .set_diagonal_alignment(whole ? fe::DiagonalAlignment_t::TOP_LEFT
                                                      : fe::DiagonalAlignment_t::BOTTOM_RIGHT)
                        .set_diagonal_band_right_bound(0);
  const auto y = graph.sdpa(q, k, v, attributes)[0];
  describe(*y, args.y, y_operand);
  y->set_output(true);
  if (auto error = graph.build(handle, {fe::HeurMode_t::A}); error.is_bad()) return error;
  return graph.get_workspace_size(plan.workspace);
}

std::unique_ptr<Plan> make_plan(const Library& library, const AttentionArgs& args) {
  auto plan = std::make_unique<Plan>();
  try {
    fe::error_t error = build(*plan, library.handle.get(), args);
    if (error.is_bad()) plan->refusal = "cuDNN: " + error.get_message();
  } catch (const std::exception& error) {  // the frontend's older parts throw
    plan->refusal = std::string("cuDNN: ") + error.what();
  }
  return plan;
}

template <class Byte>
bool fits(const BasicAnyView<Byte, 3>& view, DType dtype) {
  return view.dtype == dtype && reinterpret_cast<std::uintptr_t>(view.data) % 16 == 0 &&
         view.stride[0] % 8 == 0 && view.stride[1] % 8 == 0 && view.stride[2] == 1 &&
         view.extent[0] * view.stride[0] < most_elements;
}

std::string refusal_of(const AttentionArgs& args) {
  if (args.choice.block_keys != 0) return "cuDNN: block_keys";
  const DType dtype = args.q.dtype;
  if (dtype == DType::fp32) return "cuDNN: fp32";
  if (args.q.extent[0] < least_tokens) return "cuDNN: too few tokens";
  if (args.q.extent[2] % 8 != 0 || args.q.extent[2] > 256) return "cuDNN: head_dim";
  if (!(args.scale > 0.0F) || !fits(args.q, dtype) || !fits(args.k, dtype) ||
      !fits(args.v, dtype) || !fits(args.y, dtype)) {
    return "cuDNN: types, strides or alignment";
  }
  return {};
}

Key key_of(const AttentionArgs& args) {
  return {static_cast<int>(args.q.dtype),
          std::bit_cast<std::int32_t>(args.scale),
          args.q.extent[0],
          args.q.extent[1],
          args.q.extent[2],
          args.k.extent[0],
          args.k.extent[1],
          args.q.stride[0],
          args.q.stride[1],
          args.k.stride[0],
          args.k.stride[1],
          args.v.stride[0],
          args.v.stride[1],
          args.y.stride[0],
          args.y.stride[1]};
}

Library& current_library() {
  int device = 0;
  check_cuda(cudaGetDevice(&device), "attention device");
  return library_of(device);
}

}  // namespace

bool attention_by_library(const AttentionArgs& args, CUstream_st* stream) {
  if (!refusal_of(args).empty()) return false;
  Library& library = current_library();
  const std::lock_guard lock(library.mutex);
  if (!library.refusal.empty()) return false;
  const Key key = key_of(args);
  auto entry = library.plans.find(key);
  if (entry == library.plans.end()) {
    if (library.plans.size() >= most_plans) {
      check_cuda(cudaStreamSynchronize(stream), "attention plans");
      library.plans.clear();
    }
    entry = library.plans.emplace(key, make_plan(library, args)).first;
  }
  const Plan& plan = *entry->second;
  if (!plan.refusal.empty()) return false;

  const Workspace workspace(plan.workspace, stream);
  const auto pointer = [](const std::byte* data) {
    return static_cast<void*>(const_cast<std::byte*>(data));
  };
  std::unordered_map<std::int64_t, void*> operands = {{q_operand, pointer(args.q.data)},
                                                      {k_operand, pointer(args.k.data)},
                                                      {v_operand, pointer(args.v.data)},
                                                      {y_operand, args.y.data}};
  const cudnnStatus_t status = cudnnSetStream(library.handle.get(), stream);
  if (status != CUDNN_STATUS_SUCCESS) {
    throw CudaError(std::string("attention: cuDNN: ") + cudnnGetErrorString(status));
  }
  fe::error_t error = plan.graph.execute(library.handle.get(), operands, workspace.as<void>());
  if (error.is_bad()) throw CudaError("attention: cuDNN: " + error.get_message());
  return true;
}

AttentionLibrary attention_library(const AttentionArgs& args) {
  if (const std::string refusal = refusal_of(args); !refusal.empty()) return {false, refusal};
  Library& library = current_library();
  const std::lock_guard lock(library.mutex);
  if (!library.refusal.empty()) return {false, library.refusal};
  const auto plan = library.plans.find(key_of(args));
  if (plan == library.plans.end()) return {false, "cuDNN: not called yet"};
  if (!plan->second->refusal.empty()) return {false, plan->second->refusal};
  const std::size_t version = cudnnGetVersion();
  return {true, "cuDNN " + std::to_string(version / 10000) + "." +
                    std::to_string(version / 100 % 100) + "." + std::to_string(version % 100)};
}

}  // namespace chunkstate::cuda

#else

namespace chunkstate::cuda {

bool attention_by_library(const AttentionArgs&, CUstream_st*) { return false; }
AttentionLibrary attention_library(const AttentionArgs&) {
  return {false, "no cuDNN in this build"};
}

}  // namespace chunkstate::cuda

#endif
