// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention/tile_attention.hpp"

#include <algorithm>
#include <limits>

#include "kernels/base/avx512_math.hpp"
#include "kernels/base/rows.hpp"
#include "kernels/base/tile_elements.hpp"

#if defined(__x86_64__)
// GCC 12 finds fault with its own intrinsics, which start from an undefined vector.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace chunkstate::cpu {
namespace {

// Query rows that share packed keys: the heads of one kv head times so many tokens.
constexpr std::int64_t block_rows = 256;

std::int64_t panels_of(std::int64_t count) { return (count + panel_width - 1) / panel_width; }

/// A panel of query rows: up to 32 tokens of one head, and where their sums stand.
struct QueryPanel {
  const bf16* q;   // panel a
  float* sums;     // [column panels] panels of sums of y
  float* largest;  // [32]  score so far
  float* total;    // [32]  of the weights, relative to the largest score
  std::int64_t first_token;
  std::int64_t tokens;
  std::int64_t head;
};

#if defined(__x86_64__)
CHUNKSTATE_AVX512BF16 inline const float* score_at(const float* row, std::int64_t vector) {
  return row + vector / 2 * panel_sums + vector % 2 * 256;
}

/// Of the `visible` first scores, times scale; `row` as in a panel of sums.
CHUNKSTATE_AVX512BF16 inline float largest_score(const float* row, std::int64_t visible,
                                                 float scale, float start) {
  const __m512 factor = _mm512_set1_ps(scale);
  __m512 top = _mm512_set1_ps(start);
  for (std::int64_t v = 0; v * 16 < visible; ++v) {
    const std::int64_t left = std::min<std::int64_t>(visible - v * 16, 16);
    const auto mask = static_cast<__mmask16>((1U << left) - 1);
    const __m512 score = _mm512_mul_ps(factor, _mm512_load_ps(score_at(row, v)));
    top = _mm512_mask_max_ps(top, mask, top, score);
  }
  return _mm512_reduce_max_ps(top);
}

/// exp(scale score - top) of 16 scores, 0 beyond the visible ones.
CHUNKSTATE_AVX512BF16 inline __m512 weights_of(const float* row, std::int64_t vector,
                                               std::int64_t visible, __m512 scale, __m512 top) {
  const std::int64_t left = std::clamp<std::int64_t>(visible - vector * 16, 0, 16);
  const auto mask = static_cast<__mmask16>((1U << left) - 1);
  const __m512 score = _mm512_load_ps(score_at(row, vector));
  return _mm512_maskz_mov_ps(mask, coarse_exp(_mm512_fmsub_ps(score, scale, top)));
}

/// The online softmax of a panel's scores of `panels` x 32 keys. Row i sees `visible` + i of them.
/// `weights`: panel a. Returns whether `correction`, what earlier sums must be multiplied with, has
/// any factor but 1.
CHUNKSTATE_AVX512BF16 bool soften_panel(const QueryPanel& query, const float* scores,
                                        std::int64_t panels, std::int64_t visible, float scale,
                                        float* correction, bf16* weights) {
  bool corrects = false;
  for (std::int64_t i = 0; i < query.tokens; ++i) {
    const float* const row = scores + i / 16 * 512 + i % 16 * 16;
    const std::int64_t seen = std::clamp<std::int64_t>(visible + i, 0, panels * panel_width);
    const float before = query.largest[i];
    const float top = largest_score(row, seen, scale, before);
    const __m512 factor = _mm512_set1_ps(scale), tops = _mm512_set1_ps(top);
    __m512 sum = _mm512_setzero_ps();
    for (std::int64_t p = 0; p < panels; ++p) {
      const __m512 low = weights_of(row, 2 * p, seen, factor, tops);
      const __m512 high = weights_of(row, 2 * p + 1, seen, factor, tops);
      sum = _mm512_add_ps(sum, _mm512_add_ps(low, high));
      _mm512_store_si512(weights + p * panel_width * tile_depth + i * tile_depth,
                         round_pair(low, high));
    }
    const float factor_before =
        before == top ? 1.0F : _mm512_cvtss_f32(coarse_exp(_mm512_set1_ps(before - top)));
    corrects = corrects || before != top;
    correction[i] = factor_before;
    query.total[i] = query.total[i] * factor_before + _mm512_reduce_add_ps(sum);
    query.largest[i] = top;
  }
  return corrects;
}
#else
bool soften_panel(const QueryPanel&, const float*, std::int64_t, std::int64_t, float, float*,
                  bf16*) {
  return false;
}
#endif

/// Tokens [first, first + tokens) of all query heads of one kv head.
class QueryBlock {
 public:
  QueryBlock(const AttentionArgs& args, std::int64_t kv, std::int64_t first, std::int64_t tokens,
             std::int64_t block_keys, Scratch& scratch)
      : args_(args),
        kv_(kv),
        block_keys_(block_keys),
        head_dim_(args.q.extent[2]),
        column_panels_(panels_of(head_dim_)),
        panels_(args.q.extent[1] / args.k.extent[1] * panels_of(tokens)) {
    const std::int64_t depth = panel_elements(head_dim_) / 2;  // as floats
    const std::int64_t panel = depth + column_panels_ * panel_sums + 2 * panel_width;
    const std::int64_t key_panels = block_keys / panel_width;
    memory_ = scratch.floats(panels_ * panel + 2 * key_panels * depth + key_panels * panel_sums +
                             panel_elements(block_keys) / 2 + panel_width);
    const auto take = [this](std::int64_t count) {
      float* const begin = memory_;
      memory_ += count;
      return begin;
    };
    keys_ = reinterpret_cast<bf16*>(take(key_panels * depth));
    values_ = reinterpret_cast<bf16*>(take(key_panels * depth));
    scores_ = take(key_panels * panel_sums);
    weights_ = reinterpret_cast<bf16*>(take(panel_elements(block_keys) / 2));
    correction_ = take(panel_width);
    panel_memory_ = take(panels_ * panel);
    panel_floats_ = panel;
    std::fill_n(correction_, panel_width, 1.0F);  // of rows beyond the last token
    for (std::int64_t i = 0; i < panels_; ++i) start(i, first, tokens);
  }

  void run(std::int64_t last_key) {
    for (std::int64_t begin = 0; begin < last_key; begin += block_keys_) {
      const std::int64_t count = std::min(block_keys_, last_key - begin);
      load_keys(begin, count);
      for (std::int64_t i = 0; i < panels_; ++i) attend(panel(i), begin, count);
    }
    for (std::int64_t i = 0; i < panels_; ++i) finish(panel(i));
  }

 private:
  QueryPanel panel(std::int64_t index) const {
    float* const at = panel_memory_ + index * panel_floats_;
    const std::int64_t depth = panel_elements(head_dim_) / 2;
    QueryPanel query;
    query.q = reinterpret_cast<const bf16*>(at);
    query.sums = at + depth;
    query.largest = query.sums + column_panels_ * panel_sums;
    query.total = query.largest + panel_width;
    const std::int64_t heads = args_.q.extent[1] / args_.k.extent[1];
    const std::int64_t per_head = panels_ / heads;
    query.head = kv_ * heads + index / per_head;
    query.first_token = first_ + index % per_head * panel_width;
    query.tokens = std::min(panel_width, first_ + tokens_ - query.first_token);
    return query;
  }

  void start(std::int64_t index, std::int64_t first, std::int64_t tokens) {
    first_ = first;
    tokens_ = tokens;
    const QueryPanel query = panel(index);
    const auto* const q =
        reinterpret_cast<const bf16*>(args_.q.at(query.first_token, query.head, 0));
    pack_rows(q, args_.q.stride[0], query.tokens, head_dim_, const_cast<bf16*>(query.q));
    std::fill_n(query.largest, panel_width, -std::numeric_limits<float>::infinity());
    std::fill_n(query.total, panel_width, 0.0F);
  }

  void load_keys(std::int64_t begin, std::int64_t count) {
    const auto at = [&](const ConstAnyView<3>& view, std::int64_t key) {
      return reinterpret_cast<const bf16*>(view.at(key, kv_, 0));
    };
    bf16* keys = keys_;
    for (std::int64_t j = 0; j < count; j += panel_width, keys += panel_elements(head_dim_)) {
      pack_columns(at(args_.k, begin + j), args_.k.stride[0], std::min(panel_width, count - j),
                   head_dim_, keys);
    }
    pack_pairs(at(args_.v, begin), args_.v.stride[0], count, head_dim_, values_);
  }

  void attend(const QueryPanel& query, std::int64_t begin, std::int64_t count) {
    const std::int64_t before = args_.k.extent[0] - args_.q.extent[0];
    const std::int64_t visible = before + query.first_token + 1 - begin;  // of the first row
    const std::int64_t panels = panels_of(std::min(visible + query.tokens - 1, count));
    if (panels <= 0) return;
    PanelProduct product;
    product.rows = query.tokens;
    product.a = query.q;
    product.depth_tiles = column_panels_;
    for (std::int64_t p = 0; p < panels; ++p) {
      product.b = keys_ + p * panel_elements(head_dim_);
      product.sums = scores_ + p * panel_sums;
      multiply_panels(product);
    }
    const bool corrects =
        soften_panel(query, scores_, panels, visible, args_.scale, correction_, weights_);
    if (corrects && begin > 0) scale_sums(correction_, column_panels_, query.sums);
    product.a = weights_;
    product.depth_tiles = panels;
    product.accumulate = begin > 0;
    for (std::int64_t p = 0; p < column_panels_; ++p) {
      product.b = values_ + p * panel_elements(count);
      product.sums = query.sums + p * panel_sums;
      multiply_panels(product);
    }
  }

  void finish(const QueryPanel& query) {
    for (std::int64_t i = 0; i < query.tokens; ++i) correction_[i] = 1.0F / query.total[i];
    store_sums(query.sums, query.tokens, head_dim_, correction_,
               args_.y.at(query.first_token, query.head, 0), args_.y.stride[0], args_.y.dtype);
  }

  const AttentionArgs& args_;
  const std::int64_t kv_;
  std::int64_t first_ = 0;
  std::int64_t tokens_ = 0;
  const std::int64_t block_keys_;
  const std::int64_t head_dim_;
  const std::int64_t column_panels_;  // of head_dim
  const std::int64_t panels_;
  float* memory_;
  bf16* keys_;     // [key panel]  panels b: k are elements of a head
  bf16* values_;   // [column panel]  panels b: k are keys
  float* scores_;  // [key panel]  sums
  bf16* weights_;  // panel a: k are keys
  float* correction_;
  float* panel_memory_;  // [panels]  what panel() points to
  std::int64_t panel_floats_;
};

}  // namespace

bool tile_attention_applies(const AttentionArgs& args) {
  const bool inputs =
      args.q.dtype == DType::bf16 && args.k.dtype == DType::bf16 && args.v.dtype == DType::bf16;
  return inputs && args.y.dtype != DType::fp16 && args.choice.method == AttentionMethod::flash &&
         has_bf16_tiles();
}

void tile_attention(const Executor& exec, const AttentionArgs& args, std::int64_t block_keys) {
  const std::int64_t tokens = args.q.extent[0];
  const std::int64_t kv_heads = args.k.extent[1];
  const std::int64_t heads_per_kv = std::max<std::int64_t>(args.q.extent[1] / kv_heads, 1);
  const std::int64_t step =
      std::max<std::int64_t>(block_rows / heads_per_kv / panel_width, 1) * panel_width;
  const std::int64_t blocks = (tokens + step - 1) / step;
  const std::int64_t before = args.k.extent[0] - tokens;
#pragma omp parallel num_threads(exec.threads)
  {
    thread_local Scratch scratch;
    const TileScope scope;
#pragma omp for collapse(2) schedule(dynamic)
    for (std::int64_t i = 0; i < blocks; ++i) {
      for (std::int64_t kv = 0; kv < kv_heads; ++kv) {
        const std::int64_t first = (blocks - 1 - i) * step;  // the longest rows first
        const std::int64_t count = std::min(step, tokens - first);
        QueryBlock(args, kv, first, count, block_keys, scratch).run(before + first + count);
      }
    }
  }
}

}  // namespace chunkstate::cpu
