// SPDX-License-Identifier: Apache-2.0
#include "core/group_check.hpp"

#include <vector>

#include "core/tensor.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"

namespace chunkstate {

std::string wrong_sum(RankGroup& sums, Backend backend) {
  const LaunchStream stream(backend);
  const Executor exec{backend, 1, stream.get()};
  sums.use_stream(exec.stream);
  // Small integers: exact in any order of the ranks.
  std::vector<float> values(4096);
  const auto value = [](std::size_t i, int rank) {
    return static_cast<float>((i % 7 + 1) * static_cast<std::size_t>(rank + 1));
  };
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = value(i, sums.rank());
  const std::size_t bytes = values.size() * sizeof(float);
  Tensor memory(backend, DType::fp32, {static_cast<std::int64_t>(values.size())});
  copy_to_backend(exec, memory.data(), values.data(), bytes);
  sums.all_reduce_sum({reinterpret_cast<float*>(memory.data()), values.size()});
  sums.flush();
  copy_to_host(exec, values.data(), memory.data(), bytes);
  for (std::size_t i = 0; i < values.size(); ++i) {
    float expected = 0;
    for (int rank = 0; rank < sums.size(); ++rank) expected += value(i, rank);
    if (values[i] != expected) {
      return "element " + std::to_string(i) + " is " + std::to_string(values[i]) + ", expected " +
             std::to_string(expected);
    }
  }
  return "";
}

}  // namespace chunkstate
