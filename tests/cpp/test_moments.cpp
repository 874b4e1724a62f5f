/// Streaming moments against a literal double loop in long double, and the laws of the state.

#include "netassay/stats/moments.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "check.hpp"

namespace {

using namespace netassay;
using Precision::exact;
using Precision::high;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class T>
std::vector<T> random_rows(index_t n, index_t d, double mean = 0, unsigned seed = 1) {
  std::mt19937_64 bits(seed);
  std::vector<T> x(static_cast<std::size_t>(n * d));
  for (T& value : x) value = static_cast<T>(mean + static_cast<double>(bits() >> 11) * 0x1p-52 - 1);
  return x;
}

template <class T>
MatrixView<const T> matrix(const std::vector<T>& x, index_t d) {
  return {x.data(), static_cast<index_t>(x.size()) / d, d};
}

template <class T>
Moments taken(const std::vector<T>& x, index_t d, Moments::Options options = {}, int threads = 1) {
  Moments m(d, options);
  m.update(matrix(x, d), nullptr, {threads, {}});
  return m;
}

struct Reference {
  std::vector<long double> mean, scatter;
};

template <class T>
Reference double_loop(const std::vector<T>& x, index_t d) {
  const auto n = static_cast<index_t>(x.size()) / d;
  const auto at = [&](index_t r, index_t j) {
    return static_cast<long double>(x[static_cast<std::size_t>(r * d + j)]);
  };
  Reference out{std::vector<long double>(static_cast<std::size_t>(d)),
                std::vector<long double>(static_cast<std::size_t>(d * d))};
  for (index_t j = 0; j < d; ++j) {
    long double& mean = out.mean[static_cast<std::size_t>(j)];
    for (index_t r = 0; r < n; ++r) mean += at(r, j);
    mean /= static_cast<long double>(n);
  }
  for (index_t i = 0; i < d; ++i) {
    for (index_t j = 0; j < d; ++j) {
      const long double mean_i = out.mean[static_cast<std::size_t>(i)], mean_j = out.mean[static_cast<std::size_t>(j)];
      long double& sum = out.scatter[static_cast<std::size_t>(i * d + j)];
      for (index_t r = 0; r < n; ++r) sum += (at(r, i) - mean_i) * (at(r, j) - mean_j);
    }
  }
  return out;
}

// Relative error in the Frobenius norm.
template <class Values, class Expected>
double error(const Values& got, const Expected& expected) {
  double square = 0, total = 0;
  for (std::size_t k = 0; k < expected.size(); ++k) {
    const auto e = static_cast<double>(expected[k]), difference = static_cast<double>(got[k] - expected[k]);
    square += difference * difference;
    total += e * e;
  }
  return std::sqrt(square / std::max(total, 1e-300));
}

// Bit for bit.
bool same(const Moments& a, const Moments& b) {
  const Moments::Parts p = a.parts(), q = b.parts();
  return p.width == q.width && p.folded == q.folded && p.nonfinite == q.nonfinite && p.pivot == q.pivot &&
         p.offset == q.offset && p.scatter == q.scatter && p.fourth == q.fourth && p.third == q.third &&
         p.waiting_narrow == q.waiting_narrow && p.waiting_wide == q.waiting_wide;
}

template <class T>
void compare_with_loop(index_t n, index_t d, Moments::Options options, double tolerance) {
  const std::vector<T> x = random_rows<T>(n, d, 3.0, static_cast<unsigned>(n + d));
  const Moments m = taken(x, d, options, 2);
  const Reference expected = double_loop(x, d);
  CHECK_EQUAL(m.count(), n);
  CHECK_NEAR(error(m.mean(), expected.mean), 0, 1e-14);
  CHECK_NEAR(error(m.scatter().values, expected.scatter), 0, tolerance);
}

void awkward_widths() {
  // float64: sums of n products in float64, a few n eps; float32: blocks of at most 1024 products, bar 2e-6
  for (const index_t d : {1, 2, 3, 15, 16, 17, 31, 33, 97, 127, 128, 129, 257}) {
    compare_with_loop<double>(37, d, {high}, 1e-13);
    compare_with_loop<float>(37, d, {high}, 2e-6);
    compare_with_loop<float>(37, d, {exact}, 1e-13);
  }
  for (const index_t d : {1, 33, 129}) {
    compare_with_loop<double>(2500, d, {high}, 1e-13);
    compare_with_loop<float>(2500, d, {high}, 2e-6);
  }
}

void symmetric_scatter() {
  const SquareMatrix s = taken(random_rows<float>(1500, 130), 130).scatter();
  for (index_t i = 0; i < s.d; ++i) {
    for (index_t j = 0; j < i; ++j) CHECK(s(i, j) == s(j, i));
  }
}

void large_mean() {
  constexpr index_t n = 3000, d = 8;
  const std::vector<float> x = random_rows<float>(n, d, 1e5);
  const Reference expected = double_loop(x, d);
  CHECK_NEAR(error(taken(x, d, {exact}).scatter().values, expected.scatter), 0, 1e-10);
  CHECK_NEAR(error(taken(x, d, {high}).scatter().values, expected.scatter), 0, 2e-6);
  std::vector<double> naive(d * d), sum(d);  // sum x x^T - n m m^T in float64 must fail the bar of `exact`
  for (index_t r = 0; r < n; ++r) {
    for (std::size_t i = 0; i < d; ++i) {
      const double xi = x[static_cast<std::size_t>(r * d) + i];
      sum[i] += xi;
      for (std::size_t j = 0; j < d; ++j) naive[i * d + j] += xi * x[static_cast<std::size_t>(r * d) + j];
    }
  }
  for (std::size_t k = 0; k < naive.size(); ++k) naive[k] -= sum[k / d] * sum[k % d] / n;
  CHECK(error(naive, expected.scatter) > 1e-10);
}

void batches_change_no_bit() {
  constexpr index_t n = 5000, d = 67;
  const std::vector<float> x = random_rows<float>(n, d, 2.0);
  for (const bool fourth : {false, true}) {
    const Moments whole = taken(x, d, {.fourth = fourth});
    for (const index_t batch : {1, 7, 1023, 1024, 1025, 4999}) {
      Moments m(d, {.fourth = fourth});
      for (index_t at = 0; at < n; at += batch) {
        m.update(MatrixView<const float>(x.data() + at * d, std::min(batch, n - at), d), nullptr, {1, {}});
      }
      CHECK(same(m, whole));
    }
  }
}

void threads_change_no_bit() {
  for (const index_t d : {5, 200, 400}) {
    const std::vector<float> x = random_rows<float>(5000, d, 2.0);
    const Moments one = taken(x, d, {.fourth = true});
    const SquareMatrix scatter = one.scatter({1, {}});
    for (const int threads : {2, 3, 7}) {
      CHECK(same(taken(x, d, {.fourth = true}, threads), one));
      CHECK(one.scatter({threads, {}}).values == scatter.values);
    }
  }
}

void masked_rows() {
  constexpr index_t n = 3000, d = 9;
  const std::vector<float> x = random_rows<float>(n, d);
  std::vector<unsigned char> mask;
  std::vector<float> kept;
  for (index_t r = 0; r < n; ++r) {
    mask.push_back(r % 3 == 1 ? 0 : static_cast<unsigned char>(1 + r % 200));
    if (mask.back()) kept.insert(kept.end(), x.begin() + r * d, x.begin() + (r + 1) * d);
  }
  Moments m(d);
  m.update(matrix(x, d), mask.data());
  CHECK(same(m, taken(kept, d)));
  std::fill(mask.begin(), mask.end(), 1);
  Moments all(d);
  all.update(matrix(x, d), mask.data());
  CHECK(same(all, taken(x, d)));
  std::fill(mask.begin(), mask.end(), 0);
  Moments none(d);
  none.update(matrix(x, d), mask.data());
  CHECK_EQUAL(none.count(), index_t{0});
}

void strides_change_no_bit() {
  constexpr index_t n = 1300, d = 21;
  const std::vector<double> x = random_rows<double>(n, d);
  const Moments expected = taken(x, d);
  std::vector<double> columns(x.size()), spread(x.size() * 6), backwards(x.size());
  for (index_t r = 0; r < n; ++r) {
    for (index_t j = 0; j < d; ++j) {
      const double value = x[static_cast<std::size_t>(r * d + j)];
      columns[static_cast<std::size_t>(j * n + r)] = value;
      spread[static_cast<std::size_t>(r * d * 6 + j * 3)] = value;
      backwards[static_cast<std::size_t>((n - 1 - r) * d + (d - 1 - j))] = value;
    }
  }
  const MatrixView<const double> views[] = {
      {columns.data(), n, d, 1, n},
      {spread.data(), n, d, d * 6, 3},
      {backwards.data() + n * d - 1, n, d, -d, -1},
  };
  for (const auto& view : views) {
    Moments m(d);
    m.update(view, nullptr, {2, {}});
    CHECK(same(m, expected));
  }
  const MatrixView<const double> repeated(x.data(), n, d, 0, 1);
  Moments constant(d);
  constant.update(repeated);
  CHECK_EQUAL(constant.count(), n);
  CHECK(constant.covariance().values == std::vector<double>(d * d));
}

void channels_first() {
  constexpr index_t N = 11, C = 19, H = 13, W = 10;
  const std::vector<float> maps = random_rows<float>(N * C * H, W);
  std::vector<float> rows;
  std::vector<unsigned char> mask;
  for (index_t i = 0; i < N; ++i) {
    for (index_t p = 0; p < H * W; ++p) {
      for (index_t c = 0; c < C; ++c) rows.push_back(maps[static_cast<std::size_t>((i * C + c) * H * W + p)]);
    }
  }
  const Axis axes[] = {{N, C * H * W}, {H, W}, {W, 1}};
  const RowsView<const float> view(maps.data(), axes, 3, {C, H * W});
  for (const int threads : {1, 2, 7}) {
    Moments m(C);
    m.update(view, nullptr, {threads, {}});
    CHECK(same(m, taken(rows, C)));
  }
  std::vector<float> kept;
  for (index_t r = 0; r < N * H * W; ++r) {
    mask.push_back(r % 2 == 0);
    if (r % 2 == 0) kept.insert(kept.end(), rows.begin() + r * C, rows.begin() + (r + 1) * C);
  }
  Moments m(C);
  m.update(view, mask.data());
  CHECK(same(m, taken(kept, C)));
}

template <class T>
void check_format() {
  constexpr index_t n = 2000, d = 13;
  std::mt19937_64 bits(3);
  std::vector<T> x;
  std::vector<float> widened;
  std::vector<double> wide;
  while (static_cast<index_t>(x.size()) < n * d) {
    const T value{static_cast<std::uint16_t>(bits())};
    if (!std::isfinite(widen(value)) || std::abs(widen(value)) > 1e4f) continue;
    x.push_back(value);
    widened.push_back(widen(value));
    wide.push_back(static_cast<double>(widen(value)));
  }
  CHECK(same(taken(x, d), taken(widened, d)));
  CHECK(same(taken(x, d, {exact}), taken(widened, d, {exact})));
  CHECK(same(taken(x, d, {exact}), taken(wide, d, {exact})));
}

void narrow_formats() {
  check_format<bf16>();
  check_format<f16>();
}

void nonfinite_rows() {
  constexpr index_t n = 3000, d = 70;
  std::vector<float> clean = random_rows<float>(n, d), dirty;
  index_t bad = 0;
  for (index_t r = 0; r < n; ++r) {
    if (r % 97 == 0 || r == n - 1) {
      std::vector<float> row(clean.begin(), clean.begin() + d);
      row[static_cast<std::size_t>(r % d)] = r % 2 ? kNaN : (r % 4 ? kInfinity : -kInfinity);
      dirty.insert(dirty.end(), row.begin(), row.end());
      ++bad;
    }
    dirty.insert(dirty.end(), clean.begin() + r * d, clean.begin() + (r + 1) * d);
  }
  const Moments expected = taken(clean, d);
  for (const index_t batch : {100, 1024, 10'000}) {
    Moments m(d);
    const auto total = static_cast<index_t>(dirty.size()) / d;
    for (index_t at = 0; at < total; at += batch) {
      m.update(MatrixView<const float>(dirty.data() + at * d, std::min(batch, total - at), d));
    }
    CHECK_EQUAL(m.count(), n);
    CHECK_EQUAL(m.nonfinite(), bad);
    CHECK(m.scatter().values == expected.scatter().values);
    CHECK(m.mean() == expected.mean());
  }
  // the largest float is finite, and so is what is made of it
  const std::vector<float> largest(4, std::numeric_limits<float>::max());
  const Moments m = taken(largest, 2, {exact});
  CHECK_EQUAL(m.nonfinite(), index_t{0});
  CHECK_EQUAL(m.mean()[0], static_cast<double>(std::numeric_limits<float>::max()));
}

void mixed_formats() {
  constexpr index_t d = 5;
  const std::vector<float> narrow = random_rows<float>(700, d);
  const std::vector<double> wide = random_rows<double>(900, d, 1.0, 2);
  std::vector<double> all(narrow.begin(), narrow.end());
  all.insert(all.end(), wide.begin(), wide.end());
  Moments m = taken(narrow, d);
  m.update(matrix(wide, d));
  CHECK_EQUAL(m.count(), index_t{1600});
  CHECK_NEAR(error(m.scatter().values, double_loop(all, d).scatter), 0, 2e-6);
}

void merge_laws() {
  constexpr index_t n = 7000, d = 40;
  const std::vector<float> x = random_rows<float>(n, d, 50.0);
  const auto part = [&](index_t first, index_t last) {
    return taken(std::vector<float>(x.begin() + first * d, x.begin() + last * d), d, {exact, true});
  };
  const Moments whole = part(0, n), a = part(0, 3000), b = part(3000, 3500), c = part(3500, n);
  const auto sum = [](Moments left, const Moments& right) {
    left.merge(right);
    return left;
  };
  const Moments empty(d, {exact, true});
  CHECK(same(sum(a, empty), a));
  CHECK(same(sum(empty, a), a));
  CHECK(same(sum(part(0, 500), part(500, 900)), part(0, 900)));  // rows that still wait are taken as they are
  for (const Moments& m : {sum(sum(a, b), c), sum(a, sum(b, c)), sum(sum(c, b), a)}) {
    CHECK_EQUAL(m.count(), n);
    CHECK_NEAR(error(m.scatter().values, whole.scatter().values), 0, 5e-12);
    CHECK_NEAR(error(m.mean(), whole.mean()), 0, 1e-14);
    CHECK_NEAR(m.fourth() / whole.fourth(), 1, 1e-11);
  }
  Moments twice = whole;
  twice.merge(twice);
  CHECK_EQUAL(twice.count(), 2 * n);
  CHECK_NEAR(error(twice.covariance().values, whole.covariance().values), 0, 1e-12);
}

void fourth_moments() {
  constexpr index_t n = 2500, d = 11;
  const std::vector<double> x = random_rows<double>(n, d, 4.0);
  const Reference r = double_loop(x, d);
  long double expected = 0;
  for (index_t i = 0; i < n; ++i) {
    long double square = 0;
    for (std::size_t j = 0; j < d; ++j) {
      const long double y = x[static_cast<std::size_t>(i * d) + j] - r.mean[j];
      square += y * y;
    }
    expected += square * square;
  }
  CHECK_NEAR(taken(x, d, {high, true}).fourth() / static_cast<double>(expected), 1, 1e-12);
}

void parts_continue() {
  constexpr index_t d = 33;
  const std::vector<float> first = random_rows<float>(1500, d), second = random_rows<float>(1500, d, 1.0, 2);
  for (const auto& options : {Moments::Options{high, false}, {high, true}, {exact, false}, {exact, true}}) {
    Moments m = taken(first, d, options);
    Moments again = Moments::from_parts(m.parts());
    CHECK(same(again, m));
    m.update(matrix(second, d));
    again.update(matrix(second, d));
    CHECK(same(again, m));
  }
  CHECK(same(Moments::from_parts(Moments(d).parts()), Moments(d)));
}

void copies() {
  constexpr index_t d = 6;
  Moments a = taken(random_rows<float>(1100, d), d);
  const Moments before = a;
  Moments b(a);
  b.update(matrix(random_rows<float>(50, d), d));
  CHECK(same(a, before) && !same(b, before));
  Moments c(std::move(b));
  a = c;
  CHECK(same(a, c));
}

void interrupted_update() {
  constexpr index_t d = 1024, n = 3 * 1024 + 100;
  const std::vector<float> first = random_rows<float>(300, d), rest = random_rows<float>(n, d, 0, 2);
  Moments m = taken(first, d);
  const Moments before = m;
  struct Stop : std::exception {};
  bool finished = false;
  for (int allowed = 0; !finished; allowed = allowed * 3 + 1) {
    int left = allowed;
    try {
      m.update(matrix(rest, d), nullptr, {2, [&] {
                                            if (left-- == 0) throw Stop();
                                          }});
      finished = true;
    } catch (const Stop&) {
      CHECK(same(m, before));
    }
  }
  Moments expected = before;
  expected.update(matrix(rest, d), nullptr, {2, {}});
  CHECK(same(m, expected));
}

void few_rows() {
  const Moments empty(3);
  CHECK_EQUAL(empty.count(), index_t{0});
  CHECK(empty.mean() == std::vector<double>(3) && empty.scatter().values == std::vector<double>(9));
  Moments one(3);
  one.update(MatrixView<const float>(nullptr, 0, 3));
  CHECK_EQUAL(one.count(), index_t{0});
  const std::vector<float> row{1, 2, 3};
  one.update(matrix(row, 3));
  CHECK(one.mean() == std::vector<double>({1, 2, 3}) && one.covariance().values == std::vector<double>(9));
}

void errors() {
  const std::vector<float> x = random_rows<float>(10, 4);
  Moments m = taken(x, 4);
  const Moments before = m;
  CHECK_THROWS(Moments(0), ShapeError, "Moments: got width 0, expected at least 1");
  CHECK_THROWS(Moments(-3), ShapeError, "Moments: got width -3");
  CHECK_THROWS(Moments(100'000, {.memory = 1e9}), LimitExceeded, "Moments: got width 100000, which needs 40");
  CHECK_THROWS(m.update(matrix(x, 5)), ShapeError, "Moments.update: got rows of width 5, expected 4");
  CHECK_THROWS(m.update(matrix(x, 4), nullptr, {-1, {}}), ValueError, "threads: got -1, expected at least 1");
  CHECK_THROWS(m.merge(Moments(5)), ShapeError, "Moments.merge: got width 5, expected 4");
  CHECK_THROWS(m.merge(Moments(4, {exact})), ValueError, "Moments.merge: got another precision");
  CHECK_THROWS(m.merge(Moments(4, {high, true})), ValueError, "Moments.merge: got fourth=1, expected fourth=0");
  CHECK_THROWS(m.covariance(10), TooFewRows, "Moments.covariance: got 10 rows with ddof=10, expected more than 10");
  CHECK_THROWS(m.covariance(-1), ValueError, "Moments.covariance: got ddof=-1, expected at least 0");
  CHECK_THROWS(Moments(4).covariance(), TooFewRows, "Moments.covariance: got 0 rows");
  CHECK_THROWS(m.fourth(), ValueError, "Moments.fourth: got a state that does not keep it");
  CHECK(same(m, before));
}

void bad_parts() {
  const auto broken = [](auto&& change) {
    Moments::Parts p = taken(random_rows<float>(1500, 4), 4).parts();
    change(p);
    return p;
  };
  const auto from = [](const Moments::Parts& p) { return Moments::from_parts(p); };
  CHECK_THROWS(from(broken([](auto& p) { p.width = 5; })), ShapeError, "Moments.from_parts: got pivot, offset");
  CHECK_THROWS(from(broken([](auto& p) { p.scatter.pop_back(); })), ShapeError, "Moments.from_parts");
  CHECK_THROWS(from(broken([](auto& p) { p.waiting_narrow.pop_back(); })), ShapeError, "whole rows of one kind");
  CHECK_THROWS(from(broken([](auto& p) { p.waiting_narrow.resize(4 * 1024); })), ShapeError, "fewer than 1024");
  CHECK_THROWS(from(broken([](auto& p) { p.waiting_wide.resize(4); })), ShapeError, "whole rows of one kind");
  CHECK_THROWS(from(broken([](auto& p) { p.folded = -1; })), ValueError, "Moments.from_parts: got counts -1");
  CHECK_THROWS(from(broken([](auto& p) { p.width = 0; })), ShapeError, "Moments: got width 0");
  CHECK_THROWS(from(broken([](auto& p) { p.offset[1] = kNaN; })), NonFinite, "Moments.from_parts: got a NaN");
  CHECK_THROWS(from(broken([](auto& p) { p.waiting_narrow[0] = kInfinity; })), NonFinite, "Moments.from_parts");
  CHECK_THROWS(from(broken([](auto& p) { p.scatter[5] = -1; })), ValueError,
               "got a scatter with -1 at 1 of its diagonal");
}

}  // namespace

int main() {
  return check::run({
      {"mean and scatter equal the double loop at awkward widths", awkward_widths},
      {"the scatter matrix is symmetric", symmetric_scatter},
      {"a large mean costs no accuracy; the naive formula loses it", large_mean},
      {"batch boundaries change no bit", batches_change_no_bit},
      {"the number of threads changes no bit", threads_change_no_bit},
      {"a mask leaves rows out as if they were not there", masked_rows},
      {"strides of any sign change no bit", strides_change_no_bit},
      {"channels-first maps equal their rows", channels_first},
      {"bfloat16 and half rows equal their widened rows", narrow_formats},
      {"a row with a NaN or an infinity is left out, counted, and changes no bit", nonfinite_rows},
      {"float64 rows may follow float32 rows", mixed_formats},
      {"merging is associative and commutative, and the empty state is neutral", merge_laws},
      {"fourth moments equal the double loop", fourth_moments},
      {"a state made again from its parts continues bit for bit", parts_continue},
      {"copies are states of their own", copies},
      {"an update that its poll stops leaves the state as it was", interrupted_update},
      {"no rows and one row are defined", few_rows},
      {"what does not fit is refused, and the state is unchanged", errors},
      {"parts that do not fit together are refused", bad_parts},
  });
}
