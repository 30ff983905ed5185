// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/model.hpp"
#include "core/trace.hpp"
#include "kernels/base/memory.hpp"
#include "kernels/linear/linear.hpp"
#include "kernels/rms_norm/rms_norm.hpp"
#include "kernels/sampling/greedy_step.hpp"

// The end of a forward pass: logits of the rows that are asked for, and where they go.
namespace chunkstate {
namespace {

// Logits are made in blocks of at most this many floats (128 MiB), whatever the vocabulary and
// prompt.
constexpr std::int64_t logits_block_elements = std::int64_t{1} << 25;

std::int64_t logits_block_rows(const ModelConfig& config, std::int64_t rows) {
  return std::min(rows, std::max<std::int64_t>(1, logits_block_elements / config.vocab_size));
}

// Of greedy_step's arguments those that only decode steps use: step count, positions, lengths,
// tokens.
std::int64_t unused_words(std::int64_t rows) { return 2 + 5 * rows; }

}  // namespace

std::size_t Model::logits_arena_bytes(std::int64_t rows) const {
  const std::int64_t block = logits_block_rows(config_, rows);
  return Arena::padded(rows * config_.hidden_size, options_.dtype) +
         Arena::padded(block * config_.vocab_size, DType::fp32) +
         Arena::padded(unused_words(block) + greedy_step_partials(block), DType::fp32);
}

void Model::make_logits(const ConstAnyView<2>& normed, const AnyView<2>& logits) {
  if (tensor_) {
    fill_zero(exec_, logits.data,
              static_cast<std::size_t>(logits.extent[0] * logits.extent[1]) * sizeof(float));
  }
  const Range columns = vocab_rows();
  linear(exec_, {normed,
                 weights_.lm_head,
                 {},
                 logits.slice(1, columns.begin, columns.end),
                 false,
                 config_.logits_multiplier});
  if (!tensor_) return;
  tensor_->sum(exec_, logits);  // each column is one rank's, and zero elsewhere
  tensor_->group.flush();
}

const float* Model::on_host(const AnyView<2>& logits) {
  if (exec_.backend != Backend::cuda) return reinterpret_cast<const float*>(logits.data);
  host_logits_.resize(static_cast<std::size_t>(logits.extent[0] * logits.extent[1]));
  copy_to_host(exec_, host_logits_.data(), logits.data, host_logits_.size() * sizeof(float));
  return host_logits_.data();
}

// On a GPU the results are there once sampled_ has been waited for.
void Model::sample_greedy(const AnyView<2>& logits, Sampled* results) {
  const auto [rows, vocab] = logits.extent;
  if (exec_.backend != Backend::cuda) {
    for (std::int64_t row = 0; row < rows; ++row) {
      const auto* const values = reinterpret_cast<const float*>(logits.at(row, 0));
      results[row] = sample({values, {vocab}}, SamplingParams(), 0, 0);
    }
    return;
  }
  const std::size_t mark = arena_.mark();
  const auto memory =
      arena_.take<1>(DType::fp32, {unused_words(rows) + greedy_step_partials(rows)}).as<float>();
  auto* const numbers = reinterpret_cast<std::int64_t*>(memory.data);
  GreedyStepArgs args;
  args.logits = logits.as<float>();
  args.steps = {reinterpret_cast<std::uint64_t*>(numbers), {1}};
  args.positions = {numbers + 1, {rows}};
  args.lengths = {numbers + 1 + rows, {rows}};
  args.tokens = {reinterpret_cast<std::int32_t*>(numbers + 1 + 2 * rows), {rows}};
  args.partials = {memory.data + unused_words(rows), {greedy_step_partials(rows)}};
  args.results = {results, {1, rows}};
  greedy_step(exec_, args);
  arena_.release(mark);
}

void Model::emit_logits(const PackedTokens& packed, AnyView<2> residual, LogitsRows rows,
                        const RowSink& sink) {
  const TraceRegion region("logits", TraceDetail::step);
  std::vector<LogitsPiece>& wanted = logits_pieces_;
  wanted.clear();
  std::int64_t total = 0;
  for (const auto& piece : packed.pieces) {
    const std::int64_t count = rows == LogitsRows::all ? piece.tokens : 1;
    wanted.push_back({piece.sequence, piece.tokens - count, total, count});
    total += count;
  }

  const auto normed = arena_.take<2>(options_.dtype, {total, config_.hidden_size});
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    const auto& piece = packed.pieces[i];
    const std::int64_t end = piece.first_row + piece.tokens;
    rms_norm(exec_, {residual.slice(0, end - wanted[i].rows, end), weights_.final_norm,
                     config_.rms_norm_eps,
                     normed.slice(0, wanted[i].first_row, wanted[i].first_row + wanted[i].rows)});
  }

  const auto* const take = std::get_if<LogitsSink>(&sink);
  Sampled* sampled = nullptr;
  if (take == nullptr) {
    if (rows != LogitsRows::last) throw std::logic_error("forward: a GreedySink takes last rows");
    host_sampled_.resize(exec_.backend == Backend::cuda ? 0 : static_cast<std::size_t>(total));
    sampled = exec_.backend == Backend::cuda
                  ? reinterpret_cast<Sampled*>(
                        sampled_.take(static_cast<std::size_t>(total) * sizeof(Sampled)))
                  : host_sampled_.data();
  }
  const std::int64_t block_rows = logits_block_rows(config_, total);
  const auto block = arena_.take<2>(DType::fp32, {block_rows, config_.vocab_size});
  for (std::int64_t begin = 0; begin < total; begin += block_rows) {
    const std::int64_t end = std::min(total, begin + block_rows);
    const auto logits = block.slice(0, 0, end - begin);
    make_logits(normed.slice(0, begin, end), logits);
    if (take == nullptr) {
      sample_greedy(logits, sampled + begin);
      continue;
    }
    const float* const host = on_host(logits);
    for (const LogitsPiece& w : wanted) {
      const std::int64_t first = std::max(w.first_row, begin);
      const std::int64_t last = std::min(w.first_row + w.rows, end);
      if (first >= last) continue;
      (*take)(w.sequence, w.first_token + (first - w.first_row),
              View<const float, 2>(host + (first - begin) * config_.vocab_size,
                                   {last - first, config_.vocab_size}));
    }
  }
  if (take != nullptr) return;
  if (exec_.backend == Backend::cuda) {
    sampled_.mark(exec_);
    sampled_.wait();
  }
  for (const LogitsPiece& w : wanted) {
    check_sampled(sampled[w.first_row]);
    std::get<GreedySink>(sink)(w.sequence, sampled[w.first_row]);
  }
}

}  // namespace chunkstate
