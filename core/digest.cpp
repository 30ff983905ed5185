// SPDX-License-Identifier: Apache-2.0
#include "core/digest.hpp"

#include <xxhash.h>

#include <bit>
#include <cmath>
#include <limits>
#include <new>

namespace chunkstate {

static_assert(std::endian::native == std::endian::little, "digests are defined little-endian");

struct Digest::State {
  XXH3_state_t* xxh = XXH3_createState();
  State() {
    if (xxh == nullptr) throw std::bad_alloc();
    XXH3_128bits_reset(xxh);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { XXH3_freeState(xxh); }
  template <class T>
  void add(const T& value) {
    XXH3_128bits_update(xxh, &value, sizeof(value));
  }
};

Digest::Digest() : state_(std::make_unique<State>()) {}
Digest::~Digest() = default;
Digest::Digest(Digest&&) noexcept = default;
Digest& Digest::operator=(Digest&&) noexcept = default;

Digest& Digest::text(std::string_view value) {
  state_->add(static_cast<std::uint64_t>(value.size()));
  XXH3_128bits_update(state_->xxh, value.data(), value.size());
  return *this;
}

Digest& Digest::bytes(std::string_view value) {
  XXH3_128bits_update(state_->xxh, value.data(), value.size());
  return *this;
}

Digest& Digest::integer(std::int64_t value) {
  state_->add(value);
  return *this;
}

Digest& Digest::real(double value) {
  state_->add(std::isnan(value) ? std::numeric_limits<double>::quiet_NaN() : value);
  return *this;
}

Digest& Digest::real(float value) {
  state_->add(std::isnan(value) ? std::numeric_limits<float>::quiet_NaN() : value);
  return *this;
}

std::string Digest::hex() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_->xxh));
  std::string text;
  for (const unsigned char byte : canonical.digest) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

}  // namespace chunkstate
