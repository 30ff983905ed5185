// SPDX-License-Identifier: Apache-2.0
#include "core/execution_options.hpp"

#include "core/errors.hpp"
#include "tests/catch.hpp"

namespace chunkstate {

TEST_CASE("The automatic execution is graph and fused where these apply") {
  const ExecutionOptions host = execution_options("auto", "off", "auto", Backend::cpu, DType::bf16);
  CHECK(host.mode == ExecutionMode::eager);
  CHECK_FALSE(host.fusion);
  const ExecutionOptions half = execution_options("auto", "on", "auto", Backend::cuda, DType::bf16);
  CHECK(half.mode == ExecutionMode::graph);
  CHECK(half.fusion);
  CHECK(half.autotune);
  const ExecutionOptions full =
      execution_options("auto", "off", "auto", Backend::cuda, DType::fp32);
  CHECK(full.mode == ExecutionMode::graph);
  CHECK_FALSE(full.fusion);
  CHECK_FALSE(full.autotune);
}

TEST_CASE("Attention is named, and naive attention has no blocks") {
  CHECK(attention_choice("flash", 0).method == AttentionMethod::flash);
  CHECK(attention_choice("flash", 128).block_keys == 128);
  CHECK(attention_choice("naive", 0).method == AttentionMethod::naive);
  const auto message = [](const std::string& attention, std::int64_t block) {
    try {
      attention_choice(attention, block);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  CHECK(message("sdpa", 0) == "execution.attention: found 'sdpa', expected flash or naive");
  CHECK(message("flash", 48) == "execution.attention_block: found '48', expected 32, 64, 128 or 0");
  CHECK(message("naive", 64) ==
        "execution.attention_block: found '64', expected 0: naive attention has no blocks");
}

TEST_CASE("An execution that cannot apply is refused, and the backend named") {
  const auto message = [](const char* mode, const char* autotune, const char* fusion,
                          Backend backend, DType dtype) -> std::string {
    try {
      execution_options(mode, autotune, fusion, backend, dtype);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "accepted";
  };
  CHECK(message("graph", "off", "off", Backend::cpu, DType::fp32) ==
        "execution.mode: found 'graph', expected auto or eager: backend cpu has no graphs");
  CHECK(message("eager", "on", "off", Backend::reference, DType::fp32) ==
        "execution.autotune: found 'on', expected off: backend reference has nothing to search");
  CHECK(message("eager", "off", "on", Backend::cpu, DType::bf16) ==
        "execution.fusion: found 'on', expected auto or off: backend cpu has no fused kernels");
  CHECK(message("eager", "off", "on", Backend::cuda, DType::fp32) ==
        "execution.fusion: found 'on', expected auto or off: fused kernels take bf16 or fp16");
  CHECK(message("fast", "off", "off", Backend::cuda, DType::bf16) ==
        "execution.mode: found 'fast', expected auto, eager or graph");
  CHECK(message("eager", "off", "on", Backend::cuda, DType::bf16) == "accepted");
}

}  // namespace chunkstate
