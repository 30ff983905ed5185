// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "tests/core/golden_file.hpp"
#include "tests/core/gpu_runs.hpp"
#include "tests/core/model_runs.hpp"

// The whole model on a GPU against the host and transformers, whatever the execution mode.
namespace chunkstate::test {
namespace {

TEST_CASE("A GPU writes the host's greedy text in fp32") {
  Model host(tiny().config, tiny().checkpoint, options(Backend::cpu, DType::fp32));
  for (const ExecutionMode mode : {ExecutionMode::eager, ExecutionMode::graph}) {
    Model device(tiny().config, tiny().checkpoint, options(Backend::cuda, DType::fp32, mode));
    for (const char* variant : {"default_optimized", "independent", "lookback", "sequential"}) {
      for (const std::size_t length : {1, 20, 33}) {
        CAPTURE(variant, length, static_cast<int>(mode));
        const SsdSettings ssd = scan(tiny(), variant);
        CHECK(run(device, ssd, {prompt(length)}, 40)[0].tokens ==
              run(host, ssd, {prompt(length)}, 40)[0].tokens);
      }
    }
  }
}

TEST_CASE("A GPU writes the host's greedy text with every selective scan") {
  for (const std::string& name : mamba1_models) {
    const OpenModel files = open_model({golden_path(name)});
    Model host(files.config, files.checkpoint, options(Backend::cpu, DType::fp32));
    for (const ExecutionMode mode : {ExecutionMode::eager, ExecutionMode::graph}) {
      Model device(files.config, files.checkpoint, options(Backend::cuda, DType::fp32, mode));
      for (const std::string& variant : selective_scan_variant_names()) {
        std::vector<std::vector<std::int32_t>> prompts(3);  // two of one length run together
        for (std::int32_t t = 0; t < 37; ++t) {
          prompts[0].push_back(t * 7 % 61);
          prompts[1].push_back(t * 11 % 61);
          if (t < 5) prompts[2].push_back(t);
        }
        CAPTURE(name, variant, static_cast<int>(mode));
        const SsdSettings ssd = scan(files, variant);
        const auto found = run(device, ssd, prompts, 20);
        const auto expected = run(host, ssd, prompts, 20);
        for (std::size_t s = 0; s < prompts.size(); ++s) {
          CHECK(found[s].tokens == expected[s].tokens);
          for (std::size_t t = 0; t < found[s].logprobs.size(); ++t) {
            CHECK(std::abs(found[s].logprobs[t] - expected[s].logprobs[t]) < 1e-3F);
          }
        }
      }
    }
  }
}

TEST_CASE("Sampling beside a recorded step draws what the host draws") {
  const SsdSettings ssd = scan(tiny(), "default_optimized");
  const SamplingParams sampling{0.8F, 50, 0.9F};
  Model host(tiny().config, tiny().checkpoint, options(Backend::cpu, DType::fp32));
  Model device(tiny().config, tiny().checkpoint,
               options(Backend::cuda, DType::fp32, ExecutionMode::graph));
  CHECK(run(device, ssd, {prompt(12)}, 30, sampling)[0].tokens ==
        run(host, ssd, {prompt(12)}, 30, sampling)[0].tokens);
}

// Negative log-likelihoods of the text, token by token through decode steps.
std::vector<double> stepwise_nll(Model& model, const SsdSettings& ssd,
                                 const std::vector<std::int32_t>& ids) {
  SequenceState state = model.make_state(ssd, 1, static_cast<std::int64_t>(ids.size()));
  Decoder& decoder = model.decoder(state);
  std::vector<double> nll;
  decoder.start(state, std::span(ids).first(1));
  for (std::size_t t = 0; t + 1 < ids.size(); ++t) {
    decoder.launch();
    decoder.collect();
    const View<const float, 2> logits = decoder.logits();
    double sum = 0.0;
    for (std::int64_t i = 0; i < logits.extent[1]; ++i) {
      sum += std::exp(static_cast<double>(logits(0, i)));
    }
    nll.push_back(std::log(sum) - static_cast<double>(logits(0, ids[t + 1])));
    decoder.set_tokens(std::span(ids).subspan(t + 1, 1));
  }
  return nll;
}

TEST_CASE("bf16 decode steps score a text as fp32 does") {
  const SsdSettings ssd = scan(tiny(), "default_optimized");
  const auto ids = prompt(200);
  REQUIRE(ids.size() > 30);
  Model host(tiny().config, tiny().checkpoint, options(Backend::cpu, DType::fp32));
  const std::vector<float> expected = score(host, ssd, ids);
  for (const bool fusion : {false, true}) {
    Model model(tiny().config, tiny().checkpoint,
                options(Backend::cuda, DType::bf16, ExecutionMode::graph, fusion));
    const std::vector<double> found = stepwise_nll(model, ssd, ids);
    REQUIRE(found.size() == expected.size());
    double difference = 0.0, largest = 0.0;
    for (std::size_t t = 0; t < found.size(); ++t) {
      const double error = found[t] - static_cast<double>(expected[t]);
      difference += error / static_cast<double>(found.size());
      largest = std::max(largest, std::abs(error));
    }
    CAPTURE(fusion, difference, largest);
    CHECK(std::abs(difference) < 0.02);
    CHECK(largest < 0.25);
  }
}

TEST_CASE("Every family's logits on a GPU equal transformers', prefill, pieces and decode steps") {
  for (const std::string& name : ssd_models) {
    const GoldenFile golden(golden_path(name + "/expected.safetensors"));
    const OpenModel opened = open_model({golden_path(name)});
    for (const ExecutionMode mode : {ExecutionMode::eager, ExecutionMode::graph}) {
      Model model(opened.config, opened.checkpoint, options(Backend::cuda, DType::fp32, mode));
      const SsdSettings ssd = scan(opened, "default_optimized");
      for (const std::string part : {"case0", "case1", "case2"}) {
        const auto tokens = golden.integers(part + ".tokens");
        const auto expected = golden.floats(part + ".logits");
        CAPTURE(name, static_cast<int>(mode), part);
        for (const std::int64_t step : {0, 1, 5}) {
          CHECK(relative_difference(all_logits(model, ssd, tokens, step), expected) <= 1e-4);
        }
        CHECK(run(model, ssd, {tokens}, 12)[0].tokens == golden.integers(part + ".greedy"));
      }
    }
  }
}

TEST_CASE("Naive attention writes what flash attention writes") {
  for (const bool fusion : {false, true}) {
    Model model(tiny().config, tiny().checkpoint,
                options(Backend::cuda, DType::bf16, ExecutionMode::graph, fusion));
    Model exact(tiny().config, tiny().checkpoint, options(Backend::cuda, DType::fp32));
    const SsdSettings ssd = scan(tiny(), "default_optimized");
    const auto ids = prompt(200);
    const auto whole = score(exact, ssd, ids);
    exact.set_attention({AttentionMethod::naive, 0});
    const auto naive = score(exact, ssd, ids);
    for (std::size_t t = 0; t < whole.size(); ++t) CHECK(std::abs(whole[t] - naive[t]) < 1e-4);
    const auto flash_steps = stepwise_nll(model, ssd, ids);
    model.set_attention({AttentionMethod::naive, 0});
    const auto naive_steps = stepwise_nll(model, ssd, ids);
    for (std::size_t t = 0; t < flash_steps.size(); ++t) {
      CAPTURE(fusion, t);
      CHECK(std::abs(flash_steps[t] - naive_steps[t]) < 0.1);
    }
    for (const std::int64_t block : {32, 64, 128}) {
      model.set_attention({AttentionMethod::flash, block});
      const auto blocked = score(model, ssd, ids);
      for (std::size_t t = 0; t < whole.size(); ++t) {
        CHECK(std::abs(blocked[t] - whole[t]) < 0.25);
      }
    }
  }
}

TEST_CASE("Fused decode works for every shape of model") {
  const std::vector<std::pair<const char*, std::int64_t>> models = {
      {"synthetic:llama-tiny", 0},       {"synthetic:bamba-tiny", 0},
      {"synthetic:granite-3-8b", 2},     {"synthetic:granite-4.0-h-350m", 12},
      {"synthetic:granite-4.0-h-1b", 7}, {"synthetic:mamba2-2.7b", 3}};  // leading layers
  for (const auto& [name, layers] : models) {
    const OpenModel opened = open_model({name});
    CAPTURE(name);
    ModelOptions on_host = options(Backend::cpu, DType::fp32);
    ModelOptions on_device = options(Backend::cuda, DType::bf16, ExecutionMode::graph, true);
    on_host.layers = on_device.layers = layers;
    Model host(opened.config, opened.checkpoint, on_host);
    Model device(opened.config, opened.checkpoint, on_device);
    const SsdSettings ssd = scan(opened, "default_optimized");
    const auto ids = opened.encode_prompt(text, 40);
    const std::vector<float> expected = score(host, ssd, ids);
    const std::vector<double> found = stepwise_nll(device, ssd, ids);
    for (std::size_t t = 0; t < found.size(); ++t) {
      CHECK(std::abs(found[t] - static_cast<double>(expected[t])) < 0.1);
    }
  }
}

TEST_CASE("Synthetic weights made on the device are the host's, bit by bit") {
  const ModelConfig config = synthetic_model_config("bamba-tiny");
  const Executor exec{Backend::cuda};
  for (const DType dtype : {DType::bf16, DType::fp16, DType::fp32}) {
    const auto checkpoint = make_synthetic_checkpoint(config, 5, dtype);
    int made = 0;
    for (const auto& [name, extents] : expected_tensors(config)) {
      Tensor device(Backend::cuda, dtype, extents);
      if (!checkpoint->make_on_device(name, extents, exec, device.data())) continue;
      ++made;
      std::vector<std::byte> found(device.bytes()), expected(device.bytes());
      copy_to_host(exec, found.data(), device.data(), device.bytes());
      checkpoint->copy_tensor(name, extents, expected.data());
      CAPTURE(name, name_of(dtype));
      CHECK(found == expected);
    }
    CHECK(made > 10);
  }
}

TEST_CASE("A prefill's greedy token is the same from the device and from its logits") {
  Model model(tiny().config, tiny().checkpoint, options(Backend::cuda, DType::fp32));
  const SsdSettings ssd = scan(tiny(), "default_optimized");
  const std::vector<std::vector<std::int32_t>> prompts = {prompt(9), prompt(30), prompt(1)};
  const std::vector<std::span<const std::int32_t>> batch(prompts.begin(), prompts.end());
  SequenceState state = model.make_state(ssd, 3, 64);
  std::vector<Sampled> expected, found;
  model.forward(batch, state, LogitsRows::last,
                [&](std::int64_t, std::int64_t, View<const float, 2> rows) {
                  const View<const float, 1> row(rows.data, {rows.extent[1]});
                  expected.push_back(sample(row, SamplingParams(), 0, 0));
                });
  for (int repeat = 0; repeat < 2; ++repeat) {
    model.reset(state);
    found.clear();
    model.forward(batch, state, LogitsRows::last,
                  GreedySink([&](std::int64_t, const Sampled& one) { found.push_back(one); }));
    REQUIRE(found.size() == expected.size());
    for (std::size_t s = 0; s < found.size(); ++s) {
      CAPTURE(repeat, s);
      CHECK(found[s].token == expected[s].token);
      CHECK(std::abs(found[s].logprob - expected[s].logprob) < 1e-4F);
    }
  }
}

}  // namespace
}  // namespace chunkstate::test
