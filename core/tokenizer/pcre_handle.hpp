// SPDX-License-Identifier: Apache-2.0
#pragma once

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <memory>
#include <new>

namespace chunkstate {

struct PcreFree {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_compile_context* context) const { pcre2_compile_context_free(context); }
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  void operator()(pcre2_jit_stack* stack) const { pcre2_jit_stack_free(stack); }
};
template <class T>
using PcreHandle = std::unique_ptr<T, PcreFree>;

/// What PCRE2 made; throws std::bad_alloc where it made nothing.
template <class T>
PcreHandle<T> pcre_handle(T* made) {
  if (made == nullptr) throw std::bad_alloc();
  return PcreHandle<T>(made);
}

}  // namespace chunkstate
