// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>

#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"
#include "kernels/base/trace.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/selective_scan/selective_scan.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"

// The Mamba-1 scan's variants on the device against the definition, and rms_norm with a sum.
namespace chunkstate::test {
namespace {

struct Shape {
  std::int64_t batch, tokens, channels, state_dim, chunk_size;
  bool softplus, bias, skip, gate, state;
};

/// The arrays of one scan. Decay rates span those that Mamba-1 starts from.
struct ScanArrays {
  DeviceArray<3> x, dt, B, C, z, y, state;
  DeviceArray<2> A;
  DeviceVector<float> dt_bias, D;

  static std::vector<float> draw(DeviceCase& c, std::int64_t count, float low, float high) {
    std::uniform_real_distribution<float> uniform(low, high);
    std::vector<float> values(static_cast<std::size_t>(count));
    for (float& value : values) value = uniform(c.random);
    return values;
  }

  ScanArrays(DeviceCase& c, const Shape& s)
      : x(c.array<3>({s.batch, s.tokens, s.channels})),
        dt(c.array<3>({s.batch, s.tokens, s.channels})),
        B(c.array<3>({s.batch, s.tokens, s.state_dim})),
        C(c.array<3>({s.batch, s.tokens, s.state_dim})),
        z(c.array<3>({s.batch, s.tokens, s.channels})),
        y(c.array<3>({s.batch, s.tokens, s.channels})),
        state(c.array<3>({s.batch, s.channels, s.state_dim})),
        A({s.channels, s.state_dim}, DType::fp32),
        dt_bias(draw(c, s.channels, -7.0F, 1.0F)),
        D(draw(c, s.channels, 0.5F, 1.5F)) {
    c.fill(x, 1.0F), c.fill(B, 1.0F), c.fill(C, 1.0F), c.fill(z, 2.0F), c.fill(state, 1.0F);
    std::uniform_real_distribution<float> rate(std::log(0.05F), std::log(16.0F));
    A.fill([&] { return -std::exp(rate(c.random)); });
    std::uniform_real_distribution<float> step(0.01F, 0.3F);
    if (s.softplus) {
      c.fill(dt, 1.0F);
    } else {
      dt.fill([&] { return step(c.random); });
    }
  }

  SelectiveScanArgs args(const Shape& s, bool on_gpu) {
    const auto side = [&](auto& array) -> decltype(array.device()) {
      return on_gpu ? array.device() : decltype(array.device())(array.host());
    };
    const auto vector_side = [&](const DeviceVector<float>& values) {
      return on_gpu ? values.device() : values.host();
    };
    SelectiveScanArgs a;
    a.x = side(x), a.dt = side(dt), a.B = side(B), a.C = side(C), a.y = side(y);
    if (s.gate) a.z = side(z);
    a.A = on_gpu ? A.device().as<float>() : A.host();
    if (s.bias) a.dt_bias = vector_side(dt_bias);
    if (s.skip) a.D = vector_side(D);
    a.softplus = s.softplus;
    if (s.state) a.state = side(state);
    a.chunk_size = s.chunk_size;
    return a;
  }
};

void check_variant(const SelectiveScanVariant& variant, DeviceCase& c, const Shape& s) {
  ScanArrays arrays(c, s);
  const std::string name(variant.name);
  CAPTURE(name, s.batch, s.tokens, s.channels, s.state_dim, s.chunk_size, s.softplus, s.bias,
          s.skip, s.gate, s.state);
  c.check([&] { selective_scan(device(), variant, arrays.args(s, true)); },
          [&] { selective_scan(reference(), variant, arrays.args(s, false)); }, arrays.y,
          arrays.state);
}

TEST_CASE("every selective scan on the device matches its definition at random shapes") {
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    for (const unsigned seed : seeds(0, 30)) {
      DeviceCase c(seed);
      const bool softplus = c.pick({0, 1, 1}) != 0;
      const Shape s{.batch = c.pick({1, 2, 3}),
                    .tokens = c.pick({1, 5, 15, 16, 17, 64, 100}),
                    .channels = c.pick({1, 8, 33, 40, 128, 136, 200}),
                    .state_dim = c.pick({16, 16, 16, 1, 8, 10, 24, 64, 100}),
                    .chunk_size = c.pick({1, 7, 16, 32, 40}),
                    .softplus = softplus,
                    .bias = softplus && c.flip(),
                    .skip = c.flip(),
                    .gate = c.flip(),
                    .state = c.flip()};
      CAPTURE(seed);
      check_variant(variant, c, s);
    }
  }
}

// Enough blocks for the kernel of many channels, with a last block that is cut.
TEST_CASE("selective scans of many channels on the device match the definition") {
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    for (const unsigned seed : seeds(0, 4)) {
      DeviceCase c(seed);
      const bool odd = seed == 3;
      CAPTURE(seed);
      check_variant(variant, c,
                    {.batch = 2,
                     .tokens = c.pick({16, 37, 48}),
                     .channels = odd ? 6501 : 6504,
                     .state_dim = odd ? 9 : 16,
                     .chunk_size = 16,
                     .softplus = true,
                     .bias = true,
                     .skip = true,
                     .gate = true,
                     .state = true});
    }
  }
}

TEST_CASE("a selective scan launches as many kernels as its variant's row says") {
  for (const SelectiveScanVariant& variant : selective_scan_variants()) {
    for (const bool all : {true, false}) {
      DeviceCase c(3);
      const Shape s{.batch = 1,
                    .tokens = 40,
                    .channels = 32,
                    .state_dim = 16,
                    .chunk_size = all ? 16 : 64,
                    .softplus = all,
                    .bias = all,
                    .skip = all,
                    .gate = all,
                    .state = all};
      ScanArrays arrays(c, s);
      selective_scan(device(), variant, arrays.args(s, true));
      synchronize(device());
      start_trace(true);
      selective_scan(device(), variant, arrays.args(s, true));
      synchronize(device());
      const TraceContent content = stop_trace();
      if (!content.device.empty()) {
        WARN("no spans of the device: " << content.device);
        return;
      }
      std::int64_t kernels = 0;
      for (const TraceSpan& span : content.spans) {
        const std::string& track = content.tracks[static_cast<std::size_t>(span.track)];
        if (track.starts_with("GPU")) ++kernels;
      }
      const std::string name(variant.name);
      CAPTURE(name, all);
      CHECK(kernels == variant.launches(arrays.args(s, true)));
    }
  }
}

TEST_CASE("selective_scan on the device refuses states that no kernel holds") {
  DeviceCase c(5);
  const Shape s{.batch = 1, .tokens = 2, .channels = 8, .state_dim = 129, .chunk_size = 8};
  ScanArrays arrays(c, s);
  CHECK_THROWS_WITH(
      selective_scan(device(), *find_selective_scan_variant("fused"), arrays.args(s, true)),
      "selective_scan: state_dim is 129, the cuda backend takes at most 128");
}

TEST_CASE("selective_scan on the device refuses tokens that lie 2 GiB apart") {
  DeviceCase c(5);
  const Shape s{.batch = 1, .tokens = 2, .channels = 8, .state_dim = 16, .chunk_size = 8};
  ScanArrays arrays(c, s);
  SelectiveScanArgs args = arrays.args(s, true);
  args.x.stride[1] = std::int64_t{1} << 31;
  const std::string most(args.x.dtype == DType::fp32 ? "536870911" : "1073741823");
  CHECK_THROWS_WITH(
      selective_scan(device(), *find_selective_scan_variant("fused"), args),
      "selective_scan: tokens of x are 2147483648 elements apart, the cuda backend takes at most " +
          most);
}

TEST_CASE("rms_norm with a sum on the device matches the reference, in place as well") {
  for (const unsigned seed : seeds(0, 24)) {
    DeviceCase c(seed);
    const std::int64_t tokens = c.pick({1, 3, 70}), channels = c.pick({1, 33, 64, 4096, 9000});
    auto x = c.array<2>({tokens, channels}), add = c.array<2>({tokens, channels});
    auto sum = c.array<2>({tokens, channels}), y = c.array<2>({tokens, channels});
    auto weight = c.array<1>({channels});
    c.fill(x, 3.0F), c.fill(add, 2.0F), c.fill(weight, 1.0F);
    const bool in_place = c.flip();
    CAPTURE(seed, tokens, channels, in_place);
    const auto run = [&](const Executor& exec, auto side) {
      RmsNormArgs args{side(x), side(weight), 1e-5F, side(y), side(add), side(in_place ? x : sum)};
      rms_norm(exec, args);
    };
    // The host's arrays are fp32: it normalises a sum that was not rounded.
    if (in_place) {
      c.check([&] { run(device(), on_device); }, [&] { run(reference(), on_host); }, x, y);
    } else {
      c.check([&] { run(device(), on_device); }, [&] { run(reference(), on_host); }, sum, y);
    }
  }
}

}  // namespace
}  // namespace chunkstate::test
