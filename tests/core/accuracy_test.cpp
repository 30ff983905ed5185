// SPDX-License-Identifier: Apache-2.0
// What is said of a model's predictions against a reference's, recomputed from all logits at once.
#include "core/accuracy.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "core/errors.hpp"
#include "core/generate.hpp"
#include "core/gpt_score.hpp"
#include "core/open_model.hpp"
#include "tests/catch.hpp"
#include "tests/core/model_runs.hpp"

namespace chunkstate {
namespace {

using Tokens = std::vector<std::int32_t>;

ModelConfig small_config() {
  ModelConfig c;
  c.family = "bamba";
  c.vocab_size = 37;
  c.groups = 2;
  c.mamba_heads = 4;
  c.mamba_head_dim = 8;
  c.state_dim = 5;
  c.conv_taps = 4;
  c.hidden_size = 24;
  c.intermediate_size = 40;
  c.chunk_size = 8;
  c.kv_heads = 1;
  c.attention_heads = 3;
  c.attention_head_dim = 8;
  c.rotary_dim = 4;
  c.layers = {LayerKind::mamba, LayerKind::attention, LayerKind::mamba};
  return c;
}

Model small_model(DType dtype = DType::fp32) {
  ModelOptions options;
  options.dtype = dtype;
  options.residual_dtype = dtype;
  return {small_config(), make_synthetic_checkpoint(small_config(), 3, DType::bf16), options};
}

Tokens random_tokens(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  Tokens tokens(static_cast<std::size_t>(count));
  for (auto& id : tokens) id = static_cast<std::int32_t>(random() % 37);
  return tokens;
}

std::vector<double> log_softmax(const float* logits, std::int64_t vocab) {
  long double sum = 0;
  for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<long double>(logits[i]));
  std::vector<double> result;
  for (std::int64_t i = 0; i < vocab; ++i) {
    result.push_back(static_cast<double>(logits[i] - std::log(sum)));
  }
  return result;
}

}  // namespace

TEST_CASE("a model agrees with itself, with the mean NLL that score gives") {
  Model model = small_model();
  const SsdSettings ssd = ssd_settings("default_optimized", 8, 0, model.config());
  const Tokens tokens = random_tokens(45, 1);
  const Accuracy same = compare_predictions(model, ssd, model, ssd, tokens, {20, true, 16});
  const std::vector<float> nll = score(model, ssd, tokens);
  const auto mean = [](auto begin, auto end) {
    return std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
  };
  CHECK(same.kl_mean == 0);
  CHECK(same.kl_max == 0);
  CHECK(same.top1_agreement == 1);
  CHECK(same.logit_max_abs == 0);
  CHECK(same.state_drift == std::vector<double>{0, 0});
  CHECK(same.nll_mean == Approx(mean(nll.begin(), nll.end())).epsilon(1e-6));
  CHECK(same.nll_prompt == Approx(mean(nll.begin(), nll.begin() + 19)).epsilon(1e-6));
  CHECK(same.nll_answer == Approx(mean(nll.begin() + 19, nll.end())).epsilon(1e-6));
  CHECK(same.reference_nll_mean == same.nll_mean);
}

TEST_CASE("KL, agreement, largest difference and NLL equal their formulas over all logits") {
  Model exact = small_model();
  Model rounded = small_model(DType::bf16);
  const ModelConfig config = exact.config();
  const SsdSettings exact_ssd = ssd_settings("default_optimized", 8, 0, config);
  for (const char* variant : {"independent", "lookback", "own_end_state", "default_optimized"}) {
    for (const std::int64_t piece : {1, 7, 64}) {
      for (Model* tested : {&exact, &rounded}) {
        CAPTURE(variant, piece, tested == &rounded);
        const SsdSettings ssd = ssd_settings(variant, 8, 1, config);
        const Tokens tokens = random_tokens(45, 2);
        const Accuracy found =
            compare_predictions(exact, exact_ssd, *tested, ssd, tokens, {1, false, piece});

        const std::vector<float> p = all_logits(exact, exact_ssd, tokens, 0);
        // In the same pieces: bf16 is rounded in other places where they end elsewhere.
        const std::vector<float> q = all_logits(*tested, ssd, tokens, piece);
        double kl = 0, kl_max = 0, agree = 0, nll = 0, largest = 0;
        for (std::size_t t = 0; t + 1 < tokens.size(); ++t) {
          const float* p_row = p.data() + t * 37;
          const float* q_row = q.data() + t * 37;
          const std::vector<double> log_p = log_softmax(p_row, 37);
          const std::vector<double> log_q = log_softmax(q_row, 37);
          double row = 0;
          for (std::size_t i = 0; i < 37; ++i) {
            row += std::exp(log_p[i]) * (log_p[i] - log_q[i]);
            largest = std::max(largest, std::abs(static_cast<double>(p_row[i]) - q_row[i]));
          }
          kl += row;
          kl_max = std::max(kl_max, row);
          agree += std::max_element(p_row, p_row + 37) - p_row ==
                           std::max_element(q_row, q_row + 37) - q_row
                       ? 1
                       : 0;
          nll -= log_q[static_cast<std::size_t>(tokens[t + 1])];
        }
        CHECK(found.kl_mean == Approx(kl / 44).margin(1e-5));
        CHECK(found.kl_max == Approx(kl_max).margin(1e-5));
        CHECK(found.logit_max_abs == Approx(largest).margin(1e-4));
        CHECK(found.nll_answer == Approx(nll / 44).margin(1e-5));
        CHECK(std::isnan(found.nll_prompt));
        CHECK(found.top1_agreement == Approx(agree / 44).margin(1e-9));
      }
    }
  }
}

TEST_CASE("states drift only where a variant forgets") {
  Model model = small_model();
  const SsdSettings exact = ssd_settings("default_optimized", 8, 0, model.config());
  const auto drift = [&](const char* variant, std::int64_t chunk_size, std::int64_t lookback) {
    const SsdSettings ssd = ssd_settings(variant, chunk_size, lookback, model.config());
    return compare_predictions(model, exact, model, ssd, random_tokens(20, 3), {10, true, 64})
        .state_drift;
  };
  for (const double d : drift("independent", 32, 0)) CHECK(d < 1e-6);  // one chunk
  for (const double d : drift("lookback", 8, 2)) CHECK(d < 1e-6);      // remembers all three
  for (const double d : drift("independent", 8, 0)) CHECK(d > 1e-3);
  CHECK(drift("independent", 8, 0).size() == 2);  // mamba layers only
}

TEST_CASE("accuracy refuses what it cannot compare") {
  Model model = small_model();
  const SsdSettings ssd = ssd_settings("default_optimized", 8, 0, model.config());
  CHECK_THROWS_AS(compare_predictions(model, ssd, model, ssd, Tokens{1}, {}), UsageError);
}

TEST_CASE("the first divergence is an index, the shorter end, or -1") {
  CHECK(first_divergence(Tokens{1, 2, 3}, Tokens{1, 2, 3}) == -1);
  CHECK(first_divergence(Tokens{1, 2, 3}, Tokens{1, 5, 3}) == 1);
  CHECK(first_divergence(Tokens{1, 2}, Tokens{1, 2, 3}) == 2);
  CHECK(first_divergence(Tokens{}, Tokens{}) == -1);
}

TEST_CASE("GPTScore equals the mean of score over the scored text's tokens") {
  const OpenModel files = open_model({CHUNKSTATE_SOURCE_DIR "/experiments/models/llama-tiny"});
  Model model(files.config, files.checkpoint, {});
  const Judge judge(files, model);
  const JudgeTemplate instruction = parse_judge_template("Text: {given}\nIn short: ");
  const std::string source = "The function returns the number of bytes written.";
  const std::string answer = "It returns a count.";
  const std::string output = "The number of bytes.";

  const auto by_hand = [&](const std::string& given, const std::string& scored) {
    Tokens tokens = files.tokenizer->encode("Text: " + given + "\nIn short: ", true);
    const Tokens target = files.tokenizer->encode(scored, false);
    tokens.insert(tokens.end(), target.begin(), target.end());
    const SsdSettings ssd = ssd_settings("default_optimized", 0, 0, files.config);
    const std::vector<float> nll = score(model, ssd, tokens);
    return -std::accumulate(nll.end() - static_cast<std::ptrdiff_t>(target.size()), nll.end(),
                            0.0) /
           static_cast<double>(target.size());
  };
  const GptScore found = gpt_score(judge, instruction, source, answer, output);
  const double precision = by_hand(answer, output);
  const double recall = by_hand(output, answer);
  CHECK(found.source_to_hypothesis == Approx(by_hand(source, output)).margin(1e-5));
  CHECK(found.reference_to_hypothesis == Approx(precision).margin(1e-5));
  CHECK(found.hypothesis_to_reference == Approx(recall).margin(1e-5));
  CHECK(found.average == Approx((precision + recall) / 2).margin(1e-5));
  CHECK(found.harmonic == Approx(2 * precision * recall / (precision + recall)).margin(1e-5));

  const GptScore without = gpt_score(judge, instruction, source, "", output);
  CHECK(std::isnan(without.average));
  CHECK(without.source_to_hypothesis == found.source_to_hypothesis);
  CHECK(std::isnan(judge.score(instruction, source, "")));
}

TEST_CASE("a source too long for the judge loses its first tokens, the instruction stays") {
  OpenModel files = open_model({CHUNKSTATE_SOURCE_DIR "/experiments/models/llama-tiny"});
  files.config.max_position_embeddings = 64;
  Model model(files.config, files.checkpoint, {});
  const Judge judge(files, model);
  const JudgeTemplate instruction = parse_judge_template("Text: {given}\nIn short: ");
  std::string lengthy;
  for (int i = 0; i < 100; ++i) lengthy += "a file that is open ";
  const double cut = judge.score(instruction, lengthy, "a file");
  CHECK(std::isfinite(cut));
  CHECK(cut == judge.score(instruction, lengthy + lengthy, "a file"));
  CHECK_THROWS_AS(judge.score(instruction, "short", lengthy), UsageError);
}

TEST_CASE("a judge's template has one place for the given text") {
  CHECK(parse_judge_template("a {given} b").before == "a ");
  CHECK(parse_judge_template("a {given} b").after == " b");
  CHECK_THROWS_AS(parse_judge_template("no place"), UsageError);
  CHECK_THROWS_AS(parse_judge_template("{given} and {given}"), UsageError);
}

}  // namespace chunkstate
