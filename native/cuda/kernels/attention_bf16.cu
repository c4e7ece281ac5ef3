// attention of bfloat16 rows on tensor cores (sm_80 and later), scores and softmax in float32.
//
// A block owns 64 queries of one sequence and head, a warp 16 of them; keys and values pass in tiles of 64, the next
// one loading while one is worked on. Softmax is online, keys in ascending order. The head's column of the bias table
// lies in shared memory and is read per score: its row is two operations away (attention.h), and the lanes of a warp
// meet neighbouring entries. Head widths that are no multiple of 16 are filled up with zeros in shared memory. Blocks
// of 16 keys behind the last, and warps behind the last query, do nothing. Per tile and warp: 2 * 16 * 64 * head width
// multiply-adds twice on tensor cores, 1,024 exponentials, 1,024 bias reads.
#include "cuda/kernels/attention.h"

namespace mome::cuda {
namespace {

inline constexpr int kWarps = 4, kTile = 64;  // kTile queries and kTile keys
inline constexpr float kLog2E = 1.44269504088896340736f, kLn2 = 0.69314718055994530942f;

enum class Access { run, pair, single };  // how a head's columns can be read: 16 bytes, 4 bytes, one element

// Padded rows begin on another bank: ldmatrix reads eight rows at once.
template <int kHeadWidth>
inline constexpr int kPitch = kHeadWidth + 8;

// Tokens [first, first + kTile) of one section (q, k or v) of the head into shared memory, zeros outside.
template <int kHeadWidth, Access kAccess>
MOME_DEVICE void load_tile(bf16* to, const bf16* section, int64_t stride, int head_width, const Sequence& s,
                           int64_t first, int64_t count) {
  constexpr int kElements = kAccess == Access::run ? 8 : kAccess == Access::pair ? 2 : 1;
  constexpr int kPieces = kHeadWidth / kElements;
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kPieces; i += kWarps * kWarp) {
    const int local = i / kPieces, column = i % kPieces * kElements;
    const int64_t token = first + local;
    const bool wanted = token < count && column < head_width;
    const bf16* from = wanted ? section + token_row(s, token) * stride + column : section;
    bf16* at = to + local * kPitch<kHeadWidth> + column;
    if constexpr (kAccess == Access::run)
      copy_async16(at, from, wanted ? 16 : 0);
    else if constexpr (kAccess == Access::pair)
      copy_async4(at, from, wanted ? 4 : 0);
    else
      *at = wanted ? *from : bf16{0};
  }
}

template <int kHeadWidth>
constexpr size_t tiles_bytes() {
  // Queries, twice keys and values, twice the terms of the keys.
  return size_t{5} * kTile * kPitch<kHeadWidth> * sizeof(bf16) + 2 * kQueryKinds * kTile * sizeof(BiasTerm);
}

template <int kHeadWidth, Access kAccess>
MOME_KERNEL(kWarps * 32)
attention_forward_bf16_sm80(MOME_PARAMETER AttentionShape a, const bf16* qkv, bf16* out) {
  constexpr int kSteps = kHeadWidth / 16, kBlocks = kHeadWidth / 8, kTileElements = kTile * kPitch<kHeadWidth>;
  const Sequence s = a.sequences[blockIdx.z];
  const int64_t count = token_count(s), first = int64_t{blockIdx.x} * kTile, head = blockIdx.y;
  if (first >= count) return;
  const int head_width = static_cast<int>(a.width / a.heads);
  const int64_t stride = 3 * a.width;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;

  bf16* queries = shared_memory<bf16>();
  bf16* stages = queries + kTileElements;                                     // [2][keys, values]
  BiasTerm* terms = reinterpret_cast<BiasTerm*>(stages + 4 * kTileElements);  // [2][kQueryKinds][kTile]
  float* bias = reinterpret_cast<float*>(terms + 2 * kQueryKinds * kTile);
  const bf16* section = qkv + head * head_width;

  const auto load = [&](int64_t tile) {
    if (tile < count) {
      const int stage = static_cast<int>(tile / kTile % 2);
      load_tile<kHeadWidth, kAccess>(stages + 2 * stage * kTileElements, section + a.width, stride, head_width, s, tile,
                                     count);
      load_tile<kHeadWidth, kAccess>(stages + (2 * stage + 1) * kTileElements, section + 2 * a.width, stride,
                                     head_width, s, tile, count);
      for (int i = static_cast<int>(threadIdx.x); i < kQueryKinds * kTile && a.table != nullptr; i += kWarps * kWarp) {
        const int64_t token = tile + i % kTile;
        terms[stage * kQueryKinds * kTile + i] =
            token < count ? bias_term(a.position, s, i / kTile, token) : BiasTerm{0, 0};
      }
    }
    copy_commit();
  };
  load_bias(a, head, bias);
  load_tile<kHeadWidth, kAccess>(queries, section, stride, head_width, s, first, count);
  load(0);

  // This lane's two rows: lane / 4 and 8 further.
  const int64_t query[2] = {first + warp * 16 + lane / 4, first + warp * 16 + lane / 4 + 8};
  int base[2] = {}, kind[2] = {};
  if (a.table != nullptr) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      base[r] = query[r] < count ? query_base(a.position, s, query[r]) : 0;
      kind[r] = query[r] < count ? query_kind(s, query[r]) * kTile : 0;
    }
  }
  const bool active = first + warp * 16 < count;
  const float scale = a.scale * kLog2E;
  uint32_t q[kSteps][4];
  float sum[kBlocks][4] = {};
  float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};

  for (int64_t tile = 0; tile < count; tile += kTile) {
    load(tile + kTile);
    copy_wait<1>();
    block_barrier();
    const int stage = static_cast<int>(tile / kTile % 2);
    const bf16* keys = stages + 2 * stage * kTileElements;
    const bf16* values = keys + kTileElements;
    const int left = count - tile < kTile ? static_cast<int>(count - tile) : kTile;  // keys of the tile
    if (!active) {
      block_barrier();
      continue;
    }
    if (tile == 0) {
#pragma unroll
      for (int step = 0; step < kSteps; step++) {
        load_matrices<false>(queries + (warp * 16 + lane % 16) * kPitch<kHeadWidth> + step * 16 + lane / 16 * 8,
                             q[step]);
      }
    }

    float score[kTile / 8][4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; step++) {
#pragma unroll
      for (int j = 0; j < kTile / 16; j++) {
        if (16 * j >= left) break;
        uint32_t k[4];
        load_matrices<false>(
            keys + (16 * j + lane % 8 + lane / 16 * 8) * kPitch<kHeadWidth> + step * 16 + lane / 8 % 2 * 8, k);
        mma(score[2 * j], q[step], k[0], k[1]);
        mma(score[2 * j + 1], q[step], k[2], k[3]);
      }
    }

    // Bias, mask and the new maximum, in units of log2.
    float highest[2] = {most[0], most[1]};
#pragma unroll
    for (int j = 0; j < kTile / 8; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int local = 8 * j + 2 * (lane % 4) + i % 2;
        float value = score[j][i] * scale;
        if (a.table != nullptr)
          value = fmaf(bias[bias_row(base[i / 2], terms[stage * kQueryKinds * kTile + kind[i / 2] + local])], kLog2E,
                       value);
        if (local >= left) value = -INFINITY;
        score[j][i] = value;
        highest[i / 2] = fmaxf(highest[i / 2], value);
      }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      highest[r] = fmaxf(highest[r], shuffle_xor(highest[r], 1));
      highest[r] = fmaxf(highest[r], shuffle_xor(highest[r], 2));
      const float shrink = exp2f(most[r] - highest[r]);
      most[r] = highest[r];
      total[r] *= shrink;
#pragma unroll
      for (int block = 0; block < kBlocks; block++) {
        sum[block][2 * r] *= shrink;
        sum[block][2 * r + 1] *= shrink;
      }
    }
#pragma unroll
    for (int j = 0; j < kTile / 8; j++) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        score[j][i] = exp2f(score[j][i] - most[i / 2]);
        total[i / 2] += score[j][i];
      }
    }

#pragma unroll
    for (int step = 0; step < kTile / 16; step++) {
      if (16 * step >= left) break;
      const uint32_t p[4] = {pack_bf16(score[2 * step][0], score[2 * step][1]),
                             pack_bf16(score[2 * step][2], score[2 * step][3]),
                             pack_bf16(score[2 * step + 1][0], score[2 * step + 1][1]),
                             pack_bf16(score[2 * step + 1][2], score[2 * step + 1][3])};
#pragma unroll
      for (int block = 0; block < kBlocks; block += 2) {
        uint32_t v[4];
        load_matrices<true>(values + (16 * step + lane % 16) * kPitch<kHeadWidth> + 8 * block + lane / 16 * 8, v);
        mma(sum[block], p, v[0], v[1]);
        mma(sum[block + 1], p, v[2], v[3]);
      }
    }
    block_barrier();  // the tile after the next goes where this one lies
  }

#pragma unroll
  for (int r = 0; r < 2; r++) {
    total[r] += shuffle_xor(total[r], 1);
    total[r] += shuffle_xor(total[r], 2);
    if (query[r] >= count) continue;
    const int64_t row = token_row(s, query[r]);
    const float inverse = 1.0f / total[r];
    bf16* to = out + row * a.width + head * head_width;
#pragma unroll
    for (int block = 0; block < kBlocks; block++) {
      const int column = 8 * block + 2 * (lane % 4);
      const float low = sum[block][2 * r] * inverse, high = sum[block][2 * r + 1] * inverse;
      if constexpr (kAccess != Access::single) {
        if (column < head_width) *reinterpret_cast<uint32_t*>(to + column) = pack_bf16(low, high);
      } else {
        if (column < head_width) to[column] = from_float<bf16>(low);
        if (column + 1 < head_width) to[column + 1] = from_float<bf16>(high);
      }
    }
    if (a.lse != nullptr && lane % 4 == 0) a.lse[row * a.heads + head] = most[r] * kLn2 + logf(total[r]);
  }
}

template <int kHeadWidth>
Status launch_width(const AttentionForward& a, const AttentionShape& shape, size_t shared, const Queue& queue) {
  static_assert(tiles_bytes<kHeadWidth>() == tensor_attention_bytes(kHeadWidth));
  const bf16* qkv = as<bf16>(a.qkv);
  bf16* out = as<bf16>(a.out);
  const Dim3 grid = {static_cast<unsigned>((a.longest + kTile - 1) / kTile), static_cast<unsigned>(a.heads),
                     static_cast<unsigned>(a.sequence_count)};
  const int64_t head_width = a.width / a.heads;
  const auto run = [&](auto kernel) {
    return launch(kernel, grid, kWarps * kWarp, shared, queue.stream, shape, qkv, out);
  };
  if (head_width % 8 == 0 && is_aligned({qkv, out})) return run(attention_forward_bf16_sm80<kHeadWidth, Access::run>);
  if (head_width % 2 == 0) return run(attention_forward_bf16_sm80<kHeadWidth, Access::pair>);
  return run(attention_forward_bf16_sm80<kHeadWidth, Access::single>);
}

}  // namespace

Status attention_bf16(const AttentionForward& a, const AttentionShape& shape, const AttentionChoice& choice,
                      const Queue& queue) {
  switch (choice.tensor_width) {
    case 16: return launch_width<16>(a, shape, choice.shared_bytes, queue);
    case 32: return launch_width<32>(a, shape, choice.shared_bytes, queue);
    case 48: return launch_width<48>(a, shape, choice.shared_bytes, queue);
    case 64: return launch_width<64>(a, shape, choice.shared_bytes, queue);
    case 128: return launch_width<128>(a, shape, choice.shared_bytes, queue);
  }
  return error(Code::internal, "attention: no kernel of width %lld", static_cast<long long>(choice.tensor_width));
}

}  // namespace mome::cuda
