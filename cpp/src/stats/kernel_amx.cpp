/// float32 products on the bfloat16 tile unit: y = hi + lo, both rounded to nearest, and
///   y y' = hi hi' + hi lo' + lo hi' + lo lo',
/// of which the last is left out but for the diagonal, where it is a sum of squares and would bias (pack returns it).
/// Bound: three products, or one where lo is zero, at 512 multiply-adds a cycle. Tile loads keep up with that from the
/// second cache (measured: 90 % of the bare unit), but not from the third (22 %),
/// so what is read next is fetched ahead.

#include <immintrin.h>

#include "stats/kernel_lanes.hpp"

namespace netassay::stats {
namespace {

using Avx512 = Lanes<float, 16, 8>;

// A tile is 16 rows of 64 bytes. A step is 32 rows of the data; a panel's step is 4 tiles: hi of columns 0-15, hi of
// 16-31, lo of both. A chunk is its steps as the left side reads them, [column][row], then as the right side does,
// [pair of rows][column].
constexpr index_t kStep = 32;
constexpr index_t kTileBytes = 1024;
constexpr index_t kStepBytes = 4 * kTileBytes;
constexpr index_t kSideBytes = kChunk / kStep * kStepBytes;

inline __m512i round_to_bf16(__m512 y) {
  const __m512i bits = _mm512_castps_si512(y);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_and_si512(rounded, _mm512_set1_epi32(static_cast<int>(0xffff0000u)));
}

// Rows 2k and 2k + 1, each in the upper half of its lanes, as pairs.
inline __m512i pair(__m512i even, __m512i odd) { return _mm512_or_si512(_mm512_srli_epi32(even, 16), odd); }

inline void transpose(__m512i* r) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

struct Sums {
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  __m512 square = _mm512_setzero_ps(), rest = _mm512_setzero_ps();
  __m512i any = _mm512_setzero_si512();

  // Takes a row of y and its second part.
  void take(__m512 y, __m512i lo) {
    const __m512 remainder = _mm512_castsi512_ps(lo);
    low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(y)));
    high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(y, 1)));
    square = _mm512_fmadd_ps(y, y, square);
    rest = _mm512_fmadd_ps(remainder, remainder, rest);
    any = _mm512_or_si512(any, lo);
  }
};

inline void store(const __m512i* rows, char* out) {
  for (int k = 0; k < 16; ++k) _mm512_storeu_si512(out + 64 * k, rows[k]);
}

inline void store_wide(__m512 values, double* out) {
  _mm512_storeu_pd(out, _mm512_cvtps_pd(_mm512_castps512_ps256(values)));
  _mm512_storeu_pd(out + 8, _mm512_cvtps_pd(_mm512_extractf32x8_ps(values, 1)));
}

// kWhole: writes first parts alone. Returns whether there are second parts.
template <bool kWhole>
bool pack_parts(const float* x, index_t n, index_t step, const float* pivot, double* sum, double* square, double* rest,
                char* left, char* right) {
  bool any = false;
  for (index_t half = 0; half < 2; ++half) {
    const __m512 centre = _mm512_loadu_ps(pivot + 16 * half);
    const float* const first = x + 16 * half;
    Sums sums;
    for (index_t s = 0; s < kChunk / kStep; ++s) {
      __m512i hi[16], lo[16];
      for (index_t k = 0; k < 16; ++k) {
        __m512i his[2], los[2];
        for (index_t odd = 0; odd < 2; ++odd) {
          const index_t r = s * kStep + 2 * k + odd;
          const __m512 y = r < n ? _mm512_sub_ps(_mm512_loadu_ps(first + r * step), centre) : _mm512_setzero_ps();
          his[odd] = round_to_bf16(y);
          los[odd] = round_to_bf16(_mm512_sub_ps(y, _mm512_castsi512_ps(his[odd])));
          sums.take(y, los[odd]);
        }
        hi[k] = pair(his[0], his[1]);
        lo[k] = pair(los[0], los[1]);
      }
      char* const to_left = left + s * kStepBytes + half * kTileBytes;
      char* const to_right = right + s * kStepBytes + half * kTileBytes;
      store(hi, to_right);
      transpose(hi);
      store(hi, to_left);
      if constexpr (!kWhole) {
        store(lo, to_right + 2 * kTileBytes);
        transpose(lo);
        store(lo, to_left + 2 * kTileBytes);
      }
    }
    _mm512_storeu_pd(sum + 16 * half, sums.low);
    _mm512_storeu_pd(sum + 16 * half + 8, sums.high);
    store_wide(sums.square, square + 16 * half);
    store_wide(sums.rest, rest + 16 * half);
    // A negative zero is a zero.
    any |= _mm512_test_epi32_mask(sums.any, _mm512_set1_epi32(0x7fffffff)) != 0;
  }
  return any;
}

bool pack(const float* x, index_t n, index_t step, const float* pivot, double* sum, double* square, double* rest,
          void* chunk) {
  char* const left = static_cast<char*>(chunk);
  char* const right = left + kSideBytes;
  // Pivots that are bfloat16 were chosen for values that one part is likely to hold.
  bool likely = true;
  for (index_t j = 0; j < kPanel; ++j) likely &= (__builtin_bit_cast(unsigned, pivot[j]) & 0xffffu) == 0;
  if (likely && !pack_parts<true>(x, n, step, pivot, sum, square, rest, left, right)) return false;
  return pack_parts<false>(x, n, step, pivot, sum, square, rest, left, right);
}

// Eight tiles of 16 rows of 64 bytes.
struct alignas(64) TileConfig {
  unsigned char palette = 1, start = 0, reserved[14] = {};
  unsigned short bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Sums in tiles 0-3; left columns 0-15 and 16-31 in 4 and 5, right ones in 6 and 7.
inline void products() {
  _tile_dpbf16ps(0, 4, 6);
  _tile_dpbf16ps(1, 4, 7);
  _tile_dpbf16ps(2, 5, 6);
  _tile_dpbf16ps(3, 5, 7);
}

// Asks for what the second cache is to hold.
inline void fetch(const char* p, index_t bytes) {
  for (index_t k = 0; k < bytes; k += 64) _mm_prefetch(p + k, _MM_HINT_T1);
}

inline void ahead(const char* left, const char* right, index_t from, index_t bytes) {
  if (from >= kSideBytes) return;
  fetch(left + from, bytes);
  fetch(right + from, bytes);
}

void multiply(const void* a, const void* b, index_t count, index_t n, index_t stride, bool a_rest,
              const unsigned char* b_rest, bool first, float* c, const void* next_a, const void* next_b) {
  const TileConfig config;
  _tile_loadconfig(&config);
  const char* const next_left = static_cast<const char*>(next_a);
  const char* const next_right = static_cast<const char*>(next_b) + kSideBytes;
  const index_t steps = (n + kStep - 1) / kStep, chunk_steps = kChunk / kStep;
  const index_t share = (kSideBytes / (count * steps) + 63) / 64 * 64;
  constexpr index_t row_bytes = kPanel * index_t{sizeof(float)};
  for (index_t block = 0; block < count; ++block) {
    float* const out = c + block * kPanel * kPanel;
    if (first) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    } else {
      _tile_loadd(0, out, row_bytes);
      _tile_loadd(1, out + 16, row_bytes);
      _tile_loadd(2, out + 16 * kPanel, row_bytes);
      _tile_loadd(3, out + 16 * kPanel + 16, row_bytes);
    }
    for (index_t s = 0; s < steps; ++s) {
      if (next_left) ahead(next_left, next_right, (block * steps + s) * share, share);
      const index_t at = s / chunk_steps * stride + s % chunk_steps * kStepBytes;
      const char* const l = static_cast<const char*>(a) + at;
      const char* const r = static_cast<const char*>(b) + block * 2 * kSideBytes + kSideBytes + at;
      _tile_loadd(4, l, 64);
      _tile_loadd(5, l + kTileBytes, 64);
      if (b_rest[block]) {
        _tile_loadd(6, r + 2 * kTileBytes, 64);
        _tile_loadd(7, r + 3 * kTileBytes, 64);
        products();
      }
      _tile_loadd(6, r, 64);
      _tile_loadd(7, r + kTileBytes, 64);
      products();
      if (a_rest) {
        _tile_loadd(4, l + 2 * kTileBytes, 64);
        _tile_loadd(5, l + 3 * kTileBytes, 64);
        products();
      }
    }
    _tile_stored(0, out, row_bytes);
    _tile_stored(1, out + 16, row_bytes);
    _tile_stored(2, out + 16 * kPanel, row_bytes);
    _tile_stored(3, out + 16 * kPanel + 16, row_bytes);
  }
  _tile_release();
}

}  // namespace

constinit const ScatterKernel<float> kScatterAmx{2 * kSideBytes, Avx512::measure, pack, multiply, Avx512::add};

}  // namespace netassay::stats
