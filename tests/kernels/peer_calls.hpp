// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/peer_sum/peer_sum.hpp"
#include "tests/kernels/device_array.hpp"

namespace chunkstate::test {

/// A list of calls of peer_sum and peer_gather with random shapes and types, the same for one seed
/// on every peer. Their values are small integers, so that sums are exact in every type, and differ
/// from call to call, so that a value of another call shows.
class PeerCalls {
 public:
  PeerCalls(unsigned seed, int count, int peers, int own) : peers_(peers), own_(own) {
    std::mt19937 random(seed);
    for (int i = 0; i < count; ++i) calls_.push_back(make_call(random, i));
  }

  /// All of them once.
  void launch(const Executor& exec, const PeerBlocks& blocks) const {
    for (const Call& call : calls_) {
      if (call.gathers) {
        PeerGatherArgs args;
        args.peers = blocks;
        args.y = call.y->device().as<float>();
        args.first = call.first;
        peer_gather(exec, args);
      } else {
        PeerSumArgs args;
        args.peers = blocks;
        args.part = call.part->device().as<float>();
        args.y = call.y->device();
        args.accumulate = call.accumulates;
        if (call.squares) args.squares = call.squares->device().as<float>();
        peer_sum(exec, args);
      }
    }
  }

  /// After `times` launches: empty, or the first call with a wrong result.
  std::string wrong(int times) const {
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      const std::string what = wrong(calls_[i], static_cast<int>(i), times);
      if (!what.empty())
        return "call " + std::to_string(i) + " of peer " + std::to_string(own_) + ": " + what;
    }
    return {};
  }

 private:
  struct Call {
    bool gathers = false, accumulates = false;
    std::int64_t rows = 0, columns = 0;
    std::array<std::int64_t, PeerBlocks::most + 1> first{};
    std::unique_ptr<DeviceArray<2>> part, y, squares;
  };

  static float value(int call, int peer, std::int64_t index) {
    const auto mixed = static_cast<std::uint32_t>(index * 2654435761LL + call * 40503 + peer * 97);
    return static_cast<float>((mixed ^ (mixed >> 15)) % 17) - 8.0F;
  }
  float sum(int call, std::int64_t index) const {
    float total = 0.0F;
    for (int p = 0; p < peers_; ++p) total += value(call, p, index);
    return total;
  }
  int owner(const Call& call, std::int64_t column) const {
    int p = 0;
    while (column >= call.first[static_cast<std::size_t>(p) + 1]) ++p;
    return p;
  }

  Call make_call(std::mt19937& random, int index) const {
    constexpr std::int64_t widths[] = {8, 63, 64, 65, 130, 255, 1000, 4096, 8191};
    Call call;
    call.gathers = random() % 4 == 0;
    call.rows = 1 + static_cast<std::int64_t>(random() % 8);
    call.columns = widths[random() % std::size(widths)];
    const DType dtype = std::array{DType::fp32, DType::bf16, DType::fp16}[random() % 3];
    call.accumulates = dtype == DType::fp32 && random() % 2 == 0;
    const bool has_squares = random() % 2 == 0;
    const auto make = [&](std::int64_t columns, DType type) {
      return std::make_unique<DeviceArray<2>>(std::array{call.rows, columns}, type, 4);
    };
    call.y = make(call.columns, call.gathers ? DType::fp32 : dtype);
    std::int64_t at = 0;
    if (call.gathers) {
      for (int p = 1; p < peers_; ++p) {  // at least one column each
        const std::int64_t room =
            call.columns - call.first[static_cast<std::size_t>(p) - 1] - (peers_ - p);
        call.first[static_cast<std::size_t>(p)] = call.first[static_cast<std::size_t>(p) - 1] + 1 +
                                                  static_cast<std::int64_t>(random()) % room;
      }
      call.first[static_cast<std::size_t>(peers_)] = call.columns;
      call.y->fill([&] {
        const std::int64_t i = at++;
        const int p = owner(call, i % call.columns);
        return p == own_ ? value(index, p, i) : -100.0F;
      });
      return call;
    }
    call.part = make(call.columns, DType::fp32);
    call.part->fill([&] { return value(index, own_, at++); });
    if (call.accumulates) call.y->fill([] { return 0.0F; });
    if (has_squares) call.squares = make(peer_sum_parts(call.columns), DType::fp32);
    return call;
  }

  std::string wrong(const Call& call, int index, int times) const {
    const auto bytes = call.y->download();
    ConstAnyView<2> y = call.y->device();
    y.data = bytes.data();
    std::vector<double> squares(static_cast<std::size_t>(call.rows * peer_sum_parts(call.columns)));
    for (std::int64_t row = 0; row < call.rows; ++row) {
      for (std::int64_t column = 0; column < call.columns; ++column) {
        const std::int64_t i = row * call.columns + column;
        const float expected =
            call.gathers ? value(index, owner(call, column), i)
                         : sum(index, i) * static_cast<float>(call.accumulates ? times : 1);
        const float found = y.load(row, column);
        if (!(found == expected)) {
          return std::string(call.gathers ? "gathered " : "summed ") + std::to_string(call.rows) +
                 " x " + std::to_string(call.columns) + ", at " + std::to_string(row) + ", " +
                 std::to_string(column) + " found " + std::to_string(found) + ", expected " +
                 std::to_string(expected);
        }
        squares[static_cast<std::size_t>(row * peer_sum_parts(call.columns) + column / 64)] +=
            double{expected} * double{expected};
      }
    }
    if (!call.squares) return {};
    const auto square_bytes = call.squares->download();
    ConstAnyView<2> found = call.squares->device();
    found.data = square_bytes.data();
    for (std::int64_t row = 0; row < call.rows; ++row) {
      for (std::int64_t part = 0; part < found.extent[1]; ++part) {
        const double expected = squares[static_cast<std::size_t>(row * found.extent[1] + part)];
        if (!(std::abs(double{found.load(row, part)} - expected) <= 1e-5 * expected))
          return "squares";
      }
    }
    return {};
  }

  int peers_, own_;
  std::vector<Call> calls_;
};

/// A sum of parts that were normed by means of their own. Every peer makes all peers' values.
class PeerNormCall {
 public:
  PeerNormCall(unsigned seed, int peers, int own)
      : peers_(peers),
        own_(own),
        part_({rows, columns}, DType::fp32),
        y_({rows, columns}, DType::fp32),
        squares_({rows, heads}, DType::fp32) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const auto many = [&](std::int64_t count, auto draw) {
      std::vector<float> values(static_cast<std::size_t>(count));
      for (float& value : values) value = draw();
      return values;
    };
    old_ = many(rows * columns, [&] { return normal(random); });
    for (int p = 0; p < peers; ++p) {
      parts_.push_back(many(rows * columns, [&] { return normal(random); }));
      const float scale = std::exp(2.0F * normal(random));
      head_squares_.push_back(many(rows * heads, [&] { return scale * std::abs(normal(random)); }));
      channels_.push_back(64 * heads - 8 * p);  // peers need not have equal shares
      all_channels_ += channels_.back();
    }
    const auto fill = [](DeviceArray<2>& array, const std::vector<float>& values) {
      std::size_t i = 0;
      array.fill([&] { return values[i++]; });
    };
    fill(part_, parts_[static_cast<std::size_t>(own)]);
    fill(y_, old_);
    fill(squares_, head_squares_[static_cast<std::size_t>(own)]);
  }

  void launch(const Executor& exec, const PeerBlocks& blocks) const {
    PeerSumArgs args;
    args.peers = blocks;
    args.part = part_.device().as<float>();
    args.y = y_.device();
    args.accumulate = true;
    args.norm_squares = squares_.device().as<float>();
    args.channels = channels_[static_cast<std::size_t>(own_)];
    args.all_channels = all_channels_;
    args.epsilon = epsilon;
    peer_sum(exec, args);
  }

  std::vector<std::byte> result() const { return y_.download(); }

  /// Of the largest value, against fp64.
  double error() const {
    const auto bytes = result();
    const auto* found = reinterpret_cast<const float*>(bytes.data());
    double worst = 0, largest = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      double all = 0;
      std::vector<double> own(static_cast<std::size_t>(peers_));
      for (std::size_t p = 0; p < own.size(); ++p) {
        for (std::int64_t h = 0; h < heads; ++h)
          own[p] += double{head_squares_[p][static_cast<std::size_t>(row * heads + h)]};
        all += own[p];
      }
      for (std::int64_t column = 0; column < columns; ++column) {
        const auto i = static_cast<std::size_t>(row * columns + column);
        double expected = double{old_[i]};
        for (std::size_t p = 0; p < own.size(); ++p) {
          expected += double{parts_[p][i]} *
                      std::sqrt((own[p] / static_cast<double>(channels_[p]) + double{epsilon}) /
                                (all / static_cast<double>(all_channels_) + double{epsilon}));
        }
        const double difference = std::abs(double{found[i]} - expected);
        if (!(difference <= worst)) worst = difference;
        largest = std::max(largest, std::abs(expected));
      }
    }
    return worst / largest;
  }

 private:
  static constexpr std::int64_t rows = 5, columns = 333, heads = 70;
  static constexpr float epsilon = 1e-5F;
  int peers_, own_;
  std::int64_t all_channels_ = 0;
  std::vector<std::int64_t> channels_;
  std::vector<float> old_;
  std::vector<std::vector<float>> parts_, head_squares_;
  DeviceArray<2> part_, y_, squares_;
};

}  // namespace chunkstate::test
