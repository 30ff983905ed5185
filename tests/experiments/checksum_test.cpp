// SPDX-License-Identifier: Apache-2.0
#include "experiments/record/checksum.hpp"

#include <limits>

#include "core/digest.hpp"
#include "experiments/record/result_digest.hpp"
#include "tests/catch.hpp"
#include "tests/experiments/example_records.hpp"

using namespace chunkstate;

TEST_CASE("crc32c gives the check value of its definition") {
  CHECK(crc32c("123456789") == 0xE3069283U);
  CHECK(crc32c("") == 0U);
  CHECK(crc32c(std::string(32, '\0')) == 0x8A9136AAU);  // RFC 3720, B.4
}

TEST_CASE("canonical_text keeps valid text and replaces what cannot be stored") {
  const std::string replacement = "\xEF\xBF\xBD";
  const std::string valid = "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\n\x7F";
  CHECK(canonical_text(valid) == valid);
  CHECK(is_canonical(valid));
  CHECK_FALSE(is_canonical(std::string("a\0b", 3)));
  CHECK_FALSE(is_canonical("a\xFF"));
  CHECK(canonical_text(std::string("a\0b", 3)) == "a" + replacement + "b");
  CHECK(canonical_text("\xFF") == replacement);
  CHECK(canonical_text("\xC3") == replacement);                                      // cut short
  CHECK(canonical_text("\xC0\x80") == replacement + replacement);                    // overlong
  CHECK(canonical_text("\xED\xA0\x80") == replacement + replacement + replacement);  // surrogate
  CHECK(canonical_text("\xF4\x90\x80\x80").size() == 12);                            // > U+10FFFF
  CHECK(canonical_text("\xE2\x82z") == replacement + "z");  // one maximal part
}

TEST_CASE("a digest separates its values and knows one NaN") {
  const auto of = [](auto... texts) {
    Digest digest;
    (digest.text(texts), ...);
    return digest.hex();
  };
  CHECK(of("ab", "c") != of("a", "bc"));
  CHECK(of("abc").size() == 32);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(Digest().real(nan).hex() == Digest().real(-nan).hex());
  CHECK(Digest().real(0.0).hex() != Digest().real(-0.0).hex());
}

TEST_CASE("the result digest covers what came out and nothing else") {
  const RequestRecord record = example_record(1, 2, 3);
  const std::string digest = result_digest(record);
  RequestRecord other = record;
  other.rank = 99;
  other.ttft = other.e2e = other.t_start = other.energy = other.cpu_percent = 4;
  other.t_emit.clear();
  other.peak_memory_bytes = 1;
  CHECK(result_digest(other) == digest);

  const auto changed = [&](auto change) {
    RequestRecord copy = record;
    change(copy);
    return result_digest(copy) != digest;
  };
  CHECK(changed([](auto& r) { r.text += "x"; }));
  CHECK(changed([](auto& r) { r.token_ids[3] += 1; }));
  CHECK(changed([](auto& r) { r.logprobs[0] = std::nextafter(r.logprobs[0], 0.0F); }));
  CHECK(changed([](auto& r) { r.stop_reason = "other"; }));
  CHECK(changed([](auto& r) { r.tokens_in += 1; }));
  CHECK(changed([](auto& r) { r.flops += 1; }));
  CHECK(changed([](auto& r) { r.bytes_moved += 1; }));
  CHECK(changed([](auto& r) { r.status = RequestStatus::failed; }));
}

TEST_CASE("of an error only the class is digested") {
  const auto digest = [](const char* error) {
    return result_digest(failed_record(0, 0, 0, error));
  };
  CHECK(digest("InputError: at 0x1234") == digest("InputError: at 0x5678"));
  CHECK(digest("InputError: x") != digest("bad_alloc: x"));
}
