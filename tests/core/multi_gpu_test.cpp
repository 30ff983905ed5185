// SPDX-License-Identifier: Apache-2.0
// Splits over GPUs against one GPU, each rank with one of its own: mpirun -n R multi_gpu_test.
// Prints one table; exits with 1 if a row is out of its limit, with 77 without enough GPUs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "core/decoder.hpp"
#include "core/engine_names.hpp"
#include "core/generate.hpp"
#include "core/open_model.hpp"
#include "kernels/base/memory.hpp"
#include "parallel/communicator.hpp"
#include "parallel/device_group.hpp"
#include "tests/core/multi_gpu_sums.hpp"

namespace chunkstate {
namespace {

struct Limits {
  double logits;
  double nll;
};

struct Found {
  std::vector<float> logits;  // of a sample of rows, by row
  std::vector<float> nll;
};

struct Setting {
  std::string model;
  std::vector<LayerKind> layers;  // empty: the model's own
  DType dtype;
  std::int64_t tokens;
  Limits limits;
  bool same_products = false;  // of few and of many tokens, as found: the library then takes the
                               // same algorithm, and a sequence split is one GPU bit for bit
};

double largest_difference(const std::vector<float>& found, const std::vector<float>& expected) {
  if (found.size() != expected.size()) return INFINITY;
  double difference = 0, largest = 1e-30;
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!std::isfinite(found[i])) return INFINITY;
    difference = std::max(difference, std::abs(double{found[i]} - double{expected[i]}));
    largest = std::max(largest, std::abs(double{expected[i]}));
  }
  return difference / largest;
}

class Check {
 public:
  Check(Communicator& world) : world_(world) {
    messages_ = make_device_group(world, DeviceTraffic::messages);
    sums_ = make_device_group(world, DeviceTraffic::sums);
    failed_ = !check_peer_sums(world, *sums_);
    if (world.rank() == 0) {
      std::printf("%d GPUs against one, %s\n%-22s %-5s %-9s %-18s %7s %10s %10s  %s\n",
                  world.size(), nccl_version().c_str(), "model", "dtype", "split", "variant",
                  "tokens", "logits", "nll", "greedy text");
    }
  }

  void run(const Setting& setting) {
    ModelSource source;
    source.path = setting.model;
    source.dtype = setting.dtype;
    OpenModel files = open_model(source);
    if (!setting.layers.empty()) {
      files.config.layers = setting.layers;
      files.checkpoint = make_synthetic_checkpoint(files.config, 0, setting.dtype);
    }
    std::mt19937 random(7);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(setting.tokens));
    for (std::int32_t& id : tokens) {
      id = static_cast<std::int32_t>(random() % static_cast<unsigned>(files.config.vocab_size));
    }
    ModelOptions options;
    options.backend = Backend::cuda;
    options.dtype = options.residual_dtype = setting.dtype;
    options.execution = {ExecutionMode::graph, false, setting.dtype != DType::fp32};
    const std::vector<std::string> variants = {"default_optimized", "independent", "lookback"};
    {
      Model alone(files.config, files.checkpoint, options);
      for (const std::string& variant : variants) {
        const SsdSettings ssd = ssd_settings(variant, 0, 1, files.config);
        const Found expected = forward(alone, ssd, tokens, nullptr);
        const auto text = write(alone, ssd, tokens, nullptr);
        const Found split = forward(alone, ssd, tokens, messages_.get());
        report(setting, "sequence", variant, split, expected,
               write(alone, ssd, tokens, messages_.get()), text, true);
        expected_.push_back({expected, text});
      }
      steps_ = decode(alone, ssd_settings(variants[0], 0, 1, files.config), tokens);
    }
    options.tensor_group = sums_.get();
    Model shared(files.config, files.checkpoint, options);
    for (std::size_t v = 0; v < variants.size(); ++v) {
      const SsdSettings ssd = ssd_settings(variants[v], 0, 1, files.config);
      const Found split = forward(shared, ssd, tokens, nullptr);
      report(setting, "tensor", variants[v], split, expected_[v].first,
             write(shared, ssd, tokens, nullptr), expected_[v].second, false);
    }
    expected_.clear();
    const std::vector<float> steps =
        decode(shared, ssd_settings(variants[0], 0, 1, files.config), tokens);
    report(setting, "tensor", fused_ ? "fused steps" : "steps", {steps, {}}, {steps_, {}}, {}, {},
           false);
  }

  bool failed() const { return failed_; }

 private:
  using Text = std::vector<std::int32_t>;

  // Rows of other ranks are zero; their sum over ranks is the whole.
  Found forward(Model& model, const SsdSettings& ssd, const std::vector<std::int32_t>& tokens,
                RankGroup* group) {
    const std::int64_t vocab = model.config().vocab_size;
    const auto count = static_cast<std::int64_t>(tokens.size());
    const std::int64_t every = std::max<std::int64_t>(1, count / 32);
    const std::int64_t scored = std::max<std::int64_t>(1, count * vocab / 40'000'000);
    Found found;
    found.logits.resize(static_cast<std::size_t>((count + every - 1) / every * vocab));
    found.nll.resize(tokens.size());
    const LogitsSink take = [&](std::int64_t, std::int64_t first, View<const float, 2> rows) {
      for (std::int64_t row = 0; row < rows.extent[0]; ++row) {
        const std::int64_t t = first + row;
        const float* values = rows.data + row * vocab;
        if (t % every == 0) {
          std::copy(values, values + vocab, found.logits.begin() + t / every * vocab);
        }
        if (t + 1 == count || t % scored != 0) continue;
        double sum = 0;
        for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(double{values[i]});
        found.nll[static_cast<std::size_t>(t)] = static_cast<float>(
            std::log(sum) - double{values[tokens[static_cast<std::size_t>(t + 1)]]});
      }
    };
    SequenceState state = model.make_state(ssd, 1, count);
    if (group == nullptr) {
      const std::vector<std::span<const std::int32_t>> batch = {tokens};
      model.forward(batch, state, LogitsRows::all, take);
      return found;
    }
    SequenceSplit split(*group, split_ranges(ssd, count, group->size()));
    model.forward_split(tokens, state, 0, split, LogitsRows::all, take);
    world_.all_reduce_sum(found.logits);
    world_.all_reduce_sum(found.nll);
    return found;
  }

  // Logits of steps of three sequences with given tokens.
  std::vector<float> decode(Model& model, const SsdSettings& ssd, const Text& tokens) {
    constexpr std::int64_t batch = 3, prompt = 40, steps = 12;
    SequenceState state = model.take_state(ssd, batch, prompt + steps);
    std::vector<std::span<const std::int32_t>> prompts;
    for (std::int64_t s = 0; s < batch; ++s) {
      prompts.push_back(std::span(tokens).subspan(static_cast<std::size_t>(s * 7),
                                                  static_cast<std::size_t>(prompt)));
    }
    model.forward(prompts, state, LogitsRows::none);
    Decoder& decoder = model.decoder(state);
    fused_ = decoder.fused();
    std::vector<float> all;
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto at = tokens.begin() + 100 + step * batch;
      const std::vector<std::int32_t> next(at, at + batch);
      if (step == 0) {
        decoder.start(state, next);
      } else {
        decoder.set_tokens(next);
      }
      decoder.launch();
      decoder.collect();
      const View<const float, 2> logits = decoder.logits();
      all.insert(all.end(), logits.data, logits.data + batch * logits.extent[1]);
    }
    model.keep_state(std::move(state));
    return all;
  }

  Text write(Model& model, const SsdSettings& ssd, const Text& prompt, RankGroup* group) {
    GenerateOptions options;
    options.max_new_tokens = 24;
    options.group = group;
    const std::vector<Text> prompts = {prompt};
    const std::vector<std::uint64_t> seeds = {1};
    const auto generated = generate(model, ssd, prompts, seeds, options);
    return generated.empty() ? Text{} : generated[0].tokens;
  }

  // A rank that has no text says nothing of it; bf16 texts part where two tokens are nearly equal.
  void report(const Setting& setting, const char* split, const std::string& variant,
              const Found& found, const Found& expected, const Text& text,
              const Text& expected_text, bool last_writes) {
    const double logits = largest_difference(found.logits, expected.logits);
    const double nll = largest_difference(found.nll, expected.nll);
    std::size_t same = 0;
    while (same < text.size() && text[same] == expected_text[same]) ++same;
    const bool writes = !last_writes || world_.rank() + 1 == world_.size();
    const bool text_fits =
        !writes || same == expected_text.size() || (setting.dtype != DType::fp32 && !text.empty());
    const bool forgets = last_writes && variant != "default_optimized";
    const Limits limits = setting.same_products && forgets ? Limits{0, 0} : setting.limits;
    const bool fits = logits <= limits.logits && nll <= limits.nll && text_fits;
    const std::string mine = (fits ? "1" : "0") + std::to_string(writes ? same : 99);
    bool all_fit = true;
    int least = 99;
    for (const std::string& one : world_.all_gather(mine)) {
      all_fit = all_fit && one[0] == '1';
      least = std::min(least, std::stoi(one.substr(1)));
    }
    failed_ = failed_ || !all_fit;
    if (world_.rank() != 0) return;
    const auto slash = setting.model.rfind('/');
    const std::string name =
        (slash == std::string::npos ? setting.model : setting.model.substr(slash + 1)) +
        (setting.layers.empty() ? "" : " x" + std::to_string(setting.layers.size()));
    std::printf("%-22s %-5s %-9s %-18s %7lld %10.2g %10.2g  %d of %zu%s\n", name.c_str(),
                std::string(name_of(setting.dtype)).c_str(), split, variant.c_str(),
                static_cast<long long>(setting.tokens), logits, nll, least, expected_text.size(),
                all_fit ? "" : "  FAILED");
    std::fflush(stdout);
  }

  Communicator& world_;
  std::unique_ptr<RankGroup> messages_, sums_;
  std::vector<std::pair<Found, Text>> expected_;
  std::vector<float> steps_;  // one GPU's
  bool fused_ = false;
  bool failed_ = false;
};

int run_all() {
  const auto world = make_world();
  if (device_count() < 1) return 77;
  take_gpu(world->local_rank());
  world->watch({.seconds = 60, .adaptive = false});
  try {
    Check check(*world);
    const std::string models = std::string(CHUNKSTATE_SOURCE_DIR) + "/experiments/models/";
    constexpr LayerKind m = LayerKind::mamba, a = LayerKind::attention;
    const Limits fp32{1e-5, 1e-5}, bf16{3e-2, 3e-2};
    check.run({models + "bamba-tiny", {}, DType::fp32, 1100, fp32, true});
    check.run({models + "llama-tiny", {}, DType::fp32, 700, fp32, true});
    check.run({models + "bamba-tiny", {}, DType::bf16, 1100, bf16});
    check.run({"synthetic:bamba-9b", {m, a, m, m}, DType::fp32, 1500, fp32});
    check.run({"synthetic:bamba-9b", {m, m, a, m}, DType::bf16, 5000, bf16, true});
    return check.failed() ? 1 : 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rank %d: %s\n", world->rank(), error.what());
    world->abort(1);
  }
  return 1;
}

}  // namespace
}  // namespace chunkstate

int main() { return chunkstate::run_all(); }
