// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <unordered_map>

#include "core/checkpoint/checkpoint.hpp"
#include "core/digest.hpp"
#include "core/errors.hpp"
#include "core/tensor.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/synthetic/synthetic_fill.hpp"

namespace chunkstate {
namespace {

// Hashing and summing are integer operations and the one float operation per element is a
// multiplication, so every instruction set gives the same bits. (ifunc resolvers run before a
// sanitizer is ready.)
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__)
#define CHUNKSTATE_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CHUNKSTATE_CLONES
#endif

constexpr std::string_view generator_version = "chunkstate-synthetic-1";

const float number_deviation = std::sqrt(65535.0F / 3.0F);

/// Up to synthetic_block numbers of mean 0, `scale` times a whole number each.
template <class T>
[[gnu::always_inline]] inline void fill_normal(T* target, std::int64_t elements, std::uint64_t key,
                                               float scale) {
  for (std::int64_t i = 0; i < elements; ++i) {
    const std::int32_t number = synthetic_number(key, static_cast<std::uint32_t>(i));
    target[i] = from_float<T>(static_cast<float>(number) * scale);
  }
}

CHUNKSTATE_CLONES void fill_block(float* target, std::int64_t elements, std::uint64_t key,
                                  float scale) {
  fill_normal(target, elements, key, scale);
}
CHUNKSTATE_CLONES void fill_block(bf16* target, std::int64_t elements, std::uint64_t key,
                                  float scale) {
  fill_normal(target, elements, key, scale);
}
CHUNKSTATE_CLONES void fill_block(fp16* target, std::int64_t elements, std::uint64_t key,
                                  float scale) {
  fill_normal(target, elements, key, scale);
}

std::uint64_t block_key(std::uint64_t tensor_key, std::int64_t block) {
  return XXH3_64bits_withSeed(&block, sizeof(block), tensor_key);
}

/// Uniform in (0, 1).
double uniform(std::uint64_t tensor_key, std::int64_t index) {
  return (static_cast<double>(block_key(tensor_key, index) >> 11) + 0.5) * 0x1p-53;
}

bool ends_with(const std::string& name, std::string_view end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

/// One element of the small tensors that are not linear maps, with the ranges in which Mamba-2
/// starts its training.
double special_value(const std::string& name, double u) {
  if (ends_with(name, "A_log")) return std::log(1.0 + 15.0 * u);
  if (ends_with(name, "dt_bias") || ends_with(name, "dt_proj.bias")) {
    const double dt = std::exp(std::log(0.001) + u * std::log(100.0));
    return dt + std::log(-std::expm1(-dt));  // softplus(result) = dt
  }
  if (ends_with(name, ".D") || ends_with(name, "norm.weight") || ends_with(name, "norm_f.weight"))
    return 0.9 + 0.2 * u;
  if (ends_with(name, "conv1d.weight")) return u - 0.5;
  return 0.2 * u - 0.1;  // biases
}

bool is_linear(const std::string& name, const std::vector<std::int64_t>& extents) {
  return extents.size() == 2 && ends_with(name, ".weight");
}

float linear_scale(const std::vector<std::int64_t>& extents) {
  const float deviation = 1.0F / std::sqrt(static_cast<float>(extents[1]));
  return deviation / number_deviation;
}

std::int64_t block_count(std::int64_t elements) {
  return (elements + synthetic_block - 1) / synthetic_block;
}

/// Zero pages, in huge ones where the kernel agrees: first-touch faults would otherwise cost more
/// than the values.
class Pages {
 public:
  explicit Pages(std::size_t bytes) : bytes_(bytes) {
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) throw std::bad_alloc();
    ::madvise(data, bytes, MADV_HUGEPAGE);
    data_ = static_cast<std::byte*>(data);
  }
  ~Pages() { ::munmap(data_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::byte* data() { return data_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

template <class T>
void fill(T* target, const std::string& name, const std::vector<std::int64_t>& extents,
          std::uint64_t key) {
  const std::int64_t elements = element_count(extents);
  if (!is_linear(name, extents)) {
    for (std::int64_t i = 0; i < elements; ++i) {
      target[i] = from_float<T>(static_cast<float>(special_value(name, uniform(key, i))));
    }
    return;
  }
  const float scale = linear_scale(extents);
  const std::int64_t blocks = block_count(elements);
#pragma omp parallel for schedule(static)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t begin = block * synthetic_block;
    fill_block(target + begin, std::min(synthetic_block, elements - begin), block_key(key, block),
               scale);
  }
}

class SyntheticCheckpoint final : public Checkpoint {
 public:
  SyntheticCheckpoint(const ModelConfig& config, std::uint64_t seed, DType dtype)
      : seed_(seed), dtype_(dtype) {
    for (auto& [name, extents] : expected_tensors(config)) {
      bytes_ += element_count(extents) * static_cast<std::int64_t>(bytes_of(dtype));
      extents_.emplace(std::move(name), std::move(extents));
    }
  }

  bool contains(const std::string& name) const override { return extents_.count(name) > 0; }
  bool made_in_memory() const override { return true; }
  std::int64_t bytes() const override { return bytes_; }

  DType dtype(const std::string& name) const override {
    if (!contains(name)) throw InputError("synthetic model: has no tensor '" + name + "'");
    return dtype_;
  }

  CheckpointTensor tensor(const std::string& name,
                          const std::vector<std::int64_t>& extents) const override {
    check_known(name, extents);
    const std::lock_guard lock(mutex_);
    std::unique_ptr<Pages>& pages = made_[name];
    if (!pages) {
      auto made = std::make_unique<Pages>(static_cast<std::size_t>(element_count(extents)) *
                                          bytes_of(dtype_));
      make(name, extents, made->data());
      pages = std::move(made);
    }
    return {name, dtype_, extents, pages->data()};
  }

  void copy_tensor(const std::string& name, const std::vector<std::int64_t>& extents,
                   std::byte* target) const override {
    check_known(name, extents);
    make(name, extents, target);
  }

  bool make_on_device(const std::string& name, const std::vector<std::int64_t>& extents,
                      const Executor& exec, std::byte* target) const override {
    check_known(name, extents);
    if (!is_linear(name, extents)) return false;
    const std::int64_t elements = element_count(extents);
    std::vector<std::uint64_t> keys(static_cast<std::size_t>(block_count(elements)));
    for (std::size_t block = 0; block < keys.size(); ++block) {
      keys[block] = block_key(key_of(name), static_cast<std::int64_t>(block));
    }
    Tensor device_keys(exec.backend, DType::fp32, {static_cast<std::int64_t>(2 * keys.size())});
    copy_to_backend(exec, device_keys.data(), keys.data(), device_keys.bytes());
    synthetic_fill(exec, {{target, dtype_, {elements}},
                          {reinterpret_cast<const std::uint64_t*>(device_keys.data()),
                           {static_cast<std::int64_t>(keys.size())}},
                          linear_scale(extents)});
    synchronize(exec);  // the keys end here
    return true;
  }

  /// Of what the values follow from: the generator, the seed, the storage type, names and shapes.
  std::string digest() const override {
    std::vector<std::string> names;
    for (const auto& [name, extents] : extents_) names.push_back(name);
    std::sort(names.begin(), names.end());
    std::string text = std::string(generator_version) + ' ' + std::to_string(seed_) + ' ' +
                       std::string(name_of(dtype_));
    for (const std::string& name : names) {
      text += ' ' + name;
      for (const std::int64_t extent : extents_.at(name)) text += ' ' + std::to_string(extent);
    }
    return Digest().text(text).hex();
  }

 private:
  void check_known(const std::string& name, const std::vector<std::int64_t>& extents) const {
    const auto known = extents_.find(name);
    if (known == extents_.end() || known->second != extents) {
      throw InputError("synthetic model: has no tensor '" + name + "' of this shape");
    }
  }
  std::uint64_t key_of(const std::string& name) const {
    return XXH3_64bits_withSeed(name.data(), name.size(), seed_);
  }
  void make(const std::string& name, const std::vector<std::int64_t>& extents,
            std::byte* target) const {
    const std::uint64_t key = key_of(name);
    dispatch(dtype_,
             [&](auto tag) { fill(reinterpret_cast<decltype(tag)*>(target), name, extents, key); });
  }

  std::uint64_t seed_;
  DType dtype_;
  std::int64_t bytes_ = 0;
  std::unordered_map<std::string, std::vector<std::int64_t>> extents_;
  mutable std::mutex mutex_;
  mutable std::unordered_map<std::string, std::unique_ptr<Pages>> made_;
};

}  // namespace

std::unique_ptr<Checkpoint> make_synthetic_checkpoint(const ModelConfig& config, std::uint64_t seed,
                                                      DType dtype) {
  return std::make_unique<SyntheticCheckpoint>(config, seed, dtype);
}

}  // namespace chunkstate
