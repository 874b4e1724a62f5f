#pragma once
/// The sums written once for vectors of any width; each instruction-set unit brings its own. Everything has internal
/// linkage, so that no unit's code can end up in another's.
///
/// Before it includes this, a unit says what a Vector of float64 is, and how one is loaded from float32 (load).

#include "network/kernel.hpp"

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

  static void sums(const T* const* rows, int rows_count, index_t n, Columns columns, Sums* into) {
    constexpr int kSide = kTogether;
    int r = 0;
    for (; r + kSide <= rows_count; r += kSide) side_by_side<kSide>(rows + r, n, columns, into + r);
    for (; r < rows_count; ++r) side_by_side<1>(rows + r, n, columns, into + r);
  }

  template <int kRows>
  static void side_by_side(const T* const* rows, index_t n, Columns columns, Sums* into) {
    V plain[kRows] = {}, absolute[kRows] = {}, square[kRows] = {};
    index_t j = 0;
    for (; j + count <= n; j += count) {
      V down = W::load(columns.plain + j), down_absolute = W::load(columns.absolute + j),
        down_square = W::load(columns.square + j);
      for (int r = 0; r < kRows; ++r) {
        __builtin_prefetch(reinterpret_cast<const char*>(rows[r] + j) + kAhead);
        const V w = W::load(rows[r] + j), size = W::magnitude(w);
        plain[r] += w;
        absolute[r] += size;
        square[r] += w * w;
        down += w;
        down_absolute += size;
        down_square += w * w;
      }
      W::store(columns.plain + j, down);
      W::store(columns.absolute + j, down_absolute);
      W::store(columns.square + j, down_square);
    }
    for (int r = 0; r < kRows; ++r) {
      Sums row{W::horizontal(plain[r]), W::horizontal(absolute[r]), W::horizontal(square[r])};
      for (index_t k = j; k < n; ++k) {
        const double w = rows[r][k], size = w < 0 ? -w : w;
        row.plain += w;
        row.absolute += size;
        row.square += w * w;
        columns.plain[k] += w;
        columns.absolute[k] += size;
        columns.square[k] += w * w;
      }
      into[r].plain += row.plain;
      into[r].absolute += row.absolute;
      into[r].square += row.square;
    }
  }

  static Powers powers(const T* run, index_t n, double scale, double centre, std::uint32_t* counts) {
    return counts == nullptr ? powers_of<false>(run, n, scale, centre, counts)
                             : powers_of<true>(run, n, scale, centre, counts);
  }

  /// Extremes and zeros are found among numbers as they are stored.
  typedef T Plain __attribute__((vector_size(kVectorBytes)));
  typedef decltype(Plain{} == Plain{}) Same;
  static constexpr index_t stored = kVectorBytes / index_t{sizeof(T)};
  /// Two vectors of float64 at a time: each sum then waits for its predecessor half as often.
  static constexpr index_t chains = 2, step = chains * count;

  template <bool kCount>
  static Powers powers_of(const T* run, index_t n, double scale, double centre, std::uint32_t* counts) {
    const V by = W::all(scale), middle = W::all(centre);
    V first[chains] = {}, second[chains] = {}, third[chains] = {}, fourth[chains] = {};
    Plain least = run[0] - Plain{}, most = least;
    Same zeros{}, positives{};
    index_t j = 0;
    for (; j + step <= n; j += step) {
      __builtin_prefetch(reinterpret_cast<const char*>(run + j) + kAhead);
      if constexpr (sizeof(T) == 8) __builtin_prefetch(reinterpret_cast<const char*>(run + j + count) + kAhead);
      for (index_t s = 0; s < step; s += stored) {
        Plain w;
        __builtin_memcpy(&w, run + j + s, sizeof w);
        least = w < least ? w : least;
        most = w > most ? w : most;
        zeros -= w == Plain{};
        positives -= w > Plain{};
      }
      for (index_t c = 0; c < chains; ++c) {
        const V w = W::load(run + j + c * count), d = sizeof(T) == 8 ? w * by - middle : w - middle, d2 = d * d;
        first[c] += d;
        second[c] += d2;
        third[c] += d2 * d;
        fourth[c] += d2 * d2;
      }
      if constexpr (kCount) {
        for (index_t l = 0; l < step; l += 2) count_two(run + j + l, counts);
      }
    }
    Powers sum{W::horizontal(first[0] + first[1]),
               W::horizontal(second[0] + second[1]),
               W::horizontal(third[0] + third[1]),
               W::horizontal(fourth[0] + fourth[1]),
               least[0],
               most[0],
               0,
               0};
    for (index_t l = 0; l < stored; ++l) {
      if (least[l] < sum.least) sum.least = least[l];
      if (most[l] > sum.most) sum.most = most[l];
      sum.zeros += static_cast<std::uint64_t>(zeros[l]);
      sum.positives += static_cast<std::uint64_t>(positives[l]);
    }
    for (; j < n; ++j) {
      const double w = run[j], d = w * scale - centre, d2 = d * d;
      sum.first += d;
      sum.second += d2;
      sum.third += d2 * d;
      sum.fourth += d2 * d2;
      if (w < sum.least) sum.least = w;
      if (w > sum.most) sum.most = w;
      sum.zeros += w == 0;
      sum.positives += w > 0;
      if constexpr (kCount) ++counts[key(run + j)];
    }
    return sum;
  }

  static std::size_t key(const T* at) {
    Key bits;
    __builtin_memcpy(&bits, at, sizeof bits);
    return leading(bits);
  }
  static void count_two(const T* at, std::uint32_t* counts) {
    ++counts[key(at)];
    ++counts[kTable + key(at + 1)];
    __asm__ volatile("" : : : "memory");  // else GCC keeps each count in a register as well, in case it is read next
  }

  static constexpr SumKernel<T> kernel{sums, powers};
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

constexpr SumKernels kSums{Summing<double, std::uint64_t>::kernel, Summing<float, std::uint32_t>::kernel,
                           Widening::widen<Widening::bf16>, Widening::widen<Widening::f16>};

}  // namespace
}  // namespace netassay::network
