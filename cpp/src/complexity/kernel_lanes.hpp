#pragma once
/// Counting written once for vectors of any width; each instruction-set unit brings its own. Everything has internal
/// linkage, so that no unit's code can end up in another's.
///
/// Before it includes this, a unit says what its vectors are: kVectorBytes, and Lanes<U>, which compares signed
/// integers (`less`, `most`), counts what is true (`count`), adds 1 where it is (`plus`), gives it as bits (`bits`),
/// and loads or changes the first n numbers alone (kPartial).

#include "complexity/kernel.hpp"

namespace netassay::complexity {
namespace {

template <class U>
struct Counting {
  using L = Lanes<U>;
  using V = typename L::V;
  using M = typename L::M;
  using S = signed_of<U>;
  /// Sums wrap.
  typedef U Wrapping __attribute__((vector_size(kVectorBytes)));
  static constexpr index_t lanes = kVectorBytes / index_t{sizeof(U)};
  static constexpr U sign = U{1} << (8 * sizeof(U) - 1);

  static V all(S x) { return x - V{}; }
  static V load(const U* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(U* p, V v) { __builtin_memcpy(p, &v, sizeof v); }

  /// Zeros and NaNs are rare: a vector keeps the largest of |x|'s bits - 1 as an unsigned number, written as a signed
  /// one, which is not below that of infinity where there was any.
  struct Special {
    V magnitude, offset, limit;
    explicit Special(Above<U> above)
        : magnitude(all(static_cast<S>(static_cast<U>(~sign)))),
          offset(all(static_cast<S>(static_cast<U>(sign - 1)))),
          limit(all(static_cast<S>(static_cast<U>(above.infinity) + static_cast<U>(sign - 1)))) {}
    V measure(V x) const { return (V)((Wrapping)(x & magnitude) + (Wrapping)offset); }
    bool any(V most) const { return L::count(L::less(limit, most)) > 0; }
  };

  template <bool kFlip>
  struct Test {
    V add, limit;
    explicit Test(Above<U> above) : add(all(static_cast<S>(above.add))), limit(all(above.limit)) {}
    M operator()(V x) const {
      if constexpr (kFlip) x ^= (x >> (8 * sizeof(U) - 1)) & all(static_cast<S>(static_cast<U>(~sign)));
      return L::less((V)((Wrapping)x + (Wrapping)add), limit);
    }
  };

  static bool on(U x, Above<U> above) {
    const auto key = above.flip && (x & sign) != 0 ? static_cast<U>(x ^ static_cast<U>(~sign)) : x;
    return static_cast<S>(static_cast<U>(key + above.add)) < above.limit;
  }
  static bool zero(U x) { return static_cast<U>(x << 1) == 0; }
  static bool nan(U x, Above<U> above) {
    return static_cast<S>(static_cast<U>(x & static_cast<U>(~sign))) > above.infinity;
  }

  // ---- runs ----

  static void runs(const U* x, index_t runs, index_t step, index_t n, Above<U> above, Tallies tallies, U* counts,
                   index_t pitch) {
    const auto with = [&]<bool kFlip, bool kCounts>() {
      const Test<kFlip> test(above);
      const Special special(above);
      for (index_t r = 0; r < runs; ++r) {
        run<kFlip, kCounts>(x + r * step, n, above, test, special, tallies, r, counts + (kCounts ? r * pitch : 0));
      }
    };
    if (above.flip) return counts ? with.template operator()<true, true>() : with.template operator()<true, false>();
    return counts ? with.template operator()<false, true>() : with.template operator()<false, false>();
  }

  template <bool kFlip, bool kCounts>
  static void run(const U* x, index_t n, Above<U> above, const Test<kFlip>& test, const Special& special,
                  Tallies tallies, index_t r, U* counts) {
    V most = all(static_cast<S>(sign));
    index_t sum = 0;
    bool rare = false;
    index_t j = 0;
    for (; j + lanes <= n; j += lanes) {
      __builtin_prefetch(reinterpret_cast<const char*>(x + j) + kAhead);
      const V v = load(x + j);
      const M is = test(v);
      sum += L::count(is);
      if constexpr (kCounts) store(counts + j, L::plus(load(counts + j), is));
      most = L::most(most, special.measure(v));
    }
    if constexpr (L::kPartial) {
      if (j < n) {
        // -infinity is on above no threshold, no zero and no NaN
        const V v = L::load(x + j, n - j, static_cast<S>(static_cast<U>(static_cast<U>(above.infinity) | sign)));
        const M is = test(v);
        sum += L::count(is);
        if constexpr (kCounts) L::plus(counts + j, n - j, is);
        most = L::most(most, special.measure(v));
      }
    } else {
      for (; j < n; ++j) {
        const bool is = on(x[j], above);
        sum += is;
        if constexpr (kCounts) counts[j] = static_cast<U>(counts[j] + is);
        rare |= zero(x[j]) || nan(x[j], above);
      }
    }
    tallies.on[r] += static_cast<std::uint32_t>(sum);
    if (rare || special.any(most)) count_special(x, n, above, tallies.zero[r], tallies.nan[r]);
  }

  static void count_special(const U* x, index_t n, Above<U> above, std::int64_t& zeros, std::int64_t& nans) {
    const V magnitude = all(static_cast<S>(static_cast<U>(~sign))), one = all(1), infinity = all(above.infinity);
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
                      U* counts, index_t pitch) {
    const auto with = [&]<bool kFlip, bool kCounts>() {
      if (rows == kTogether)
        return columns_of<kFlip, kCounts, kTogether>(x, rows, n, ahead, above, totals, counts, pitch);
      columns_of<kFlip, kCounts, 0>(x, rows, n, ahead, above, totals, counts, pitch);
    };
    if (above.flip) return counts ? with.template operator()<true, true>() : with.template operator()<true, false>();
    return counts ? with.template operator()<false, true>() : with.template operator()<false, false>();
  }

  template <bool kFlip, bool kCounts, index_t kRows>
  static void columns_of(const U* const* x, index_t count, index_t n, index_t ahead, Above<U> above, Lines<U> totals,
                         U* counts, index_t pitch) {
    const index_t rows = kRows == 0 ? count : kRows;
    const Test<kFlip> test(above);
    const Special special(above);
    index_t j = 0;
    for (; j + lanes <= n; j += lanes) {
      V on = load(totals.on + j), most = all(static_cast<S>(sign));
      for (index_t r = 0; r < rows; ++r) {
        __builtin_prefetch(reinterpret_cast<const char*>(x[r] + j) + ahead);
        const V v = load(x[r] + j);
        const M is = test(v);
        on = L::plus(on, is);
        if constexpr (kCounts) {
          U* const here = counts + r * pitch + j;
          store(here, L::plus(load(here), is));
        }
        most = L::most(most, special.measure(v));
      }
      store(totals.on + j, on);
      if (special.any(most)) special_columns(x, rows, j, j + lanes, above, totals);
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
      const V magnitude = all(static_cast<S>(static_cast<U>(~sign))), one = all(1), infinity = all(above.infinity);
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

  static constexpr CountKernel<U> kernel{runs, columns, signs};
};

constexpr Kernels kCounts{Counting<std::uint16_t>::kernel, Counting<std::uint32_t>::kernel,
                          Counting<std::uint64_t>::kernel};

}  // namespace
}  // namespace netassay::complexity
