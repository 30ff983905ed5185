// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>

#include "core/checkpoint/checkpoint.hpp"
#include "core/errors.hpp"
#include "tests/catch.hpp"

namespace chunkstate {
namespace {

std::vector<double> values_of(const CheckpointTensor& tensor) {
  std::int64_t elements = 1;
  for (const std::int64_t extent : tensor.extents) elements *= extent;
  std::vector<double> values;
  dispatch(tensor.dtype, [&](auto tag) {
    const auto* data = reinterpret_cast<const decltype(tag)*>(tensor.data);
    for (std::int64_t i = 0; i < elements; ++i) values.push_back(to_float(data[i]));
  });
  return values;
}

struct Moments {
  double mean = 0.0, deviation = 0.0, kurtosis = 0.0, smallest = 0.0, largest = 0.0;
};

Moments moments_of(const std::vector<double>& values) {
  Moments m;
  m.smallest = m.largest = values.front();
  for (const double v : values) {
    m.mean += v / static_cast<double>(values.size());
    m.smallest = std::min(m.smallest, v);
    m.largest = std::max(m.largest, v);
  }
  double second = 0.0;
  double fourth = 0.0;
  for (const double v : values) {
    const double square = (v - m.mean) * (v - m.mean) / static_cast<double>(values.size());
    second += square;
    fourth += square * (v - m.mean) * (v - m.mean);
  }
  m.deviation = std::sqrt(second);
  m.kurtosis = fourth / (second * second);
  return m;
}

}  // namespace

TEST_CASE("linear weights are nearly normal with the deviation of a trained layer") {
  const ModelConfig config = synthetic_model_config("bamba-tiny");
  for (const DType dtype : {DType::fp32, DType::bf16, DType::fp16}) {
    const auto checkpoint = make_synthetic_checkpoint(config, 42, dtype);
    const Moments m =
        moments_of(values_of(checkpoint->tensor("model.embed_tokens.weight", {8192, 256})));
    INFO("storage type " << name_of(dtype));
    CHECK(std::abs(m.mean) < 1e-4);
    CHECK(m.deviation == Approx(1.0 / 16.0).epsilon(0.01));
    CHECK(m.kurtosis == Approx(2.7).margin(0.05));
  }
}

TEST_CASE("mamba parameters lie where decays are in (0, 1)") {
  const ModelConfig config = synthetic_model_config("bamba-9b");
  const auto checkpoint = make_synthetic_checkpoint(config, 1, DType::fp32);
  const std::string mamba = "model.layers.0.mamba.";
  const Moments a = moments_of(values_of(checkpoint->tensor(mamba + "A_log", {128})));
  CHECK(a.smallest >= 0.0);
  CHECK(a.largest <= std::log(16.0));
  CHECK(a.deviation > 0.3);
  for (const double bias : values_of(checkpoint->tensor(mamba + "dt_bias", {128}))) {
    const double dt = std::log1p(std::exp(bias));
    CHECK(dt > 0.00099);
    CHECK(dt < 0.1001);
  }
  CHECK(moments_of(values_of(checkpoint->tensor(mamba + "D", {128}))).mean ==
        Approx(1.0).margin(0.05));
  CHECK(moments_of(values_of(checkpoint->tensor(mamba + "norm.weight", {8192}))).mean ==
        Approx(1.0).margin(0.01));
  const Moments conv =
      moments_of(values_of(checkpoint->tensor(mamba + "conv1d.weight", {8448, 1, 4})));
  CHECK(conv.largest < 0.5);
  CHECK(conv.deviation == Approx(1.0 / std::sqrt(12.0)).epsilon(0.02));
}

TEST_CASE("synthetic values depend on seed, name and index, not on what was made before") {
  const ModelConfig config = synthetic_model_config("llama-tiny");
  const std::vector<std::int64_t> shape{896, 320};
  const std::string gate = "model.layers.3.mlp.gate_proj.weight";
  const std::string up = "model.layers.3.mlp.up_proj.weight";
  const auto first = make_synthetic_checkpoint(config, 7, DType::bf16);
  const auto second = make_synthetic_checkpoint(config, 7, DType::bf16);
  const auto other = make_synthetic_checkpoint(config, 8, DType::bf16);
  first->tensor(up, shape);
  const auto values = values_of(first->tensor(gate, shape));
  CHECK(values == values_of(second->tensor(gate, shape)));
  CHECK(values != values_of(other->tensor(gate, shape)));
  CHECK(values != values_of(first->tensor(up, shape)));
  CHECK(first->digest() == second->digest());
  CHECK(first->digest() != other->digest());
  CHECK(first->digest() != make_synthetic_checkpoint(config, 7, DType::fp32)->digest());
  // The generator's definition: a change here changes every synthetic model.
  CHECK(values[0] == -0.0849609375);
  CHECK(values[100'000] == 0.083984375);
}

TEST_CASE("a synthetic checkpoint has what its config needs and nothing else") {
  const ModelConfig config = synthetic_model_config("bamba-tiny");
  const auto checkpoint = make_synthetic_checkpoint(config, 1, DType::bf16);
  check_weights(*checkpoint, config);
  CHECK(checkpoint->bytes() == 2 * config.parameters());
  CHECK_FALSE(checkpoint->contains("lm_head.weight"));
  CHECK_THROWS_AS(checkpoint->tensor("lm_head.weight", {8192, 256}), InputError);
  CHECK_THROWS_AS(checkpoint->tensor("model.embed_tokens.weight", {8192, 255}), InputError);
}

}  // namespace chunkstate
