// SPDX-License-Identifier: Apache-2.0
// A program of its own, because it replaces malloc.
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <vector>

#include "core/generate.hpp"
#include "core/model.hpp"
#include "core/open_model.hpp"
#include "tests/catch.hpp"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

void count() {
  if (counting.load(std::memory_order_relaxed)) ++allocations;
}
}  // namespace

// What operator new and libgomp call as well.
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) {
  count();
  return __libc_malloc(bytes);
}
void* calloc(std::size_t elements, std::size_t bytes) {
  count();
  return __libc_calloc(elements, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  count();
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  count();
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  count();
  *memory = __libc_memalign(alignment, bytes);
  return *memory != nullptr ? 0 : ENOMEM;
}
}

namespace chunkstate {
namespace {

ModelConfig small_model() {
  ModelConfig c = synthetic_model_config("bamba-tiny");
  c.layers = {LayerKind::mamba, LayerKind::attention, LayerKind::mamba};
  return c;
}

struct Case {
  DType dtype;
  int threads;
  std::int64_t batch;
  const char* variant;
  float temperature;
};

/// Allocations between the fifth and the last of 24 tokens of every sequence.
int allocations_of(const Case& c) {
  const ModelConfig config = small_model();
  ModelOptions options;
  options.dtype = c.dtype;
  options.residual_dtype = c.dtype;
  options.threads = c.threads;
  Model model(config, make_synthetic_checkpoint(config, 3, DType::bf16), options);
  GenerateOptions generation;
  generation.max_new_tokens = 24;
  generation.sampling.temperature = c.temperature;
  const std::vector<std::vector<std::int32_t>> prompts(static_cast<std::size_t>(c.batch),
                                                       {5, 6, 7, 8, 9, 10, 11});
  const std::vector<std::uint64_t> seeds(prompts.size(), 1);
  std::int64_t taken = 0;
  allocations = 0;
  generate(model, ssd_settings(c.variant, 16, 1, config), prompts, seeds, generation,
           [&](std::int64_t, const Sampled&) {
             ++taken;
             counting = taken >= 5 * c.batch && taken < 24 * c.batch;
           });
  CHECK(taken == 24 * c.batch);
  return allocations;
}

}  // namespace

TEST_CASE("Decode steps on a CPU allocate nothing once they have begun") {
  for (const Case& c :
       {Case{DType::bf16, 2, 1, "default_optimized", 0.0F},
        Case{DType::bf16, 1, 3, "lookback", 0.0F}, Case{DType::fp32, 2, 5, "independent", 0.0F},
        Case{DType::fp32, 1, 1, "default_optimized", 0.7F}}) {
    CAPTURE(name_of(c.dtype), c.threads, c.batch, c.variant, c.temperature);
    CHECK(allocations_of(c) == 0);
  }
}

TEST_CASE("The count of allocations counts") {
  allocations = 0;
  counting = true;
  std::vector<int>* const memory = new std::vector<int>(10);
  counting = false;
  CHECK(allocations == 2);
  delete memory;
}

}  // namespace chunkstate

#else
TEST_CASE("Allocations are counted without sanitizers alone") { SUCCEED(); }
#endif
