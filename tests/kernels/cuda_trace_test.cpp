// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/base/device_trace.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/base/recording.hpp"
#include "kernels/base/trace.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "tests/catch.hpp"
#include "tests/kernels/device_case.hpp"

namespace chunkstate::test {
namespace {

TEST_CASE(
    "the timeline has the device's copies and kernels, replayed ones too, on the host's clock") {
  DeviceCase c(1);
  auto x = c.array<2>({3, 64}, DType::fp32, 0), y = c.array<2>({3, 64}, DType::fp32, 0);
  auto weight = c.array<1>({64}, DType::fp32, 0);
  c.fill(x, 1.0F), c.fill(weight, 1.0F);
  const LaunchStream stream(Backend::cuda);
  const Executor exec{Backend::cuda, 1, stream.get(), false};
  const auto norm = [&] { rms_norm(exec, {x.device(), weight.device(), 1e-5F, y.device()}); };
  norm();
  synchronize(exec);
  const Recording recording(exec, norm);

  start_trace(true);
  const std::int64_t before = trace_clock();
  norm();
  recording.replay(exec);
  recording.replay(exec);
  std::vector<float> host(64);
  auto* memory = reinterpret_cast<const std::byte*>(weight.device().as<float>().data);
  copy_to_host(exec, host.data(), memory, host.size() * sizeof(float));
  synchronize(exec);
  const std::int64_t after = trace_clock();
  const TraceContent content = stop_trace();
  if (!content.device.empty()) {
    WARN("no spans of the device: " << content.device);
    return;
  }
  std::int64_t kernels = 0, copies = 0;
  for (const TraceSpan& span : content.spans) {
    CAPTURE(span.name, span.begin_ns - before, after - span.end_ns);
    CHECK(content.tracks[static_cast<std::size_t>(span.track)].starts_with("GPU 0, stream "));
    // CUPTI maps the GPU's clock to the host's to some microseconds.
    CHECK(span.begin_ns >= before - 50'000);
    CHECK(span.end_ns <= after + 50'000);
    CHECK(span.end_ns > span.begin_ns);
    if (std::strstr(span.name, "norm") != nullptr) ++kernels;
    if (std::string(span.name) == "copy device to host") ++copies;
  }
  CHECK(kernels == 3);
  CHECK(copies == 1);
}

TEST_CASE("the GPU has an address") {
  const std::string address = device_bus_id();
  CHECK(address.size() >= 12);  // 0000:3b:00.0
  CHECK(std::count(address.begin(), address.end(), ':') == 2);
}

}  // namespace
}  // namespace chunkstate::test
