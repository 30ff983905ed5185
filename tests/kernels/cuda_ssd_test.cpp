// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>

#include "kernels/ssd/ssd.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"

// The scan's variants on the device against the definition of their semantics.
namespace chunkstate::test {
namespace {

struct Shape {
  std::int64_t tokens, heads, groups, head_dim, state_dim, chunk_size, first_position, lookback;
};

/// The per-head vectors of a layer, in the ranges that Mamba-2 is initialised with, and beyond.
struct Heads {
  DeviceVector<float> A, dt_bias, D;

  static std::vector<float> draw(DeviceCase& c, std::int64_t heads, float low, float high) {
    std::uniform_real_distribution<float> uniform(low, high);
    std::vector<float> values(static_cast<std::size_t>(heads));
    for (float& value : values) value = uniform(c.random);
    return values;
  }
  static std::vector<float> decays(DeviceCase& c, std::int64_t heads) {
    auto values = draw(c, heads, std::log(0.05F), std::log(16.0F));
    for (float& value : values) value = -std::exp(value);
    return values;
  }
  Heads(DeviceCase& c, std::int64_t heads)
      : A(decays(c, heads)), dt_bias(draw(c, heads, -7.0F, 1.0F)), D(draw(c, heads, 0.5F, 1.5F)) {}
};

void check_variant(const SsdVariant& variant, DeviceCase& c, const Shape& s, bool with_state,
                   DType dtype, bool one_type) {
  const auto any = [&]<std::size_t Rank>(const std::array<std::int64_t, Rank>& extent) {
    return one_type ? c.array<Rank>(extent, dtype, c.pick({0, 8})) : c.array<Rank>(extent);
  };
  auto x = any(std::array{s.tokens, s.heads, s.head_dim});
  auto y = any(std::array{s.tokens, s.heads, s.head_dim});
  auto B = any(std::array{s.tokens, s.groups, s.state_dim});
  auto C = any(std::array{s.tokens, s.groups, s.state_dim});
  auto dt = any(std::array{s.tokens, s.heads});
  auto state = c.array<4>({state_slots(variant, s.lookback), s.heads, s.head_dim, s.state_dim},
                          one_type ? DType::fp32 : dtype, c.pick({0, 8}));
  const Heads heads(c, s.heads);
  c.fill(x, 1.0F), c.fill(B, 1.0F), c.fill(C, 1.0F), c.fill(dt, 1.0F), c.fill(state, 1.0F);
  const std::string name(variant.name);
  CAPTURE(name, s.tokens, s.heads, s.groups, s.head_dim, s.state_dim, s.chunk_size,
          s.first_position, s.lookback, with_state);
  const auto args = [&](auto side, auto vector_side) {
    SsdArgs a{side(x),
              side(dt),
              side(B),
              side(C),
              vector_side(heads.A),
              vector_side(heads.dt_bias),
              vector_side(heads.D)};
    a.y = side(y);
    if (with_state) a.state = side(state);
    a.first_position = s.first_position;
    a.chunk_size = s.chunk_size;
    a.lookback = s.lookback;
    return a;
  };
  c.check([&] { ssd_scan(device(), variant, args(on_device, on_device)); },
          [&] { ssd_scan(reference(), variant, args(on_host, on_host)); }, y, state);
}

TEST_CASE("every SSD variant on the device matches its definition at random shapes") {
  for (const SsdVariant& variant : ssd_variants()) {
    if (variant.cuda == nullptr) continue;
    for (const unsigned seed : seeds(0, 24)) {
      DeviceCase c(seed);
      Shape s{};
      s.chunk_size = c.pick({1, 7, 16, 64, 100});
      s.tokens = c.pick({1, 5, s.chunk_size, s.chunk_size + 1, 3 * s.chunk_size - 1, 150});
      s.groups = c.pick({1, 2});
      s.heads = s.groups * c.pick({1, 3});
      s.head_dim = c.pick({1, 8, 33, 64});
      s.state_dim = c.pick({1, 10, 16, 128});
      s.lookback = c.pick({0, 1, 3, 12});
      const bool with_state = c.flip();
      if (with_state) s.lookback = std::min<std::int64_t>(s.lookback, 3);
      s.first_position = variant.causal() ? c.pick({0, 0, 5, 16, 131}) : 2 * s.chunk_size;
      CAPTURE(seed);
      check_variant(variant, c, s, with_state, seed % 2 == 0 ? DType::fp32 : DType::bf16, false);
    }
  }
}

// Bamba-9B's head, where the fused variants have kernels of their own on Hopper.
TEST_CASE("SSD variants on the device match their definition at Bamba's head shape") {
  for (const char* name : {"default_optimized", "independent", "lookback", "own_end_state"}) {
    const SsdVariant& variant = *find_ssd_variant(name);
    for (const unsigned seed : seeds(0, 16)) {
      DeviceCase c(seed);
      Shape s{};
      s.tokens = c.pick({1, 63, 64, 65, 128, 200, 577, 1100});
      s.groups = c.pick({1, 1, 2});
      s.heads = s.groups * c.pick({1, 2, 3});
      s.head_dim = 64;
      s.state_dim = 128;
      s.chunk_size = c.pick({64, 128, 192, 256});
      s.lookback = c.pick({0, 1, 1, 3});
      s.first_position =
          variant.causal() ? c.pick({0, 0, 64, 320, 37}) : c.pick({0, 2}) * s.chunk_size;
      CAPTURE(seed);
      check_variant(variant, c, s, c.flip(), DType::bf16, true);
    }
  }
}

/// Device memory without a host image.
class FilledMemory {
 public:
  FilledMemory(std::size_t bytes, int value) {
    require_cuda(cudaMalloc(&data_, bytes));
    require_cuda(cudaMemset(data_, value, bytes));
  }
  ~FilledMemory() { cudaFree(data_); }
  FilledMemory(const FilledMemory&) = delete;
  FilledMemory& operator=(const FilledMemory&) = delete;
  std::byte* address() const { return static_cast<std::byte*>(data_); }

 private:
  void* data_ = nullptr;
};

// A scan's first chunks may not depend on how long it is: offsets beyond 2^31 elements would show.
TEST_CASE("a scan of 512K tokens on the device starts as a short one does and ends finite") {
  constexpr std::int64_t tokens = 512 * 1024, heads = 66, head_dim = 64, state_dim = 128, few = 256;
  static_assert(tokens * heads * head_dim > std::int64_t{1} << 31);
  const auto bytes = [](std::int64_t elements) { return static_cast<std::size_t>(elements) * 2; };
  const std::int64_t x_elements = tokens * heads * head_dim;
  // 0x3c3c is a bf16 number of about 0.0115.
  const FilledMemory x(bytes(x_elements), 0x3c), y(bytes(x_elements), 0xff);
  const FilledMemory rest(bytes(tokens * (heads + 2 * state_dim)), 0x3c);
  DeviceCase c(1);
  const Heads per_head(c, heads);
  const auto args = [&](std::int64_t count) {
    std::byte* const other = rest.address();
    SsdArgs a{{x.address(), DType::bf16, {count, heads, head_dim}},
              {other, DType::bf16, {count, heads}},
              {other + bytes(tokens * heads), DType::bf16, {count, 1, state_dim}},
              {other + bytes(tokens * (heads + state_dim)), DType::bf16, {count, 1, state_dim}},
              per_head.A.device(),
              per_head.dt_bias.device(),
              per_head.D.device()};
    a.y = {y.address(), DType::bf16, {count, heads, head_dim}};
    return a;
  };
  const auto rows_of_y = [&](std::int64_t first) {
    std::vector<std::uint16_t> rows(static_cast<std::size_t>(few * heads * head_dim));
    require_cuda(cudaMemcpy(rows.data(), y.address() + bytes(first * heads * head_dim),
                            bytes(few * heads * head_dim), cudaMemcpyDeviceToHost));
    return rows;
  };
  const SsdVariant& variant = *find_ssd_variant("default_optimized");
  ssd_scan(device(), variant, args(few));
  const auto expected = rows_of_y(0);
  require_cuda(cudaMemset(y.address(), 0xff, bytes(few * heads * head_dim)));
  ssd_scan(device(), variant, args(tokens));
  CHECK(rows_of_y(0) == expected);
  const auto last = rows_of_y(tokens - few);
  CHECK(std::all_of(last.begin(), last.end(), [](std::uint16_t v) {
    return (v & 0x7f80U) != 0x7f80U;  // written: neither infinite nor NaN
  }));
}

TEST_CASE("ssd_step on the device matches the reference") {
  for (const SsdVariant& variant : ssd_variants()) {
    if (!variant.causal()) continue;
    for (const unsigned seed : seeds(0, 12)) {
      DeviceCase c(seed);
      const std::int64_t batch = c.pick({1, 3}), groups = c.pick({1, 2});
      const std::int64_t heads = groups * c.pick({1, 3}), head_dim = c.pick({1, 8, 64});
      const std::int64_t state_dim = c.pick({1, 10, 16, 128});
      const bool looks_back = variant.semantics == SsdSemantics::lookback;
      const std::int64_t slots = looks_back ? c.pick({1, 2, 4}) : 1;
      const std::int64_t chunk_size = c.pick({1, 16});
      std::vector<std::int64_t> at;
      for (std::int64_t b = 0; b < batch; ++b) at.push_back(c.pick({0, 16, 17, 1'000'000}));
      const DeviceVector<std::int64_t> positions(at);
      auto x = c.array<3>({batch, heads, head_dim}), y = c.array<3>({batch, heads, head_dim});
      auto B = c.array<3>({batch, groups, state_dim}), C = c.array<3>({batch, groups, state_dim});
      auto dt = c.array<2>({batch, heads});
      auto state = c.array<5>({batch, slots, heads, head_dim, state_dim});
      const Heads per_head(c, heads);
      c.fill(x, 1.0F), c.fill(B, 1.0F), c.fill(C, 1.0F), c.fill(dt, 1.0F), c.fill(state, 1.0F);
      const std::string name(variant.name);
      CAPTURE(name, seed, batch, heads, groups, head_dim, state_dim, slots, chunk_size);
      const auto args = [&](auto side, auto vector_side) {
        SsdStepArgs a{side(x),
                      side(dt),
                      side(B),
                      side(C),
                      vector_side(per_head.A),
                      vector_side(per_head.dt_bias),
                      vector_side(per_head.D)};
        a.y = side(y);
        a.state = side(state);
        a.positions = vector_side(positions);
        a.chunk_size = chunk_size;
        return a;
      };
      c.check([&] { ssd_step(device(), variant, args(on_device, on_device)); },
              [&] { ssd_step(reference(), variant, args(on_host, on_host)); }, y, state);
    }
  }
}

}  // namespace
}  // namespace chunkstate::test
