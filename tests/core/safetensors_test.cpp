// SPDX-License-Identifier: Apache-2.0
#include "core/checkpoint/safetensors.hpp"

#include <fcntl.h>
#include <sys/wait.h>

#include <chrono>
#include <cstring>

#include "core/checkpoint/checkpoint.hpp"
#include "core/errors.hpp"
#include "core/input_file.hpp"
#include "tests/catch.hpp"
#include "tests/core/input_builders.hpp"

namespace chunkstate {
namespace {

namespace fs = std::filesystem;

const fs::path models = fs::path(CHUNKSTATE_SOURCE_DIR) / "experiments" / "models";

ModelConfig config_of(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  return parse_model_config(read_input_file(file, 1 << 20), file.string());
}

std::string floats(std::initializer_list<float> values) {
  std::string bytes(values.size() * 4, '\0');
  std::memcpy(bytes.data(), std::data(values), bytes.size());
  return bytes;
}

float first_float(const CheckpointTensor& tensor) {
  float value = 0.0F;
  std::memcpy(&value, tensor.data, 4);
  return value;
}

}  // namespace

TEST_CASE("a header's entries come in the order of their data, with offsets in the file") {
  const std::string file = safetensors_file(
      {tensor_entry("b", "F32", "[1,2]", "[2,10]"), R"("__metadata__":{"format":"pt"})",
       tensor_entry("a", "BF16", "[]", "[0,2]"), tensor_entry("empty", "I64", "[0,7]", "[2,2]")},
      std::string(10, 'x'), "   ");
  const auto entries = parse_safetensors_header(file, file.size(), "file");
  REQUIRE(entries.size() == 3);
  const std::uint64_t data = file.size() - 10;
  CHECK(entries[0].name == "a");
  CHECK(entries[0].extents.empty());
  CHECK(entries[0].begin == data);
  CHECK(entries[1].name == "empty");
  CHECK(entries[2].name == "b");
  CHECK(entries[2].dtype == "F32");
  CHECK(entries[2].extents == std::vector<std::int64_t>{1, 2});
  CHECK(entries[2].end == data + 10);
}

TEST_CASE("an empty container is valid") {
  const std::string file = safetensors_file({}, "");
  CHECK(parse_safetensors_header(file, file.size(), "file").empty());
}

TEST_CASE("the shipped models have exactly the weights their configs need") {
  for (const char* name : {"bamba-tiny", "llama-tiny"}) {
    INFO(name);
    const ModelConfig config = config_of(models / name);
    const auto checkpoint = open_safetensors(models / name);
    check_weights(*checkpoint, config);
    CHECK(checkpoint->bytes() == 2 * config.parameters());
    CHECK(checkpoint->digest().size() == 32);
    CHECK(checkpoint->digest() == open_safetensors(models / name)->digest());
    const auto embedding =
        checkpoint->tensor("model.embed_tokens.weight", {config.vocab_size, config.hidden_size});
    CHECK(embedding.dtype == DType::bf16);
  }
}

TEST_CASE("F32, F16 and BF16 can be read, other types are only carried") {
  const TemporaryFolder folder;
  folder.write(
      "model.safetensors",
      safetensors_file(
          {tensor_entry("f", "F32", "[2]", "[0,8]"), tensor_entry("h", "F16", "[2]", "[8,12]"),
           tensor_entry("b", "BF16", "[2]", "[12,16]"), tensor_entry("i", "I64", "[1]", "[16,24]")},
          floats({1.5F, 2.0F}) + std::string(16, '\x3c')));
  const auto checkpoint = open_safetensors(folder.path());
  CHECK(first_float(checkpoint->tensor("f", {2})) == 1.5F);
  CHECK(checkpoint->tensor("h", {2}).dtype == DType::fp16);
  CHECK(checkpoint->tensor("b", {2}).dtype == DType::bf16);
  CHECK(checkpoint->bytes() == 24);
  CHECK(checkpoint->contains("i"));
  CHECK_FALSE(checkpoint->contains("j"));
  CHECK(contains(message_of<InputError>([&] { checkpoint->tensor("i", {1}); }),
                 "tensor 'i': has dtype I64, expected F32, F16 or BF16"));
}

TEST_CASE("misaligned data is readable at an aligned address") {
  const TemporaryFolder folder;
  for (const std::string padding : {"", " ", "  ", "   "}) {
    folder.write("model.safetensors", safetensors_file({tensor_entry("x", "F32", "[1]", "[0,4]")},
                                                       floats({-7.25F}), padding));
    const auto checkpoint = open_safetensors(folder.path());
    const auto tensor = checkpoint->tensor("x", {1});
    INFO(padding.size() << " spaces");
    CHECK(reinterpret_cast<std::uintptr_t>(tensor.data) % 4 == 0);
    CHECK(first_float(tensor) == -7.25F);
    CHECK(checkpoint->tensor("x", {1}).data == tensor.data);
  }
}

TEST_CASE("shards are joined by their index") {
  const TemporaryFolder folder;
  const auto write_shard = [&](const std::string& file, const std::string& name, float value) {
    folder.write(file,
                 safetensors_file({tensor_entry(name, "F32", "[1]", "[0,4]")}, floats({value})));
  };
  write_shard("one.safetensors", "a", 1.0F);
  write_shard("two.safetensors", "b", 2.0F);
  folder.write("model.safetensors.index.json",
               R"({"metadata": {"total_size": 8},
                   "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})");
  const auto checkpoint = open_safetensors(folder.path());
  CHECK(first_float(checkpoint->tensor("a", {1})) == 1.0F);
  CHECK(first_float(checkpoint->tensor("b", {1})) == 2.0F);
  CHECK(checkpoint->bytes() == 8);

  const std::string digest = checkpoint->digest();
  const std::string identity = checkpoint->identity();
  const auto again = open_safetensors(folder.path());
  CHECK(again->identity() == identity);
  again->know_digest("found elsewhere");
  CHECK(again->digest() == "found elsewhere");
  write_shard("two.safetensors", "b", 3.0F);
  fs::last_write_time(folder.path() / "two.safetensors",
                      fs::file_time_type::clock::now() + std::chrono::hours(1));
  const auto changed = open_safetensors(folder.path());
  CHECK(changed->digest() != digest);
  CHECK(changed->identity() != identity);
}

TEST_CASE("links to the blobs of a Hugging Face cache are followed") {
  const TemporaryFolder cache;
  fs::create_directories(cache.path() / "blobs");
  fs::create_directories(cache.path() / "snapshots" / "revision");
  cache.write("blobs/1234",
              safetensors_file({tensor_entry("a", "F32", "[1]", "[0,4]")}, floats({5.0F})));
  fs::create_symlink("../../blobs/1234", cache.path() / "snapshots/revision/one.safetensors");
  cache.write("snapshots/revision/model.safetensors.index.json",
              R"({"weight_map": {"a": "one.safetensors"}})");
  CHECK(first_float(open_safetensors(cache.path() / "snapshots/revision")->tensor("a", {1})) ==
        5.0F);
}

TEST_CASE("a file that is cut while it is mapped ends with code 65, not with a signal") {
  const TemporaryFolder folder;
  const fs::path file = folder.write(
      "model.safetensors", safetensors_file({tensor_entry("a", "F32", "[4096]", "[0,16384]")},
                                            std::string(16384, '\0')));
  const auto checkpoint = open_safetensors(folder.path());
  const MappedFile mapped(file);
  fs::resize_file(file, 100);
  CHECK(contains(message_of<InputError>([&] { checkpoint->tensor("a", {4096}); }),
                 "changed its size from"));

  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    const volatile char* data = mapped.bytes().data();
    ::_exit(data[16000] == 0 ? 1 : 2);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 65);
}

}  // namespace chunkstate
