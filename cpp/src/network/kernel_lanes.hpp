#pragma once
/// The sums written once for vectors of any width; each instruction-set unit brings its own. Everything has internal
/// linkage, so that no unit's code can end up in another's.
///
/// Before it includes this, a unit says what a Vector of float64 is, how one is loaded from float32 (load), how
/// Integers of 32 bits are loaded from bytes (widen), and how those from 0 to 255 are squared (square_of).

#include <cstddef>
#include <cstdint>

#include "network/kernel.hpp"
#include "network/kernel_counts.hpp"
#include "network/kernel_integers.hpp"

namespace netassay::network {
namespace {

constexpr int kVectorBytes = sizeof(Vector);

struct Wide {
  typedef std::int64_t Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr index_t count = kVectorBytes / 8;

  static Vector all(double x) { return x - Vector{}; }
  static Vector load(const double* p) {
    Vector v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static Vector load(const float* p) { return network::load(p); }
  static void store(double* p, Vector v) { __builtin_memcpy(p, &v, sizeof v); }
  static Vector magnitude(Vector v) { return (Vector)((Bits)v & (INT64_MAX - Bits{})); }
  /// As kernel.hpp has it for one number.
  static Bits leading(Vector v) {
    typedef std::uint64_t Unsigned __attribute__((vector_size(kVectorBytes)));
    const auto bits = (Unsigned)v;
    Bits key = (Bits)(bits << 1 >> (kNarrow + 1)) - kRebias;
    key = key < 0 ? Bits{} : key;
    key = key > kLargestKey ? kLargestKey - Bits{} : key;
    return key | (Bits)(bits >> 63 << 15);
  }

  static double horizontal(Vector v) {
    double lanes[count];
    __builtin_memcpy(lanes, &v, sizeof v);
    for (index_t half = count / 2; half > 0; half /= 2) {
      for (index_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    }
    return lanes[0];
  }
};

template <class T, class Key>
struct Summing {
  using W = Wide;
  using V = Vector;
  static constexpr index_t count = W::count;

  struct CountedByLeadingBits : Counted<T> {
    template <index_t kStep>
    void step(const T* at) const {
      Key keys[kStep];
      if constexpr (sizeof(T) == 8) {
        for (index_t l = 0; l < kStep; l += count) {
          const typename W::Bits found = W::leading(W::load(at + l));
          __builtin_memcpy(keys + l, &found, sizeof found);
        }
      }
#pragma GCC unroll 16
      for (index_t l = 0; l < kStep; ++l) this->count(sizeof(T) == 8 ? keys[l] : key(at + l), l);
    }
    void one(const T* at) const { this->count(key(at), 0); }
  };

  static void sums(const T* const* rows, int rows_count, index_t n, ColumnSums columns, Sums* into) {
    each_side<false>(rows, rows_count, n, columns, into, Uncounted{});
  }
  static Powers survey(const T* const* rows, int rows_count, index_t n, ColumnSums columns, Sums* into,
                       std::uint32_t* counts) {
    return each_side<true>(rows, rows_count, n, columns, into, CountedByLeadingBits{{rows, counts}});
  }
  static void sums_of_keys(const T* const* rows, const std::uint16_t* const* keys, int rows_count, index_t n,
                           ColumnSums columns, Sums* into, std::uint32_t* counts) {
    each_side<false>(rows, rows_count, n, columns, into, Counted<std::uint16_t>{keys, counts});
  }

  /// Extremes and zeros are found among numbers as they are stored.
  typedef T Plain __attribute__((vector_size(kVectorBytes)));
  typedef decltype(Plain{} == Plain{}) Same;
  static constexpr index_t stored = kVectorBytes / index_t{sizeof(T)};
  /// Two vectors of float64 at a time: each sum then waits for its predecessor half as often.
  static constexpr index_t chains = 2, step = chains * count;

  struct Range {
    Plain least, most;
    Same zeros{}, positives{};

    explicit Range(T first) : least(first - Plain{}), most(least) {}
    void see(const T* at) {
      Plain w;
      __builtin_memcpy(&w, at, sizeof w);
      least = w < least ? w : least;
      most = w > most ? w : most;
      zeros -= w == Plain{};
      positives -= w > Plain{};
    }
    void into(Powers& to) const {
      to.least = least[0];
      to.most = most[0];
      for (index_t l = 0; l < stored; ++l) {
        if (least[l] < to.least) to.least = least[l];
        if (most[l] > to.most) to.most = most[l];
        to.zeros += static_cast<std::uint64_t>(zeros[l]);
        to.positives += static_cast<std::uint64_t>(positives[l]);
      }
    }
  };
  static void see(double w, Powers& to) {
    if (w < to.least) to.least = w;
    if (w > to.most) to.most = w;
    to.zeros += w == 0;
    to.positives += w > 0;
  }

  /// Rows that lie side by side, `n` weights of each from a column on, and where their sums go.
  template <class Count>
  struct Side {
    const T* const* rows;
    index_t n;
    ColumnSums columns;
    Sums* into;
    Count count_one;
  };
  /// The powers so far: `range`, `third` and `fourth` of whole steps, `tail` of what is left of rows behind them.
  struct Found {
    Range range;
    V third{}, fourth{};
    Powers tail;
  };

  template <bool kPowers, class Count>
  static Powers each_side(const T* const* rows, int rows_count, index_t n, ColumnSums columns, Sums* into,
                          Count count_one) {
    // as many as there are registers for
    constexpr int kSide = kVectorBytes == 64 || !kPowers ? kTogether : kTogether / 2;
    const Side<Count> side{rows, n, columns, into, count_one};
    const double first = rows[0][0];
    Found found{Range(rows[0][0]), {}, {}, {0, 0, 0, 0, first, first, 0, 0}};
    int r = 0;
    for (; r + kSide <= rows_count; r += kSide) side_by_side<kSide, kPowers>(side, r, found);
    for (; r < rows_count; ++r) side_by_side<1, kPowers>(side, r, found);
    Powers sum = found.tail;
    if constexpr (kPowers) {
      found.range.into(sum);
      sum.third += W::horizontal(found.third);
      sum.fourth += W::horizontal(found.fourth);
      if (found.tail.least < sum.least) sum.least = found.tail.least;
      if (found.tail.most > sum.most) sum.most = found.tail.most;
    }
    return sum;
  }

  template <int kRows, bool kPowers, class Count>
  __attribute__((always_inline)) static void side_by_side(const Side<Count>& side, int from, Found& found) {
    const T* const* const rows = side.rows + from;
    const ColumnSums columns = side.columns;
    const Count count_one = side.count_one;
    V plain[kRows] = {}, absolute[kRows] = {}, square[kRows] = {};
    V third = found.third, fourth = found.fourth;
    Range range = found.range;
    // Main loop: whole steps of every row. The columns' sums are read and written once a step.
    index_t j = 0;
    for (; j + step <= side.n; j += step) {
      V down[chains], down_absolute[chains], down_square[chains];
#pragma GCC unroll 2
      for (index_t c = 0; c < chains; ++c) {
        down[c] = W::load(columns.plain + j + c * count);
        down_absolute[c] = W::load(columns.absolute + j + c * count);
        down_square[c] = W::load(columns.square + j + c * count);
      }
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const T* row = rows[r] + j;
        for (index_t s = 0; s < step * index_t{sizeof(T)}; s += 64) {
          __builtin_prefetch(reinterpret_cast<const char*>(row) + s + kAhead);
        }
        if constexpr (kPowers) {
          for (index_t s = 0; s < step; s += stored) range.see(row + s);
        }
#pragma GCC unroll 2
        for (index_t c = 0; c < chains; ++c) {
          const V w = W::load(row + c * count), size = W::magnitude(w), w2 = w * w;
          plain[r] += w;
          absolute[r] += size;
          square[r] += w2;
          down[c] += w;
          down_absolute[c] += size;
          down_square[c] += w2;
          if constexpr (kPowers) {
            third += w2 * w;
            fourth += w2 * w2;
          }
        }
        const auto keys = count_one.from(from + r, j);
        count_one.template step<step>(keys);
      }
#pragma GCC unroll 2
      for (index_t c = 0; c < chains; ++c) {
        W::store(columns.plain + j + c * count, down[c]);
        W::store(columns.absolute + j + c * count, down_absolute[c]);
        W::store(columns.square + j + c * count, down_square[c]);
      }
    }
    // One number from the lanes of each row's sums.
    Sums whole[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      whole[r] = {W::horizontal(plain[r]), W::horizontal(absolute[r]), W::horizontal(square[r])};
    }
    // The tail: fewer weights than a step of every row, one by one.
    for (int r = 0; r < kRows; ++r) {
      Sums row = whole[r];
      for (index_t k = j; k < side.n; ++k) {
        const double w = rows[r][k], size = w < 0 ? -w : w, w2 = w * w;
        row.plain += w;
        row.absolute += size;
        row.square += w2;
        columns.plain[k] += w;
        columns.absolute[k] += size;
        columns.square[k] += w2;
        if constexpr (kPowers) {
          found.tail.third += w2 * w;
          found.tail.fourth += w2 * w2;
          see(w, found.tail);
        }
        count_one.one(count_one.from(from + r, k));
      }
      side.into[from + r].plain += row.plain;
      side.into[from + r].absolute += row.absolute;
      side.into[from + r].square += row.square;
    }
    found.third = third;
    found.fourth = fourth;
    found.range = range;
  }

  static Powers powers(const T* run, index_t n, double scale, double centre, std::uint32_t* counts) {
    return counts == nullptr ? powers_of<false>(run, n, scale, centre, counts)
                             : powers_of<true>(run, n, scale, centre, counts);
  }

  template <bool kCount>
  static Powers powers_of(const T* run, index_t n, double scale, double centre, std::uint32_t* counts) {
    const CountedByLeadingBits count_one{{nullptr, counts}};
    const V by = W::all(scale), middle = W::all(centre);
    V first[chains] = {}, second[chains] = {}, third[chains] = {}, fourth[chains] = {};
    Range range(run[0]);
    index_t j = 0;
    for (; j + step <= n; j += step) {
      for (index_t s = 0; s < step * index_t{sizeof(T)}; s += 64) {
        __builtin_prefetch(reinterpret_cast<const char*>(run + j) + s + kAhead);
      }
      for (index_t s = 0; s < step; s += stored) range.see(run + j + s);
      for (index_t c = 0; c < chains; ++c) {
        const V w = W::load(run + j + c * count), d = sizeof(T) == 8 ? w * by - middle : w - middle, d2 = d * d;
        first[c] += d;
        second[c] += d2;
        third[c] += d2 * d;
        fourth[c] += d2 * d2;
      }
      if constexpr (kCount) {
        count_one.template step<step>(run + j);
      }
    }
    Powers sum{W::horizontal(first[0] + first[1]),
               W::horizontal(second[0] + second[1]),
               W::horizontal(third[0] + third[1]),
               W::horizontal(fourth[0] + fourth[1]),
               0,
               0,
               0,
               0};
    range.into(sum);
    for (; j < n; ++j) {
      const double w = run[j], d = w * scale - centre, d2 = d * d;
      sum.first += d;
      sum.second += d2;
      sum.third += d2 * d;
      sum.fourth += d2 * d2;
      see(w, sum);
      if constexpr (kCount) count_one.one(run + j);
    }
    return sum;
  }

  static std::size_t key(const T* at) {
    Key bits;
    __builtin_memcpy(&bits, at, sizeof bits);
    return leading(bits);
  }

  static constexpr SumKernel<T> kernel{sums, survey, powers};
};

/// Two bytes to float32.
struct Widening {
  static constexpr index_t count = kVectorBytes / 4;
  typedef std::uint16_t Stored __attribute__((vector_size(kVectorBytes / 2)));
  typedef std::uint32_t Bits __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t Signed __attribute__((vector_size(kVectorBytes)));
  typedef float Vector __attribute__((vector_size(kVectorBytes)));

  static Bits bf16(Bits stored) { return stored << 16; }
  /// As base/scalar widens it.
  static Bits f16(Bits stored) {
    const Bits sign = (stored & 0x8000u) << 16, fraction = stored & 0x7fffu;
    const Bits far = (Bits)(fraction >= 0x7c00u);
    const Bits normal = (fraction << 13) + (112u << 23) + (far & (112u << 23));
    const Bits denormal = (Bits)(__builtin_convertvector((Signed)fraction, Vector) * 0x1p-24f);
    const Bits is_normal = (Bits)(fraction >= 0x0400u);
    return sign | (is_normal & normal) | (~is_normal & denormal);
  }

  template <Bits (*kWiden)(Bits)>
  static void widen(const std::uint16_t* bits, index_t n, float* to) {
    index_t j = 0;
    for (; j + count <= n; j += count) {
      __builtin_prefetch(reinterpret_cast<const char*>(bits + j) + kAhead);
      Stored v;
      __builtin_memcpy(&v, bits + j, sizeof v);
      const Bits wide = kWiden(__builtin_convertvector(v, Bits));
      __builtin_memcpy(to + j, &wide, sizeof wide);
    }
    if (j == n) return;
    Stored v{};
    __builtin_memcpy(&v, bits + j, static_cast<std::size_t>(n - j) * sizeof *bits);
    const Bits wide = kWiden(__builtin_convertvector(v, Bits));
    __builtin_memcpy(to + j, &wide, static_cast<std::size_t>(n - j) * sizeof *to);
  }
};

constexpr SumKernels kSums{Summing<double, std::uint64_t>::kernel,
                           Summing<float, std::uint32_t>::kernel,
                           SummingIntegers<std::int8_t>::kernel,
                           SummingIntegers<std::uint8_t>::kernel,
                           Summing<float, std::uint32_t>::sums_of_keys,
                           Widening::widen<Widening::bf16>,
                           Widening::widen<Widening::f16>};

}  // namespace
}  // namespace netassay::network
