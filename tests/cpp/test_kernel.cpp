/// The scatter kernels of every instruction set that this processor offers, against literal loops in double precision,
/// on memory that ends at a page nobody may touch.

#include "stats/kernel.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "guard.hpp"
#include "netassay/base/cpu.hpp"

namespace {

using namespace netassay;
using namespace netassay::stats;
using guard::expect;
using guard::Guarded;
using guard::here;
using netassay::stats::index_t;

// ---- the kernels -------------------------------------------------------------------------------------------------

template <class W>
using Named = guard::Named<ScatterKernel<W>>;

template <class W>
std::vector<Named<W>> all_kernels();
template <>
std::vector<Named<float>> all_kernels() {
  return {{"baseline", Isa::baseline, &kScatterBaseline},
#if defined(__x86_64__)
          {"avx2", Isa::avx2, &kScatterAvx2},
          {"avx512", Isa::avx512, &kScatterAvx512},
          {"amx", Isa::amx, &kScatterAmx}
#endif
  };
}
template <>
std::vector<Named<double>> all_kernels() {
  return {{"baseline, double", Isa::baseline, &kScatterBaselineWide},
#if defined(__x86_64__)
          {"avx2, double", Isa::avx2, &kScatterAvx2Wide},
          {"avx512, double", Isa::avx512, &kScatterAvx512Wide}
#endif
  };
}

/// Whether a kernel keeps a value in two bfloat16 parts.
template <class W>
bool splits_values(const ScatterKernel<W>& kernel) {
#if defined(__x86_64__)
  return static_cast<const void*>(&kernel) == &kScatterAmx;
#else
  return false;
#endif
}

/// Calls body(kernel) for every kernel of either width.
template <class Body>
void each(Body body) {
  guard::each_kernel(all_kernels<float>(), body);
  guard::each_kernel(all_kernels<double>(), body);
}

template <class... Parts>
void near(double got, double expected, double tolerance, const Parts&... what) {
  if (!(std::abs(got - expected) <= tolerance)) {
    check::fail(__FILE__, __LINE__, here, ": ", what..., ": got ", got, ", expected ", expected, " within ", tolerance);
  }
}

// ---- tolerances --------------------------------------------------------------------------------------------------
// u: half the gap between 1 and the next number of the type that sums are kept in. A sum of k terms t, each made with
// one rounding, in any order, fused or not, is off by at most k u sum |t| to first order; the slack of 4 covers the
// second, which is below 1 % here.

template <class W>
constexpr double kRounding = sizeof(W) == 4 ? 0x1p-24 : 0x1p-53;

/// Relative to sum |t|, for k terms summed in S.
template <class S>
double sum_tolerance(index_t k) {
  return static_cast<double>(k + 4) * kRounding<S>;
}

/// Of a product of n rows, relative to sum |y||y'| of the parts that were multiplied: a row is one term, or three where
/// each value has two parts.
template <class W>
double product_tolerance(bool splits, index_t n) {
  return sum_tolerance<W>(splits ? 3 * n : n);
}

/// Relative to sum |y||y'|, for y = hi + lo + e, both parts rounded to nearest with 8 significant bits: |lo| <= 2^-8
/// |y|, |e| <= 2^-17 |y|. Two of y e' and lo lo' are left out: 2 * 2^-17 + 2^-16, and what is of second order.
double split_tolerance(bool splits) { return splits ? 1.01 * 0x1p-15 : 0; }

// ---- data --------------------------------------------------------------------------------------------------------

enum class Data { normal, offset, lognormal, huge, tiny, bfloat16, mixed, integers, constant, one_hot };
constexpr std::array kEveryData{Data::normal,   Data::offset, Data::lognormal, Data::huge,     Data::tiny,
                                Data::bfloat16, Data::mixed,  Data::integers,  Data::constant, Data::one_hot};
constexpr std::array kNames{"normal",   "offset", "lognormal", "huge",     "tiny",
                            "bfloat16", "mixed",  "integers",  "constant", "one-hot"};
constexpr index_t kSizes[] = {1, 2, 3, 17, 31, 32, 33, 64, 65, 97, kChunk - 1, kChunk};
constexpr index_t kMoreThanAChunk[] = {kChunk + 1, 2 * kChunk, 3 * kChunk + 33};

float to_bfloat16(float y) {
  const auto bits = std::bit_cast<std::uint32_t>(y);
  return std::bit_cast<float>((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}

template <class W>
W value(Data data, index_t row, index_t col, std::mt19937_64& bits) {
  std::normal_distribution<double> normal;
  switch (data) {
    case Data::normal:
      return static_cast<W>(normal(bits));
    case Data::offset:
      return static_cast<W>(300 + normal(bits));
    case Data::lognormal:
      return static_cast<W>(std::exp(1.5 * normal(bits)));
    case Data::huge:
      return static_cast<W>(0x1p+40 * normal(bits));
    case Data::tiny:
      return static_cast<W>(0x1p-50 * normal(bits));
    case Data::mixed:  // a chunk that one part is enough for, then others
    case Data::bfloat16: {
      const double x = normal(bits);
      return static_cast<W>(data == Data::mixed && row >= kChunk ? x : to_bfloat16(static_cast<float>(x)));
    }
    case Data::integers:
      return static_cast<W>(static_cast<int>(bits() % 31) - 15);
    case Data::constant:
      return static_cast<W>(0.1);
    case Data::one_hot:
      return static_cast<W>(row % 32 == col % 32);
  }
  return 0;
}

/// Rows of panels side by side, `step` apart and NaN in between: the last row ends at the guard page.
template <class W>
struct Rows {
  index_t n, panels, step;
  Guarded<W> x, pivot;

  Rows(Data data, index_t rows, index_t width_in_panels)
      : n(rows),
        panels(width_in_panels),
        step(panels * kPanel + 5),
        x((n - 1) * step + panels * kPanel),
        pivot(panels * kPanel) {
    std::mt19937_64 bits(static_cast<unsigned>(n * 64 + panels));
    const bool centred = data == Data::offset || data == Data::lognormal || data == Data::constant;
    for (index_t j = 0; j < panels * kPanel; ++j) {
      for (index_t r = 0; r < n; ++r) x[r * step + j] = value<W>(data, r, j, bits);
      pivot[j] = data == Data::constant ? x[j] : centred ? static_cast<W>(x[j] * W{0.75}) : W{0};
    }
  }
  /// As packing takes it: the difference rounded to W.
  W y(index_t r, index_t j) { return x[r * step + j] - pivot[j]; }
};

/// What is multiplied: y, or its two parts. `rest`: whether the second one is.
template <class W>
double part(bool splits, W y, bool second) {
  if (!splits) return second ? 0 : static_cast<double>(y);
  const float hi = to_bfloat16(static_cast<float>(y));
  return second ? to_bfloat16(static_cast<float>(y) - hi) : hi;
}

/// y and its parts, column by column.
struct Columns {
  index_t n;
  std::vector<double> values;  // of a column: y, the first part, the second

  template <class W>
  Columns(Rows<W>& rows, bool splits) : n(rows.n) {
    for (index_t j = 0; j < rows.panels * kPanel; ++j) {
      for (index_t r = 0; r < n; ++r) values.push_back(static_cast<double>(rows.y(r, j)));
      for (const bool second : {false, true}) {
        for (index_t r = 0; r < n; ++r) values.push_back(part(splits, rows.y(r, j), second));
      }
    }
  }
  const double* whole(index_t j) const { return values.data() + 3 * j * n; }
  const double* first(index_t j) const { return whole(j) + n; }
  const double* second(index_t j) const { return whole(j) + 2 * n; }
};

// ---- packing and multiplying -------------------------------------------------------------------------------------

/// Per column: what packing returns beside the chunk.
struct Sums {
  Guarded<double> sum{kPanel, 0.0}, square{kPanel, 0.0}, rest{kPanel, 0.0};
};

template <class W>
bool pack(const ScatterKernel<W>& k, const W* x, index_t n, index_t step, const W* pivot, Sums& sums, void* chunk) {
  return k.pack(x, n, step, pivot, sums.sum.data(), sums.square.data(), sums.rest.data(), chunk);
}

/// Rows, packed: chunk after chunk, each its panels in order, and whether a panel of a chunk has second parts.
template <class W>
struct Packed {
  const ScatterKernel<W>& k;
  Rows<W>& rows;
  index_t count, stride;
  Guarded<unsigned char> chunks, has_rest;
  std::vector<double> rest;  // per column

  Packed(const ScatterKernel<W>& kernel, Rows<W>& data)
      : k(kernel),
        rows(data),
        count((rows.n + kChunk - 1) / kChunk),
        stride(rows.panels * k.chunk_bytes),
        chunks(count * stride),
        has_rest(count * rows.panels),
        rest(static_cast<std::size_t>(rows.panels * kPanel)) {
    for (index_t c = 0; c < count; ++c) {
      for (index_t p = 0; p < rows.panels; ++p) {
        Sums sums;
        has_rest[c * rows.panels + p] = pack(c, p, sums);
        for (index_t j = 0; j < kPanel; ++j) rest[static_cast<std::size_t>(p * kPanel + j)] += sums.rest[j];
      }
    }
  }

  unsigned char* chunk(index_t c, index_t p) { return chunks.data() + c * stride + p * k.chunk_bytes; }
  index_t rows_of(index_t c) const { return std::min(kChunk, rows.n - c * kChunk); }

  bool pack(index_t c, index_t p, Sums& sums) {
    Guarded<W> pivot(kPanel);  // of every panel it ends at a guard page
    std::copy_n(rows.pivot.data() + p * kPanel, kPanel, pivot.data());
    return k.pack(rows.x.data() + c * kChunk * rows.step + p * kPanel, rows_of(c), rows.step, pivot.data(),
                  sums.sum.data(), sums.square.data(), sums.rest.data(), chunk(c, p));
  }

  /// C of panel i with panels [j, j + panels): all chunks in one call where their flags are alike, else one by one.
  /// `ahead`: the panels themselves are what is fetched ahead.
  void products(index_t i, index_t j, index_t panels, W* c, bool first = true, bool ahead = false) {
    const unsigned char* const flags = has_rest.data();
    const bool alike = std::equal(flags + rows.panels, flags + has_rest.size(), flags);
    for (index_t at = 0; at < (alike ? 1 : count); ++at) {
      const unsigned char* const here_flags = flags + at * rows.panels;
      k.multiply(chunk(at, i), chunk(at, j), panels, alike ? rows.n : rows_of(at), stride, here_flags[i] != 0,
                 here_flags + j, first && at == 0, c, ahead ? chunk(at, i) : nullptr, ahead ? chunk(at, j) : nullptr);
    }
  }
};

// ---- the claims --------------------------------------------------------------------------------------------------

template <class W>
void check_measure(const ScatterKernel<W>& k, Rows<W>& rows, const char* name) {
  Guarded<double> sum(kPanel), square(kPanel);
  const index_t last = (rows.panels - 1) * kPanel;  // its rows end at the guard page
  const bool narrow = k.measure(rows.x.data() + last, rows.n, rows.step, sum.data(), square.data());
  bool every = sizeof(W) == 4;
  for (index_t j = 0; j < kPanel; ++j) {
    double total = 0, absolute = 0, squares = 0;
    const auto first = static_cast<double>(rows.x[last + j]);
    for (index_t r = 0; r < rows.n; ++r) {
      const W x = rows.x[r * rows.step + last + j];
      const double difference = static_cast<double>(x) - first;
      total += difference;
      absolute += std::abs(difference);
      squares += difference * difference;
      if constexpr (sizeof(W) == 4) every &= to_bfloat16(x) == x;
    }
    // a difference is rounded once, its square twice more, and both sides are sums
    near(sum[j], total, 2 * sum_tolerance<double>(rows.n) * absolute, "measure, sum, ", name, ", n ", rows.n);
    near(square[j], squares, 2 * sum_tolerance<double>(rows.n) * squares, "measure, square, ", name, ", n ", rows.n);
  }
  expect(narrow == every, "measure: got ", narrow, " for ", every ? "bfloat16 data" : "other data", ", ", name, ", n ",
         rows.n);
}

void measures() {
  each([]<class W>(const ScatterKernel<W>& k) {
    for (const Data data : kEveryData) {
      const char* const name = kNames[static_cast<std::size_t>(data)];
      const auto all = [&](const auto& sizes) {
        for (const index_t n : sizes) {
          Rows<W> rows(data, n, 2);
          check_measure(k, rows, name);
        }
      };
      all(kSizes);
      all(kMoreThanAChunk);
    }
  });
}

// Each of the sums that packing makes, and the flag.
template <class W>
void check_packing(const ScatterKernel<W>& k, Rows<W>& rows, const char* name) {
  Packed<W> packed(k, rows);
  const bool splits = splits_values(k);
  for (index_t p = 0; p < rows.panels; ++p) {
    Sums sums;
    const bool any = packed.pack(0, p, sums);
    bool expected = false;
    for (index_t at = 0; at < kPanel; ++at) {
      double total = 0, absolute = 0, squares = 0, rest = 0;
      for (index_t r = 0; r < rows.n; ++r) {
        const W y = rows.y(r, p * kPanel + at);
        const double second = part(splits, y, true);
        total += static_cast<double>(y);
        absolute += std::abs(static_cast<double>(y));
        squares += static_cast<double>(y) * static_cast<double>(y);
        rest += second * second;
        expected |= second != 0;
      }
      near(sums.rest[at], rest, sum_tolerance<W>(rows.n) * rest, "pack, rest, ", name, ", n ", rows.n);
      near(sums.sum[at], total, 2 * sum_tolerance<double>(rows.n) * absolute, "pack, sum, ", name, ", n ", rows.n);
      near(sums.square[at], squares, sum_tolerance<W>(rows.n) * squares, "pack, square, ", name, ", n ", rows.n);
    }
    expect(any == expected, "pack: got ", any, ", expected ", expected, " second parts, ", name, ", n ", rows.n);
  }
}

void packing() {
  each([]<class W>(const ScatterKernel<W>& k) {
    for (const Data data : kEveryData) {
      for (const index_t n : kSizes) {
        Rows<W> rows(data, n, 2);
        check_packing(k, rows, kNames[static_cast<std::size_t>(data)]);
      }
    }
  });
}

// C of panel i with panels from j on: against the parts, against y itself, and once more with fetching ahead.
template <class W>
void check_products(Packed<W>& packed, index_t i, index_t j, const char* name) {
  Rows<W>& rows = packed.rows;
  const bool splits = splits_values(packed.k);
  const index_t count = rows.panels - j;
  Guarded<W> c(count * kPanel * kPanel), ahead(count * kPanel * kPanel);
  packed.products(i, j, count, c.data());
  packed.products(i, j, count, ahead.data(), true, true);
  expect(std::equal(c.data(), c.data() + c.size(), ahead.data()), "multiply: fetching ahead changes it, ", name);
  const double tolerance = product_tolerance<W>(splits, rows.n);
  const Columns y(rows, splits);
  for (index_t at = 0; at < c.size(); ++at) {
    const index_t left = i * kPanel + at / kPanel % kPanel, right = (j + at / kPanel / kPanel) * kPanel + at % kPanel;
    const double *hi = y.first(left), *lo = y.second(left), *his = y.first(right), *los = y.second(right);
    const double *whole_left = y.whole(left), *whole_right = y.whole(right);
    double parts = 0, of_parts = 0, whole = 0, of_whole = 0;
    for (index_t r = 0; r < rows.n; ++r) {
      parts += hi[r] * his[r] + hi[r] * los[r] + lo[r] * his[r];
      of_parts += std::abs(hi[r] * his[r]) + std::abs(hi[r] * los[r]) + std::abs(lo[r] * his[r]);
      whole += whole_left[r] * whole_right[r];
      of_whole += std::abs(whole_left[r] * whole_right[r]);
    }
    const auto got = static_cast<double>(c[at]);
    near(got, parts, tolerance * of_parts, "multiply, ", name, ", n ", rows.n, ", columns ", left, " and ", right);
    const double rest = left == right ? packed.rest[static_cast<std::size_t>(left)] : 0;
    near(got + rest, whole, (split_tolerance(splits) + 1.01 * tolerance) * of_whole, "multiply and rest, ", name,
         ", n ", rows.n, ", columns ", left, " and ", right);
  }
}

void products() {
  each([]<class W>(const ScatterKernel<W>& k) {
    for (const Data data : kEveryData) {
      const char* const name = kNames[static_cast<std::size_t>(data)];
      const auto all = [&](const auto& sizes, index_t panels) {
        for (const index_t n : sizes) {
          Rows<W> rows(data, n, panels);
          Packed<W> packed(k, rows);
          check_products(packed, 0, 0, name);
        }
      };
      all(kSizes, 2);
      all(kMoreThanAChunk, 1);
    }
    for (const index_t panels : {1, 3, 5, 8}) {
      Rows<W> rows(Data::offset, kChunk + 33, panels);
      Packed<W> packed(k, rows);
      for (index_t i = 0; i < panels; i += 2) check_products(packed, i, i, "offset");
      check_products(packed, panels - 1, 0, "offset");
    }
  });
}

// A second part that is said to be zero is not read, whatever it holds.
void second_parts() {
  each([]<class W>(const ScatterKernel<W>& k) {
    Rows<W> rows(Data::normal, 97, 3);
    Packed<W> packed(k, rows);
    const bool splits = splits_values(k);
    Guarded<unsigned char> b_rest(3);
    for (const unsigned pattern : {0u, 1u, 2u, 5u, 7u, 8u, 10u, 15u}) {
      const bool a_rest = (pattern & 8u) != 0;
      for (index_t p = 0; p < 3; ++p) b_rest[p] = (pattern >> p & 1u) != 0;
      Guarded<W> c(3 * kPanel * kPanel);
      k.multiply(packed.chunk(0, 0), packed.chunk(0, 0), 3, rows.n, packed.stride, a_rest, b_rest.data(), true,
                 c.data(), nullptr, nullptr);
      for (index_t at = 0; at < c.size(); ++at) {
        const index_t p = at / kPanel / kPanel, left = at / kPanel % kPanel, right = p * kPanel + at % kPanel;
        double sum = 0, absolute = 0;
        for (index_t r = 0; r < rows.n; ++r) {
          const double hi = part(splits, rows.y(r, left), false), lo = part(splits, rows.y(r, left), true);
          const double his = part(splits, rows.y(r, right), false), los = part(splits, rows.y(r, right), true);
          for (const double term : {hi * his, b_rest[p] != 0 ? hi * los : 0, a_rest ? lo * his : 0}) {
            sum += term;
            absolute += std::abs(term);
          }
        }
        near(static_cast<double>(c[at]), sum, product_tolerance<W>(splits, rows.n) * absolute,
             "multiply with second parts ", pattern);
      }
    }
  });
}

// All of these sums are integers below 2^24. Twice the product, since the second one is added to the first.
void exact_sums() {
  each([]<class W>(const ScatterKernel<W>& k) {
    for (const Data data : {Data::integers, Data::one_hot}) {
      for (const index_t n : {index_t{1}, index_t{33}, kChunk, 3 * kChunk + 1}) {
        Rows<W> rows(data, n, 2);
        Packed<W> packed(k, rows);
        for (index_t at = 0; at < packed.has_rest.size(); ++at) {
          expect(packed.has_rest[at] == 0, "pack: second parts of bfloat16 data");
        }
        expect(packed.rest == std::vector<double>(packed.rest.size()), "pack: a rest of bfloat16 data");
        Guarded<W> c(2 * kPanel * kPanel);
        packed.products(0, 0, 2, c.data());
        packed.products(0, 0, 2, c.data(), false);
        for (index_t at = 0; at < c.size(); ++at) {
          const index_t left = at / kPanel % kPanel, right = at / kPanel / kPanel * kPanel + at % kPanel;
          double sum = 0;
          for (index_t r = 0; r < n; ++r) {
            sum += static_cast<double>(rows.y(r, left)) * static_cast<double>(rows.y(r, right));
          }
          near(static_cast<double>(c[at]), 2 * sum, 0, "exact data, n ", n);
        }
      }
    }
  });
}

void constants() {
  each([]<class W>(const ScatterKernel<W>& k) {
    Rows<W> rows(Data::constant, 300, 2);
    Packed<W> packed(k, rows);
    Guarded<W> c(2 * kPanel * kPanel);
    packed.products(0, 0, 2, c.data());
    for (index_t at = 0; at < c.size(); ++at) near(static_cast<double>(c[at]), 0, 0, "constant rows");
  });
}

void padding() {
  each([]<class W>(const ScatterKernel<W>& k) {
    for (const index_t n : kSizes) {
      Rows<W> rows(Data::offset, n, 2);
      Packed<W> packed(k, rows);
      Guarded<W> c(2 * kPanel * kPanel), padded(2 * kPanel * kPanel);
      packed.products(0, 0, 2, c.data());
      k.multiply(packed.chunk(0, 0), packed.chunk(0, 0), 2, kChunk, packed.stride, packed.has_rest[0] != 0,
                 packed.has_rest.data(), true, padded.data(), nullptr, nullptr);
      expect(std::equal(c.data(), c.data() + c.size(), padded.data()), "multiply: padding counts, n ", n);
    }
  });
}

void panels_alone() {
  each([]<class W>(const ScatterKernel<W>& k) {
    Rows<W> rows(Data::normal, kChunk + 9, 4);
    Packed<W> packed(k, rows);
    constexpr index_t size = kPanel * kPanel;
    Guarded<W> together(4 * size);
    packed.products(1, 0, 4, together.data());
    for (index_t p = 0; p < 4; ++p) {
      Guarded<W> alone(size);
      packed.products(1, p, 1, alone.data());
      expect(std::memcmp(alone.data(), together.data() + p * size, sizeof(W) * size) == 0, "multiply: panel ", p,
             " differs when it is alone");
    }
  });
}

// out += c + (w delta - s sum): three roundings and one more where nothing is fused, each of at most the terms' sum.
template <class W>
void check_add(const ScatterKernel<W>& k, index_t begin, index_t n) {
  const index_t panels = (n + kPanel - 1) / kPanel, row = 7;
  std::mt19937_64 bits(static_cast<unsigned>(begin * 1000 + n));
  std::normal_distribution<double> normal;
  // the last row read ends at the guard page where n fills its panel
  Guarded<W> c(((panels - 1) * kPanel + row) * kPanel + n - (panels - 1) * kPanel);
  Guarded<double> delta(n), sum(n), out(n), expected(n), tolerance(n);
  for (index_t at = 0; at < c.size(); ++at) c[at] = static_cast<W>(normal(bits));
  const double w = 12.5, s = 0.37;
  const W* const in = c.data() + row * kPanel;
  for (index_t j = 0; j < n; ++j) {
    delta[j] = normal(bits);
    sum[j] = 100 * normal(bits);
    out[j] = expected[j] = 1000 * normal(bits);
    tolerance[j] = 0;
    if (j < begin) continue;
    const double terms[] = {out[j], static_cast<double>(in[j / kPanel * kPanel * kPanel + j % kPanel]), w * delta[j],
                            -s * sum[j]};
    expected[j] = terms[0] + (terms[1] + (terms[2] + terms[3]));
    for (const double term : terms) tolerance[j] += 2 * sum_tolerance<double>(0) * std::abs(term);
  }
  k.add(in, begin, n, w, delta.data(), s, sum.data(), out.data());
  for (index_t j = 0; j < n; ++j) near(out[j], expected[j], tolerance[j], "add, begin ", begin, ", n ", n, ", at ", j);
}

void additions() {
  each([]<class W>(const ScatterKernel<W>& k) {
    for (const index_t n : {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 255, 256}) {
      for (const index_t begin : {0, 1, 5, 16, 31, 32, 33, 200}) {
        if (begin < n) check_add(k, begin, n);
      }
      check_add(k, n - 1, n);
    }
  });
}

// The guards themselves: a store behind a buffer ends the program, one before it is found.
void guards() {
  const int before = check::failures;
  std::printf("expected:  ");
  std::fflush(stdout);
  {
    Guarded<char>(100).data()[-1] = 0;
  }
  CHECK_EQUAL(check::failures, before + 1);
  check::failures = before;
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);  // a sanitizer would report it
    Guarded<char> buffer(100);
    volatile char* const end = buffer.data() + buffer.size();
    *end = 0;
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

}  // namespace

int main() {
  guard::report_faults();
  guard::report_skipped(all_kernels<float>());
  return check::run({
      {"a guarded buffer notices writes behind it and before it", guards},
      {"measure: sums about the first row, and whether values are bfloat16", measures},
      {"pack: sums, what products leave out, and whether there are second parts", packing},
      {"pack and multiply: the scatter of any number of rows, panels and kinds of data", products},
      {"multiply: second parts count where they are asked for", second_parts},
      {"integers and one-hot rows have exact sums, and one part is enough for them", exact_sums},
      {"constant rows have a scatter of exactly zero", constants},
      {"padding rows contribute nothing, bit for bit", padding},
      {"a panel's product is the same alone and among others, bit for bit", panels_alone},
      {"add: any columns of a row of products join the state, the others stay", additions},
  });
}
