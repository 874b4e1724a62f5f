#pragma once
/// What a scatter matrix is made with, one table of functions per instruction set.
///
/// Rows are packed in chunks of kChunk rows by kPanel columns; a block of rows is its chunks in order, each chunk its
/// panels in order. Products are of panels: 32 x 32 sums over a chunk's rows. This header is all that an
/// instruction-set unit includes: nothing here is more than a declaration.

#include <cstddef>

namespace netassay::stats {

using index_t = std::ptrdiff_t;

inline constexpr index_t kPanel = 32;
inline constexpr index_t kChunk = 128;

template <class W>
struct ScatterKernel {
  /// Bytes of a packed chunk of one panel.
  index_t chunk_bytes;
  /// sum[j], square[j] = sums over n rows of x - x_0 and of its square, x_0 the first row, for kPanel columns of rows
  /// `step` apart. Returns whether every x is a bfloat16.
  bool (*measure)(const W* x, index_t n, index_t step, double* sum, double* square);

  /// Packs n <= kChunk rows of kPanel columns, less the pivot, into a chunk padded with zeros: y = x - pivot.
  /// sum[j] = sum y; square[j] = sum y^2, roughly; rest[j] = the part of sum y^2 that the products leave out.
  /// Returns whether the second parts are anything but zero.
  bool (*pack)(const W* x, index_t n, index_t step, const W* pivot, double* sum, double* square, double* rest,
               void* chunk);

  /// For each of `count` panels B that follow one another: C (kPanel, kPanel) += A^T B over n rows, whose chunks
  /// are `stride` bytes apart, one C after the other. `first`: C = A^T B. a_rest, b_rest[i]: whether the second parts
  /// are to be multiplied. next_a, next_b: panels that will be read as A and as B before long, or null.
  void (*multiply)(const void* a, const void* b, index_t count, index_t n, index_t stride, bool a_rest,
                   const unsigned char* b_rest, bool first, W* c, const void* next_a, const void* next_b);

  /// out[j] += c[j] + (w delta[j] - s sum[j]) for n columns from `begin`,
  /// where c is a row of C, then of the next C, and so on.
  void (*add)(const W* c, index_t begin, index_t n, double w, const double* delta, double s, const double* sum,
              double* out);
};

extern const ScatterKernel<float> kScatterBaseline;
extern const ScatterKernel<double> kScatterBaselineWide;
#if defined(__x86_64__)
extern const ScatterKernel<float> kScatterAvx2;
extern const ScatterKernel<double> kScatterAvx2Wide;
extern const ScatterKernel<float> kScatterAvx512;
extern const ScatterKernel<double> kScatterAvx512Wide;
extern const ScatterKernel<float> kScatterAmx;
#endif

}  // namespace netassay::stats
