#pragma once
/// Counting written once for vectors of any width; each instruction-set unit brings its own. Everything has internal
/// linkage, so that no unit's code can end up in another's.
///
/// Before it includes this, a unit says what its vectors are: kVectorBytes, and Lanes<U>, which compares signed
/// integers (`less`, `most`), counts what is true (`count`), adds 1 where it is (`plus`), gives it as bits (`bits`),
/// and loads or changes the first n numbers alone (kPartial); and, for sums, Wide of float64, how one is loaded from
/// numbers of a format (`widen`), and its `total`.

#include <cstddef>
#include <cstdint>

#include "complexity/kernel.hpp"

namespace netassay::complexity {
namespace {

template <class U, Format kFormat>
struct Counting {
  using L = Lanes<U>;
  using V = typename L::V;
  using M = typename L::M;
  using S = signed_of<U>;
  /// Sums wrap.
  typedef U Wrapping __attribute__((vector_size(kVectorBytes)));
  static constexpr index_t lanes = kVectorBytes / index_t{sizeof(U)};
  static constexpr U sign = U{1} << (8 * sizeof(U) - 1);
  static constexpr S unsigned_bits = static_cast<S>(static_cast<U>(~sign));

  static V all(S x) { return x - V{}; }
  static V load(const U* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(U* p, V v) { __builtin_memcpy(p, &v, sizeof v); }
  static void count_in(U* p, M is) { store(p, L::plus(load(p), is)); }

  /// Zeros and NaNs are rare: a vector keeps the largest of |x|'s bits - 1 as an unsigned number, written as a signed
  /// one, which is not below that of infinity where there was any.
  struct Special {
    V magnitude, offset, limit;
    /// least: how far below infinity numbers begin to be special.
    explicit Special(Above<U> above, U least = 0)
        : magnitude(all(unsigned_bits)),
          offset(all(static_cast<S>(static_cast<U>(sign - 1)))),
          limit(
              all(static_cast<S>(static_cast<U>(static_cast<U>(above.infinity) + static_cast<U>(sign - 1) - least)))) {}
    V measure(V x) const { return (V)((Wrapping)(x & magnitude) + (Wrapping)offset); }
    bool any(V most) const { return L::count(L::less(limit, most)) > 0; }
  };

  template <bool kFlip>
  struct Test {
    V add, limit;
    explicit Test(Above<U> above) : add(all(static_cast<S>(above.add))), limit(all(above.limit)) {}
    M operator()(V x) const {
      if constexpr (kFlip) x ^= (x >> (8 * sizeof(U) - 1)) & all(unsigned_bits);
      return L::less((V)((Wrapping)x + (Wrapping)add), limit);
    }
  };

  static bool on(U x, Above<U> above) {
    const auto key = above.flip && (x & sign) != 0 ? static_cast<U>(x ^ static_cast<U>(~sign)) : x;
    return static_cast<S>(static_cast<U>(key + above.add)) < above.limit;
  }
  static bool zero(U x) { return static_cast<U>(x << 1) == 0; }
  static bool nan(U x, Above<U> above) { return (static_cast<S>(x) & unsigned_bits) > above.infinity; }
  static bool finite(U x, Above<U> above) { return (static_cast<S>(x) & unsigned_bits) < above.infinity; }

  // ---- sums ----

  static constexpr bool kSums = kFormat != Format::none;
  static constexpr index_t wide = kVectorBytes / 8, parts = lanes / wide;

  static Wide load_wide(const double* p) {
    Wide v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void add(const U* p, Wide pivot, Wide& sum, Wide& square) {
    const Wide d = widen<kFormat>(p) - pivot;
    sum += d;
    square += d * d;
  }
  /// The first n numbers, where they are finite, else pivots, which add nothing; returns how many are not finite.
  static std::uint32_t finite(const U* x, index_t n, V pivots, Above<U> above, U* to) {
    store(to, pivots);
    std::uint32_t left_out = 0;
    for (index_t k = 0; k < n; ++k) {
      const bool is = finite(x[k], above);
      to[k] = is ? x[k] : to[k];
      left_out += !is;
    }
    return left_out;
  }

  /// Of a run; nothing where there are no sums.
  struct Adding {
    V pivots;
    Wide pivot, sum[kSums ? parts : 1] = {}, square[kSums ? parts : 1] = {};

    explicit Adding(const U* of) {
      if constexpr (kSums) {
        U same[lanes];
        pivots = all(static_cast<S>(*of));
        for (U& one : same) one = *of;  // GCC 12 fails on one store of `pivots`
        pivot = widen<kFormat>(same);
      }
    }
    void take(const U* x) {
      if constexpr (kSums) {
#pragma GCC unroll 8
        for (index_t p = 0; p < parts; ++p) add(x + p * wide, pivot, sum[p], square[p]);
      }
    }
    static double all_of(const Wide* v) {
      Wide both = v[0];
#pragma GCC unroll 8
      for (index_t p = 1; p < parts; ++p) both += v[p];
      return total(both);
    }
    /// Whether all numbers were finite: else they are not added.
    bool into(Sums<U> to, index_t r) const {
      const double squares = all_of(square);
      if (!(squares <= __DBL_MAX__)) return false;
      to.sum[r] += all_of(sum);
      to.square[r] += squares;
      return true;
    }
  };

  /// Of a run with a NaN or an infinity (or squares beyond float64): out of line, as it is rare.
  [[gnu::noinline]] static void add_finite(const U* x, index_t n, Above<U> above, Sums<U> to, index_t r) {
    Adding adding(to.pivot + r);
    U some[lanes];
    for (index_t j = 0; j < n; j += lanes) {
      to.left_out[r] += finite(x + j, n - j < lanes ? n - j : lanes, adding.pivots, above, some);
      adding.take(some);
    }
    to.sum[r] += Adding::all_of(adding.sum);
    to.square[r] += Adding::all_of(adding.square);
  }

  /// Of columns j ... j + lanes - 1, whose numbers are all finite.
  template <index_t kRows>
  static void add_columns(const U* const* x, index_t count, index_t j, Sums<U> to) {
    const index_t rows = kRows == 0 ? count : kRows;
    for (index_t p = j; p < j + lanes; p += wide) {
      const Wide pivot = widen<kFormat>(to.pivot + p);
      Wide sum = load_wide(to.sum + p), square = load_wide(to.square + p);
      for (index_t r = 0; r < rows; ++r) add(x[r] + p, pivot, sum, square);
      __builtin_memcpy(to.sum + p, &sum, sizeof sum);
      __builtin_memcpy(to.square + p, &square, sizeof square);
    }
  }
  /// Of columns j ... j + n - 1, n <= lanes, whatever their numbers.
  [[gnu::noinline]] static void add_finite_columns(const U* const* x, index_t rows, index_t j, index_t n,
                                                   Above<U> above, Sums<U> to) {
    U pivot[lanes] = {}, some[lanes];
    double sum[lanes] = {}, square[lanes] = {};
    const auto copy = [n](auto* into, const auto* from) {
      for (index_t k = 0; k < n; ++k) into[k] = from[k];
    };
    copy(pivot, to.pivot + j);
    copy(sum, to.sum + j);
    copy(square, to.square + j);
    const Sums<U> here{pivot, sum, square, nullptr};
    const U* const only = some;
    for (index_t r = 0; r < rows; ++r) {
      if (finite(x[r] + j, n, load(pivot), above, some) > 0) {
        for (index_t k = 0; k < n; ++k) to.left_out[j + k] += !finite(x[r][j + k], above);
      }
      add_columns<1>(&only, 1, 0, here);
    }
    copy(to.sum + j, sum);
    copy(to.square + j, square);
  }
  static bool all_finite(const U* const* x, index_t rows, index_t j, Above<U> above) {
    V most{};
    for (index_t r = 0; r < rows; ++r) most = L::most(most, load(x[r] + j) & all(unsigned_bits));
    return L::count(L::less(all(static_cast<S>(above.infinity - 1)), most)) == 0;
  }

  // ---- runs ----

  static void runs(const U* x, index_t runs, index_t step, index_t n, Above<U> above, Tallies tallies, U* counts,
                   index_t pitch, Sums<U> sums) {
    const auto with = [&]<bool kFlip, bool kCounts>() {
      const Test<kFlip> test(above);
      const Special special(above);
      for (index_t r = 0; r < runs; ++r) {
        run<kFlip, kCounts>(x + r * step, n, above, test, special, tallies, r, counts + (kCounts ? r * pitch : 0),
                            sums);
      }
    };
    if (above.flip) return counts ? with.template operator()<true, true>() : with.template operator()<true, false>();
    return counts ? with.template operator()<false, true>() : with.template operator()<false, false>();
  }

  template <bool kFlip, bool kCounts>
  static void run(const U* x, index_t n, Above<U> above, const Test<kFlip>& test, const Special& special,
                  Tallies tallies, index_t r, U* counts, Sums<U> sums) {
    Adding adding(sums.pivot + (kSums ? r : 0));
    V most = all(static_cast<S>(sign));
    index_t sum = 0, j = 0;
    bool rare = false;
    for (; j + lanes <= n; j += lanes) {
      __builtin_prefetch(reinterpret_cast<const char*>(x + j) + kAhead);
      const V v = load(x + j);
      const M is = test(v);
      sum += L::count(is);
      if constexpr (kCounts) count_in(counts + j, is);
      most = L::most(most, special.measure(v));
      adding.take(x + j);
    }
    if constexpr (L::kPartial) {
      if (j < n) {
        // -infinity is on above no threshold, no zero and no NaN
        const V v = L::load(x + j, n - j, static_cast<S>(static_cast<U>(static_cast<U>(above.infinity) | sign)));
        const M is = test(v);
        sum += L::count(is);
        if constexpr (kCounts) L::plus(counts + j, n - j, is);
        most = L::most(most, special.measure(v));
        if constexpr (kSums) {
          U rest[lanes];
          store(rest, L::load(x + j, n - j, adding.pivots[0]));
          adding.take(rest);
        }
      }
    } else {
      if constexpr (kSums) {
        U rest[lanes];
        store(rest, adding.pivots);
        for (index_t k = j; k < n; ++k) rest[k - j] = x[k];
        adding.take(rest);
      }
      for (; j < n; ++j) {
        const bool is = on(x[j], above);
        sum += is;
        if constexpr (kCounts) counts[j] = static_cast<U>(counts[j] + is);
        rare |= zero(x[j]) || nan(x[j], above);
      }
    }
    tallies.on[r] += static_cast<std::uint32_t>(sum);
    if constexpr (kSums) {
      if (!adding.into(sums, r)) add_finite(x, n, above, sums, r);
    }
    if (rare || special.any(most)) count_special(x, n, above, tallies.zero[r], tallies.nan[r]);
  }

  static void count_special(const U* x, index_t n, Above<U> above, std::int64_t& zeros, std::int64_t& nans) {
    const V magnitude = all(unsigned_bits), one = all(1), infinity = all(above.infinity);
    index_t j = 0;
    for (; j + lanes <= n; j += lanes) {
      const V size = load(x + j) & magnitude;
      zeros += L::count(L::less(size, one));
      nans += L::count(L::less(infinity, size));
    }
    for (; j < n; ++j) {
      zeros += zero(x[j]);
      nans += nan(x[j], above);
    }
  }

  // ---- columns ----

  static void columns(const U* const* x, index_t rows, index_t n, index_t ahead, Above<U> above, Lines<U> totals,
                      U* counts, index_t pitch, Sums<U> sums) {
    const auto with = [&]<bool kFlip, bool kCounts>() {
      if (rows == kTogether)
        return columns_of<kFlip, kCounts, kTogether>(x, rows, n, ahead, above, totals, counts, pitch, sums);
      columns_of<kFlip, kCounts, 0>(x, rows, n, ahead, above, totals, counts, pitch, sums);
    };
    if (above.flip) return counts ? with.template operator()<true, true>() : with.template operator()<true, false>();
    return counts ? with.template operator()<false, true>() : with.template operator()<false, false>();
  }

  template <bool kFlip, bool kCounts, index_t kRows>
  static void columns_of(const U* const* x, index_t count, index_t n, index_t ahead, Above<U> above, Lines<U> totals,
                         U* counts, index_t pitch, Sums<U> sums) {
    const index_t rows = kRows == 0 ? count : kRows;
    const Test<kFlip> test(above);
    const Special special(above, kSums ? 1 : 0);
    index_t j = 0;
    for (; j + lanes <= n; j += lanes) {
      V on = load(totals.on + j), most = all(static_cast<S>(sign));
      for (index_t r = 0; r < rows; ++r) {
        __builtin_prefetch(reinterpret_cast<const char*>(x[r] + j) + ahead);
        const V v = load(x[r] + j);
        const M is = test(v);
        on = L::plus(on, is);
        if constexpr (kCounts) count_in(counts + r * pitch + j, is);
        most = L::most(most, special.measure(v));
      }
      store(totals.on + j, on);
      const bool rare = special.any(most);
      if (rare) special_columns(x, rows, j, j + lanes, above, totals);
      if constexpr (kSums) {
        if (!rare || all_finite(x, rows, j, above)) {
          add_columns<kRows>(x, rows, j, sums);
        } else {
          add_finite_columns(x, rows, j, lanes, above, sums);
        }
      }
    }
    if constexpr (kSums) {
      if (j < n) add_finite_columns(x, rows, j, n - j, above, sums);
    }
    for (; j < n; ++j) {
      for (index_t r = 0; r < rows; ++r) {
        const bool is = on(x[r][j], above);
        totals.on[j] = static_cast<U>(totals.on[j] + is);
        if constexpr (kCounts) counts[r * pitch + j] = static_cast<U>(counts[r * pitch + j] + is);
      }
      special_columns(x, rows, j, j + 1, above, totals);
    }
  }

  static void special_columns(const U* const* x, index_t rows, index_t from, index_t to, Above<U> above,
                              Lines<U> totals) {
    if (to - from == lanes) {
      const V magnitude = all(unsigned_bits), one = all(1), infinity = all(above.infinity);
      V zeros = load(totals.zero + from), nans = load(totals.nan + from);
      for (index_t r = 0; r < rows; ++r) {
        const V size = load(x[r] + from) & magnitude;
        zeros = L::plus(zeros, L::less(size, one));
        nans = L::plus(nans, L::less(infinity, size));
      }
      store(totals.zero + from, zeros);
      store(totals.nan + from, nans);
      return;
    }
    for (index_t j = from; j < to; ++j) {
      for (index_t r = 0; r < rows; ++r) {
        totals.zero[j] = static_cast<U>(totals.zero[j] + zero(x[r][j]));
        totals.nan[j] = static_cast<U>(totals.nan[j] + nan(x[r][j], above));
      }
    }
  }

  // ---- windows ----

  static void window(const U* x, const Place* places, index_t count, index_t states, index_t n, S infinity, U* totals,
                     U* counts, U* nan) {
    const V magnitude = all(unsigned_bits), none = all(static_cast<S>(sign)), limit = all(infinity);
    for (index_t j = 0; j < n; j += lanes) {
      V most = none, largest{}, found = all(static_cast<S>(places[0].number));
      for (index_t p = 0; p < count; ++p) {
        const V v = load(x + places[p].offset + j), size = v & magnitude, negative = v >> (8 * sizeof(U) - 1);
        const V key = size > limit ? none : (size ^ negative) - negative;
        found = key > most ? all(static_cast<S>(places[p].number)) : found;
        most = L::most(most, key);
        largest = L::most(largest, size);
      }
      for (index_t k = 1; k < states; ++k) {
        const V is = (V)(found == all(static_cast<S>(k)));
        const index_t at = (k - 1) * n + j;
        store(totals + at, load(totals + at) - is);
        if (counts != nullptr) store(counts + at, load(counts + at) - is);
      }
      if (L::count(L::less(limit, largest)) > 0) store(nan + j, load(nan + j) - (V)(largest > limit));
    }
  }

  // ---- bits ----

  static void signs(const U* x, index_t n, Above<U> above, unsigned char* bits) {
    above.flip ? signs_of<true>(x, n, above, bits) : signs_of<false>(x, n, above, bits);
  }

  template <bool kFlip>
  static void signs_of(const U* x, index_t n, Above<U> above, unsigned char* bits) {
    const Test<kFlip> test(above);
    index_t j = 0;
    if constexpr (lanes >= 8) {
      for (; j + lanes <= n; j += lanes) {
        const std::uint64_t mask = L::bits(test(load(x + j)));
        __builtin_memcpy(bits + j / 8, &mask, static_cast<std::size_t>(lanes / 8));
      }
    }
    for (; j < n; j += 8) {
      unsigned byte = 0;
      for (index_t k = 0; k < 8 && j + k < n; ++k) byte |= unsigned{on(x[j + k], above)} << k;
      bits[j / 8] = static_cast<unsigned char>(byte);
    }
  }

  static constexpr CountKernel<U> kernel{runs, columns, window, signs};
};

constexpr Kernels kCounts{
    Counting<std::uint16_t, Format::none>::kernel,    Counting<std::uint32_t, Format::none>::kernel,
    Counting<std::uint64_t, Format::none>::kernel,    Counting<std::uint64_t, Format::float64>::kernel,
    Counting<std::uint32_t, Format::float32>::kernel, Counting<std::uint16_t, Format::bfloat16>::kernel,
    Counting<std::uint16_t, Format::float16>::kernel};

}  // namespace
}  // namespace netassay::complexity
