// SPDX-License-Identifier: Apache-2.0
#pragma once

// One binary serves machines with AVX-512, with AVX2 and with neither: nothing is compiled with
// -march=native, and the hot functions exist once per instruction set.

/// For plain loops that GCC vectorises: compiles the function for every level; the loader picks one
/// when the program starts. Not for inline or template functions.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CHUNKSTATE_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CHUNKSTATE_MULTIVERSION
#endif

#define CHUNKSTATE_ALWAYS_INLINE inline __attribute__((always_inline))
