#pragma once
/// Sums of weights of one byte, written once for vectors of any width, as kernel_lanes.hpp has those of floats.

#include <cstdint>

#include "network/kernel.hpp"
#include "network/kernel_counts.hpp"

namespace netassay::network {
namespace {

/// Numbers of one byte in integers, exactly.
template <class T>
struct SummingIntegers {
  static constexpr index_t count = index_t{sizeof(Integers)} / 4;
  typedef Integers V;

  static V load(const std::int32_t* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(std::int32_t* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  static double horizontal(V v) {
    std::int64_t sum = 0;
    for (index_t l = 0; l < count; ++l) sum += v[l];
    return static_cast<double>(sum);
  }

  static void sums(const T* const* rows, int rows_count, index_t n, IntegerColumns columns, Sums* into,
                   std::uint32_t* counts) {
    const auto* const* bytes = reinterpret_cast<const std::uint8_t* const*>(rows);
    if (counts == nullptr) {
      each_side(rows, rows_count, n, columns, into, Uncounted{});
    } else {
      each_side(rows, rows_count, n, columns, into, Counted<std::uint8_t>{bytes, counts});
    }
  }

  template <class Count>
  static void each_side(const T* const* rows, int rows_count, index_t n, IntegerColumns columns, Sums* into,
                        Count count_one) {
    int r = 0;
    for (; r + kTogether <= rows_count; r += kTogether) side_by_side<kTogether>(rows, r, n, columns, into, count_one);
    for (; r < rows_count; ++r) side_by_side<1>(rows, r, n, columns, into, count_one);
  }

  template <int kRows, class Count>
  static void side_by_side(const T* const* rows, int from, index_t n, IntegerColumns columns, Sums* into,
                           Count count_one) {
    V plain[kRows] = {}, absolute[kRows] = {}, square[kRows] = {};
    // Main loop: whole vectors of every row.
    index_t j = 0;
    for (; j + count <= n; j += count) {
      V down = load(columns.plain + j), down_absolute = load(columns.absolute + j),
        down_square = load(columns.square + j);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const T* row = rows[from + r] + j;
        if (j % 64 == 0) __builtin_prefetch(reinterpret_cast<const char*>(row) + kAhead);
        const V w = widen(row), size = w < 0 ? -w : w, w2 = square_of(size);
        plain[r] += w;
        absolute[r] += size;
        square[r] += w2;
        down += w;
        down_absolute += size;
        down_square += w2;
        const auto keys = count_one.from(from + r, j);
        count_one.template step<count>(keys);
      }
      store(columns.plain + j, down);
      store(columns.absolute + j, down_absolute);
      store(columns.square + j, down_square);
    }
    // One number from the lanes of each row's sums.
    Sums whole[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      whole[r] = {horizontal(plain[r]), horizontal(absolute[r]), horizontal(square[r])};
    }
    // The tail: fewer weights than a vector of every row, one by one.
    for (int r = 0; r < kRows; ++r) {
      Sums row = whole[r];
      for (index_t k = j; k < n; ++k) {
        const std::int32_t w = rows[from + r][k], size = w < 0 ? -w : w;
        row.plain += w;
        row.absolute += size;
        row.square += w * w;
        columns.plain[k] += w;
        columns.absolute[k] += size;
        columns.square[k] += w * w;
        count_one.one(count_one.from(from + r, k));
      }
      into[from + r].plain += row.plain;
      into[from + r].absolute += row.absolute;
      into[from + r].square += row.square;
    }
  }

  static constexpr IntegerKernel<T> kernel{sums};
};

}  // namespace
}  // namespace netassay::network
