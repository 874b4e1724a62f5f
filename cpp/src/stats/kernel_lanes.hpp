#pragma once
/// The kernel written once for vectors of any length; each instruction-set unit instantiates it for its own. Everything
/// has internal linkage, so that no unit's code can end up in another's.

#include "stats/kernel.hpp"

namespace netassay::stats {
namespace {

template <class W, int kLanes>
struct Vector {
  typedef W type __attribute__((vector_size(kLanes * sizeof(W)), aligned(alignof(W))));
};

template <class W, int kLanes, int kRows>
struct Lanes {
  using V = typename Vector<W, kLanes>::type;
  static constexpr int kVectors = 2;  // of B side by side: kRows * 2 sums are in flight

  static V load(const W* p) { return *reinterpret_cast<const V*>(p); }
  static void store(W* p, V v) { *reinterpret_cast<V*>(p) = v; }

  static bool measure(const W* x, index_t n, index_t step, double* sum, double* square) {
    double sums[kPanel] = {}, squares[kPanel] = {}, first[kPanel];
    for (index_t j = 0; j < kPanel; ++j) first[j] = static_cast<double>(x[j]);
    unsigned low = 0;
    for (index_t r = 0; r < n; ++r) {
      const W* row = x + r * step;
      for (index_t j = 0; j < kPanel; ++j) {
        const double value = static_cast<double>(row[j]) - first[j];
        sums[j] += value;
        squares[j] += value * value;
      }
      if constexpr (sizeof(W) == 4) {
        for (index_t j = 0; j < kPanel; ++j) low |= __builtin_bit_cast(unsigned, row[j]);
      }
    }
    for (index_t j = 0; j < kPanel; ++j) {
      sum[j] = sums[j];
      square[j] = squares[j];
    }
    return sizeof(W) == 4 && (low & 0xffffu) == 0;
  }

  // A chunk is its rows, centred: [kChunk][kPanel]. Both sides of a product read the same.
  static bool pack(const W* x, index_t n, index_t step, const W* pivot, double* sum, double* square, double* rest,
                   void* chunk) {
    W* out = static_cast<W*>(chunk);
    double sums[kPanel] = {};
    W squares[kPanel] = {};
    for (index_t r = 0; r < n; ++r) {
      for (index_t j = 0; j < kPanel; ++j) {
        const W y = x[r * step + j] - pivot[j];
        out[r * kPanel + j] = y;
        sums[j] += static_cast<double>(y);
        squares[j] += y * y;
      }
    }
    for (index_t k = n * kPanel; k < kChunk * kPanel; ++k) out[k] = 0;
    for (index_t j = 0; j < kPanel; ++j) {
      sum[j] = sums[j];
      square[j] = static_cast<double>(squares[j]);
      rest[j] = 0;
    }
    return false;
  }

  static void multiply(const void* a, const void* b, index_t count, index_t n, index_t stride, bool,
                       const unsigned char*, bool first, W* c, const void*, const void*) {
    const char* left = static_cast<const char*>(a);
    const char* right = static_cast<const char*>(b);
    for (; n > 0; n -= kChunk, left += stride, right += stride, first = false) {
      for (index_t block = 0; block < count; ++block) {
        const W* r = reinterpret_cast<const W*>(right) + block * kChunk * kPanel;
        for (index_t j = 0; j < kPanel; j += kVectors * kLanes) {
          for (index_t i = 0; i < kPanel; i += kRows) {
            corner(reinterpret_cast<const W*>(left) + i, r + j, n < kChunk ? n : kChunk, first,
                   c + (block * kPanel + i) * kPanel + j);
          }
        }
      }
    }
  }

  // A chunk is summed by itself and then added: the error grows with the root of a chunk's rows, not of a block's.
  static void corner(const W* left, const W* right, index_t n, bool first, W* out) {
    V sums[kRows][kVectors];
    for (int i = 0; i < kRows; ++i) {
      for (int v = 0; v < kVectors; ++v) sums[i][v] = V{};
    }
    for (index_t r = 0; r < n; ++r) {
      V rights[kVectors];
      for (int v = 0; v < kVectors; ++v) rights[v] = load(right + r * kPanel + v * kLanes);
      for (int i = 0; i < kRows; ++i) {
        const W value = left[r * kPanel + i];
        for (int v = 0; v < kVectors; ++v) sums[i][v] += value * rights[v];
      }
    }
    for (int i = 0; i < kRows; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        W* c = out + i * kPanel + v * kLanes;
        store(c, first ? sums[i][v] : load(c) + sums[i][v]);
      }
    }
  }

  static void add(const W* c, index_t begin, index_t n, double w, const double* delta, double s, const double* sum,
                  double* out) {
    for (index_t j = begin; j < n; j = (j / kPanel + 1) * kPanel) {
      const W* in = c + j / kPanel * kPanel * kPanel + j % kPanel;
      const index_t left = kPanel - j % kPanel;
      add_run(in, left < n - j ? left : n - j, w, delta + j, s, sum + j, out + j);
    }
  }

  static void add_run(const W* in, index_t n, double w, const double* delta, double s, const double* sum, double* out) {
    for (index_t j = 0; j < n; ++j) out[j] += static_cast<double>(in[j]) + (w * delta[j] - s * sum[j]);
  }

  static constexpr ScatterKernel<W> kernel{kChunk * kPanel * index_t{sizeof(W)}, measure, pack, multiply, add};
};

}  // namespace
}  // namespace netassay::stats
