// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/base/elements.cuh"
#include "kernels/base/launch.cuh"
#include "kernels/peer_sum/peer_sum.hpp"

// A value crosses to a peer once, beside the number of the call it belongs to, in one 8-byte word
// that is written and read whole: the peer looks at the word itself, and neither a flag behind the
// data nor a fence is needed. Against writing the values bare, twice the bytes; for the few KB of a
// decode step the way takes longer than the bytes.
//
// Calls of even and odd number use different lines. A peer writes into the lines of call n only
// after its call n - 1 has ended, which has values of all peers' calls n - 1: those began after
// their calls n - 2, the last readers of these lines.
//
// Thread blocks wait for those of the same elements elsewhere. All of a call's are on the device at
// once: at most one for each multiprocessor, the kernel before ends by itself, and the kernel
// behind can start only after all of them have.
namespace chunkstate::cuda {
namespace {

// Many on few multiprocessors: on the others linear_step, which has room for nothing beside it, can
// start and ask for its weights while values are on their way.
constexpr int sum_threads = 512;
constexpr int sum_warps = sum_threads / warp_size;
constexpr int gather_threads = 512;
// A look at host memory takes microseconds and a poll half of one.
constexpr unsigned polls_per_look = 1U << 12;

/// This call of all peers.
struct Call {
  std::uint32_t number;
  std::int64_t slot_bytes;

  __device__ Call(const PeerBlocks& peers, std::int64_t slot_bytes_) : slot_bytes(slot_bytes_) {
    const auto last = *reinterpret_cast<const volatile std::uint32_t*>(peers.block[peers.own]);
    // Blocks start as zeros, which must not look like a call's. Even follows odd.
    number = last + 1 != 0 ? last + 1 : 2;
  }
  /// The lines from peer `from` in the block of peer `of`.
  __device__ std::byte* lines(const PeerBlocks& peers, int of, int from) const {
    return peers.block[of] + peer::header_bytes + ((number & 1) * peers.peers + from) * slot_bytes;
  }
  /// All threads of the block, when they have read what they wait for.
  __device__ void end(const PeerBlocks& peers) const {
    __syncthreads();
    if (threadIdx.x != 0) return;
    auto* const header = reinterpret_cast<std::uint32_t*>(peers.block[peers.own]);
    // No fence, which would wait for the peers to acknowledge: all threads have the number they
    // read, and the next call begins behind this kernel's end.
    if (atomicAdd(header + 1, 1U) + 1 != gridDim.x) return;
    atomicExch(header + 1, 0U);
    atomicExch(header, number);
  }
};

__device__ __forceinline__ void send(std::byte* line, std::uint32_t call, float low, float high) {
  const std::uint64_t tag = static_cast<std::uint64_t>(call) << 32;
  asm volatile("st.relaxed.sys.global.v2.b64 [%0], {%1, %2};" ::"l"(line),
               "l"(tag | __float_as_uint(low)), "l"(tag | __float_as_uint(high))
               : "memory");
}

__device__ __forceinline__ ulonglong2 look(const std::byte* line) {
  ulonglong2 words;
  asm volatile("ld.relaxed.sys.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(words.x), "=l"(words.y)
               : "l"(line)
               : "memory");
  return words;
}

__device__ __forceinline__ bool belongs(const ulonglong2& words, std::uint32_t call) {
  return words.x >> 32 == call && words.y >> 32 == call;
}

__device__ __forceinline__ float2 values_of(const ulonglong2& words) {
  return {__uint_as_float(static_cast<std::uint32_t>(words.x)),
          __uint_as_float(static_cast<std::uint32_t>(words.y))};
}

__device__ __forceinline__ bool has_ended(const PeerBlocks& peers, unsigned polls) {
  return polls % polls_per_look == 0 && peers.ended != nullptr &&
         *reinterpret_cast<const volatile std::uint32_t*>(peers.ended) != 0;
}

/// Line `line` of every peer, the own one's as given: all are asked for at once.
template <int most>
__device__ void receive(const PeerBlocks& peers, const Call& call, int line, float2 own,
                        float2 (&value)[most]) {
  const std::byte* const first =
      call.lines(peers, peers.own, 0) + std::int64_t{line} * peer::line_bytes;
  const auto awaited = [&](int p) { return p < peers.peers && p != peers.own; };
  for (unsigned polls = 1;; ++polls) {
    ulonglong2 words[most];
#pragma unroll
    for (int p = 0; p < most; ++p) {
      words[p] = look(first + (awaited(p) ? p : peers.own) * call.slot_bytes);
    }
    bool all = true;
#pragma unroll
    for (int p = 0; p < most; ++p) {
      all = all && (!awaited(p) || belongs(words[p], call.number));
      value[p] = p == peers.own ? own : values_of(words[p]);
    }
    if (all || has_ended(peers, polls)) return;
  }
}

/// The sum of a row's squares on this peer, and their mean plus epsilon, on every lane.
__device__ float2 own_mean(const PeerSumArgs& args, int row, int lane) {
  float sum = 0.0F;
  for (std::int64_t i = lane; i < args.norm_squares.extent[1]; i += warp_size) {
    sum += args.norm_squares(row, i);
  }
  sum = warp_sum(sum);
  return {sum, sum / static_cast<float>(args.channels) + args.epsilon};
}

// A warp per unit of 64 columns of a row.
template <int most>
__global__ void __launch_bounds__(sum_threads)
    peer_sum_kernel(const __grid_constant__ PeerSumArgs args, std::int64_t slot_bytes) {
  overlap_kernels();
  const PeerBlocks& peers = args.peers;
  const Call call(peers, slot_bytes);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const auto columns = static_cast<int>(args.part.extent[1]);
  const int units_per_row = (columns - 1) / peer::unit_columns + 1;
  const int units = static_cast<int>(args.part.extent[0]) * units_per_row;
  const bool normed = args.norm_squares.data != nullptr;
  const int first =
      static_cast<int>(blockIdx.x) * sum_warps + static_cast<int>(threadIdx.x) / warp_size;
  for (int unit = first; unit < units; unit += static_cast<int>(gridDim.x) * sum_warps) {
    const int row = unit / units_per_row;
    const int column = unit % units_per_row * peer::unit_columns + 2 * lane;
    const int line = unit * peer::unit_lines + lane;
    const int mean_line = unit * peer::unit_lines + peer::unit_lines - 1;
    const bool has_low = column < columns;
    const bool has_high = column + 1 < columns;
    const float2 own = {has_low ? args.part(row, column) : 0.0F,
                        has_high ? args.part(row, column + 1) : 0.0F};
    float2 mean = {};
    if (normed) mean = own_mean(args, row, lane);
#pragma unroll
    for (int p = 0; p < most; ++p) {
      if (p >= peers.peers || p == peers.own) continue;
      std::byte* const lines = call.lines(peers, p, peers.own);
      if (has_low) send(lines + line * peer::line_bytes, call.number, own.x, own.y);
      if (normed && lane == 0) {
        send(lines + mean_line * peer::line_bytes, call.number, mean.x, mean.y);
      }
    }

    float2 sum = {};
    if (args.accumulate && has_low) sum.x = load_element(args.y.at(row, column), args.y.dtype);
    if (args.accumulate && has_high) sum.y = load_element(args.y.at(row, column + 1), args.y.dtype);
    float factor[most];
#pragma unroll
    for (int p = 0; p < most; ++p) factor[p] = 1.0F;
    if (normed) {
      float2 means[most];
      receive<most>(peers, call, mean_line, mean, means);
      float squares = 0.0F;
#pragma unroll
      for (int p = 0; p < most; ++p) squares += p < peers.peers ? means[p].x : 0.0F;
      const float all = squares / static_cast<float>(args.all_channels) + args.epsilon;
#pragma unroll
      for (int p = 0; p < most; ++p) factor[p] = sqrtf(means[p].y / all);
    }
    float square = 0.0F;
    if (has_low) {
      float2 parts[most];
      receive<most>(peers, call, line, own, parts);
      float2 all = {};
#pragma unroll
      for (int p = 0; p < most; ++p) {
        if (p >= peers.peers) continue;
        all.x += factor[p] * parts[p].x;
        all.y += factor[p] * parts[p].y;
      }
      sum.x = rounded(args.y.dtype, sum.x + all.x);
      sum.y = rounded(args.y.dtype, sum.y + all.y);
      store_element(args.y.at(row, column), args.y.dtype, sum.x);
      square = sum.x * sum.x;
      if (has_high) {
        store_element(args.y.at(row, column + 1), args.y.dtype, sum.y);
        square += sum.y * sum.y;
      }
    }
    if (args.squares.data != nullptr) {
      square = warp_sum(square);
      if (lane == 0) args.squares(row, unit % units_per_row) = square;
    }
  }
  call.end(peers);
}

__global__ void __launch_bounds__(gather_threads)
    peer_gather_kernel(const __grid_constant__ PeerGatherArgs args, std::int64_t slot_bytes) {
  overlap_kernels();
  const PeerBlocks& peers = args.peers;
  const Call call(peers, slot_bytes);
  const auto rows = static_cast<int>(args.y.extent[0]);
  const int thread = static_cast<int>(blockIdx.x * gather_threads + threadIdx.x);
  const int stride = static_cast<int>(gridDim.x) * gather_threads;
  const auto lines_per_row = [&](int p) {
    return static_cast<int>((args.first[p + 1] - args.first[p] + 1) / 2);
  };

  const int own_lines = lines_per_row(peers.own);
  for (int line = thread; line < rows * own_lines; line += stride) {
    const int row = line / own_lines;
    const std::int64_t column = args.first[peers.own] + line % own_lines * 2;
    const float low = args.y(row, column);
    const float high = column + 1 < args.first[peers.own + 1] ? args.y(row, column + 1) : 0.0F;
    for (int p = 0; p < peers.peers; ++p) {
      if (p == peers.own) continue;
      send(call.lines(peers, p, peers.own) + line * peer::line_bytes, call.number, low, high);
    }
  }
  for (int p = 0; p < peers.peers; ++p) {
    if (p == peers.own) continue;
    const std::byte* const lines = call.lines(peers, peers.own, p);
    const int per_row = lines_per_row(p);
    for (int line = thread; line < rows * per_row; line += stride) {
      ulonglong2 words = look(lines + line * peer::line_bytes);
      for (unsigned polls = 1; !belongs(words, call.number) && !has_ended(peers, polls); ++polls) {
        words = look(lines + line * peer::line_bytes);
      }
      const float2 value = values_of(words);
      const int row = line / per_row;
      const std::int64_t column = args.first[p] + line % per_row * 2;
      args.y(row, column) = value.x;
      if (column + 1 < args.first[p + 1]) args.y(row, column + 1) = value.y;
    }
  }
  call.end(peers);
}

std::int64_t slot_bytes(const PeerBlocks& peers) {
  return peer::lines_of(peers) * peer::line_bytes;
}

unsigned resident_blocks(std::int64_t wanted) {
  return static_cast<unsigned>(std::min<std::int64_t>(wanted, device_limits().multiprocessors));
}

}  // namespace

void peer_sum(const PeerSumArgs& args, CUstream_st* stream) {
  const std::int64_t units =
      args.part.extent[0] * ceil_div(args.part.extent[1], peer::unit_columns);
  const unsigned blocks = resident_blocks(ceil_div(units, sum_warps));
  const auto kernel = args.peers.peers <= 2   ? peer_sum_kernel<2>
                      : args.peers.peers <= 4 ? peer_sum_kernel<4>
                                              : peer_sum_kernel<8>;
  launch_overlapping("peer_sum launch", kernel, blocks, sum_threads, stream, args,
                     slot_bytes(args.peers));
}

void peer_gather(const PeerGatherArgs& args, CUstream_st* stream) {
  std::int64_t lines = 0;
  for (int p = 0; p < args.peers.peers; ++p) {
    lines = std::max(lines, args.y.extent[0] * ceil_div(args.first[p + 1] - args.first[p], 2));
  }
  launch_overlapping("peer_gather launch", peer_gather_kernel,
                     resident_blocks(ceil_div(lines, gather_threads)), gather_threads, stream, args,
                     slot_bytes(args.peers));
}

}  // namespace chunkstate::cuda
