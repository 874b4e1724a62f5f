/// Link weights: the kernels of every instruction set on memory that ends at a guard page, merges, domains, threads.

#include "netassay/network.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <numeric>
#include <random>
#include <type_traits>
#include <vector>

#include "check.hpp"
#include "guard.hpp"
#include "netassay/base/cpu.hpp"
#include "network/kernel.hpp"

namespace {

using namespace netassay;
using guard::expect;
using guard::Guarded;
using network::ColumnSums;
using network::kTable;
using network::kTables;
using network::kTogether;
using network::Powers;
using network::SumKernel;
using network::SumKernels;
using network::Sums;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const std::vector<guard::Named<SumKernels>> kAll{{"baseline", Isa::baseline, &network::kSumsBaseline},
#if defined(__x86_64__)
                                                 {"avx2", Isa::avx2, &network::kSumsAvx2},
                                                 {"avx512", Isa::avx512, &network::kSumsAvx512}
#endif
};

const std::vector<index_t> kSizes{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 97, 255, 256};

/// Integers up to 7, or 14: every sum is exact, whatever the order.
template <class T>
T integer(std::mt19937& bits) {
  return static_cast<T>(static_cast<int>(bits() % 15) - (std::is_unsigned_v<T> ? 0 : 7));
}

/// Rows that each end at a guard page, their columns, and what both come to.
template <class T, class Column>
struct Side {
  index_t n;
  std::deque<Guarded<T>> memory;
  std::vector<const T*> rows;
  Guarded<Column> plain, absolute, square;
  std::vector<Sums> got, expected;
  std::vector<Column> columns;
  std::vector<std::uint32_t> counts;

  Side(int count, index_t width, std::mt19937& bits)
      : n(width),
        plain(n, 1),
        absolute(n, 1),
        square(n, 1),
        got(static_cast<std::size_t>(count), {2, 3, 4}),
        expected(got),
        columns(static_cast<std::size_t>(3 * n), 1),
        counts(kTables * kTable) {
    const auto size = static_cast<std::size_t>(n);
    for (int r = 0; r < count; ++r) {
      T* row = memory.emplace_back(n).data();
      rows.push_back(row);
      for (std::size_t j = 0; j < size; ++j) {
        const double w = row[j] = integer<T>(bits);
        Sums& to = expected[static_cast<std::size_t>(r)];
        to = {to.plain + w, to.absolute + std::abs(w), to.square + w * w};
        columns[j] += static_cast<Column>(w);
        columns[size + j] += static_cast<Column>(std::abs(w));
        columns[2 * size + j] += static_cast<Column>(w * w);
      }
    }
  }
  void check_sums(const char* what) {
    const auto size = static_cast<std::size_t>(n);
    bool right = std::memcmp(got.data(), expected.data(), got.size() * sizeof(Sums)) == 0;
    for (std::size_t j = 0; j < size; ++j) {
      right = right && plain.data()[j] == columns[j] && absolute.data()[j] == columns[size + j] &&
              square.data()[j] == columns[2 * size + j];
    }
    expect(right, what, " of ", rows.size(), " rows of ", n);
  }
  /// of(T): the key of a weight.
  template <class Of>
  void check_counts(const char* what, const Of& of) {
    std::vector<std::uint32_t> right(65536);
    for (const T* row : rows) {
      for (index_t j = 0; j < n; ++j) ++right[of(row[j])];
    }
    for (std::size_t t = 0; t < counts.size(); t += kTable) {
      for (std::size_t k = 0; k < right.size(); ++k) right[k] -= counts[t + k];
    }
    expect(std::count(right.begin(), right.end(), 0u) == 65536, what, " of ", rows.size(), " rows of ", n);
  }
};

/// Calls body(count, n) for every number of rows and every size.
template <class Body>
void each_side(const Body& body) {
  for (const index_t n : kSizes) {
    for (int count = 1; count <= kTogether; ++count) body(count, n);
  }
}

template <class T, class Bits>
void sums_of(const SumKernel<T>& kernel) {
  std::mt19937 bits(1);
  each_side([&](int count, index_t n) {
    Side<T, double> alone(count, n, bits), with(count, n, bits);
    const auto columns = [](auto& of) { return ColumnSums{of.plain.data(), of.absolute.data(), of.square.data()}; };
    kernel.sums(alone.rows.data(), count, n, columns(alone), alone.got.data());
    alone.check_sums("sums");
    const Powers got = kernel.survey(with.rows.data(), count, n, columns(with), with.got.data(), with.counts.data());
    with.check_sums("sums of a survey");
    with.check_counts("counts of a survey",
                      [](T w) { return static_cast<std::size_t>(network::leading(std::bit_cast<Bits>(w))); });
    Powers expected{0, 0, 0, 0, kInfinity, -kInfinity, 0, 0};
    for (const T* row : with.rows) {
      for (index_t j = 0; j < n; ++j) {
        const double w = row[j];
        expected.third += w * w * w;
        expected.fourth += w * w * w * w;
        expected.least = std::min(expected.least, w);
        expected.most = std::max(expected.most, w);
        expected.zeros += w == 0;
        expected.positives += w > 0;
      }
    }
    expect(std::memcmp(&got, &expected, sizeof got) == 0, "powers of a survey of ", count, " rows of ", n);
  });
}

template <class T>
void integer_sums_of(const network::IntegerKernel<T>& kernel) {
  std::mt19937 bits(4);
  each_side([&](int count, index_t n) {
    Side<T, std::int32_t> alone(count, n, bits), with(count, n, bits);
    for (auto* of : {&alone, &with}) {
      kernel.sums(of->rows.data(), count, n, {of->plain.data(), of->absolute.data(), of->square.data()}, of->got.data(),
                  of == &with ? of->counts.data() : nullptr);
      of->check_sums("sums of integers");
    }
    with.check_counts("counts of integers", [](T w) { return std::size_t{std::bit_cast<std::uint8_t>(w)}; });
  });
}

void sums_of_keys(const SumKernels& tables) {
  std::mt19937 bits(5);
  each_side([&](int count, index_t n) {
    Side<float, double> side(count, n, bits);
    std::deque<Guarded<std::uint16_t>> memory;
    std::vector<const std::uint16_t*> keys;
    for (const float* row : side.rows) {
      std::uint16_t* to = memory.emplace_back(n).data();
      keys.push_back(to);
      for (index_t j = 0; j < n; ++j) to[j] = static_cast<std::uint16_t>(row[j] + 100);
    }
    tables.sums_of_keys(side.rows.data(), keys.data(), count, n,
                        {side.plain.data(), side.absolute.data(), side.square.data()}, side.got.data(),
                        side.counts.data());
    side.check_sums("sums beside keys");
    side.check_counts("counts of keys", [](float w) { return static_cast<std::size_t>(w + 100); });
  });
}

void sums() {
  guard::each_kernel(kAll, [](const SumKernels& tables) {
    sums_of<double, std::uint64_t>(tables.f64);
    sums_of<float, std::uint32_t>(tables.f32);
    sums_of_keys(tables);
  });
}

void integer_sums() {
  guard::each_kernel(kAll, [](const SumKernels& tables) {
    integer_sums_of(tables.i8);
    integer_sums_of(tables.u8);
  });
}

template <class T, class Bits>
void powers_of(const SumKernel<T>& kernel) {
  std::mt19937 bits(2);
  std::vector<std::uint32_t> counts(kTables * kTable), expected_counts(65536);
  for (const index_t n : kSizes) {
    Guarded<T> run(n);
    Powers expected{0, 0, 0, 0, kInfinity, -kInfinity, 0, 0};
    for (index_t j = 0; j < n; ++j) {
      const double w = run.data()[j] = integer<T>(bits), d = w - 1;
      expected.first += d;
      expected.second += d * d;
      expected.third += d * d * d;
      expected.fourth += d * d * d * d;
      expected.least = std::min(expected.least, w);
      expected.most = std::max(expected.most, w);
      expected.zeros += w == 0;
      expected.positives += w > 0;
      ++expected_counts[network::leading(std::bit_cast<Bits>(static_cast<T>(w)))];
    }
    const Powers got = kernel.powers(run.data(), n, 1, 1, counts.data()),
                 again = kernel.powers(run.data(), n, 1, 1, nullptr);
    expect(std::memcmp(&got, &expected, sizeof got) == 0, "powers of ", n);
    expect(std::memcmp(&again, &expected, sizeof got) == 0, "powers of ", n, " without counts");
  }
  bool same = true;
  for (std::size_t k = 0; k < expected_counts.size(); ++k) {
    std::uint32_t found = 0;
    for (std::size_t t = 0; t < counts.size(); t += kTable) found += counts[t + k];
    same = same && found == expected_counts[k];
  }
  expect(same, "counts");
}

void powers() {
  guard::each_kernel(kAll, [](const SumKernels& tables) {
    powers_of<double, std::uint64_t>(tables.f64);
    powers_of<float, std::uint32_t>(tables.f32);
  });
}

void widening() {
  guard::each_kernel(kAll, [](const SumKernels& tables) {
    std::vector<std::uint16_t> all(65536);
    std::iota(all.begin(), all.end(), std::uint16_t{0});
    std::vector<float> brain(all.size()), half(all.size());
    tables.widen_bf16(all.data(), 65536, brain.data());
    tables.widen_f16(all.data(), 65536, half.data());
    bool same = true;
    for (const std::uint16_t k : all) {
      same = same && std::bit_cast<std::uint32_t>(brain[k]) == std::bit_cast<std::uint32_t>(widen(bf16{k})) &&
             std::bit_cast<std::uint32_t>(half[k]) == std::bit_cast<std::uint32_t>(widen(f16{k}));
    }
    expect(same, "widening of every number");
    for (const index_t n : kSizes) {
      Guarded<std::uint16_t> bits(n, 0x3c00);
      Guarded<float> to(n);
      tables.widen_f16(bits.data(), n, to.data());
      expect(std::count(to.data(), to.data() + n, 1.0f) == n, "widening of ", n);
    }
  });
}

std::vector<double> random(index_t count) {
  std::mt19937_64 bits(3);
  std::lognormal_distribution<double> draw(0, 2);
  std::vector<double> x(static_cast<std::size_t>(count));
  for (double& value : x) value = draw(bits) - 1;
  return x;
}

LinkSurvey of(const std::vector<double>& x, index_t rows, int threads = 1) {
  return link_survey(MatrixView<const double>(x.data(), rows, static_cast<index_t>(x.size()) / rows), {},
                     {threads, {}});
}

void known_answers() {
  const LinkSurvey got = of({0, 1, 2, 5}, 2);
  const LinkStatistics& links = got.statistics;
  CHECK(links.count == 4 && links.zeros == 1 && links.minimum == 0 && links.maximum == 5);
  CHECK_EQUAL(links.mean(), 2.0);
  CHECK_EQUAL(links.variance(), 3.5);
  CHECK_NEAR(links.skewness(), 4.5 / std::pow(3.5, 1.5), 1e-15);
  CHECK_NEAR(links.kurtosis(), 24.5 / 3.5 / 3.5 - 3, 1e-15);
  CHECK((got.rows.sum == std::vector<double>{1, 7} && got.columns.square == std::vector<double>{4, 26}));
  CHECK((got.rows.absolute == std::vector<double>{1, 7} && got.columns.sum == std::vector<double>{2, 6}));
}

void merging() {
  const std::vector<double> x = random(600);
  const LinkStatistics whole = of(x, 20).statistics;
  LinkStatistics parts;
  for (std::size_t first = 0; first < 600; first += 150) {
    parts.merge(
        of({x.begin() + static_cast<index_t>(first), x.begin() + static_cast<index_t>(first) + 150}, 5).statistics);
  }
  CHECK(parts.count == whole.count && parts.minimum == whole.minimum && parts.maximum == whole.maximum);
  CHECK(parts.density == whole.density);
  CHECK_EQUAL(parts.quantile(0.3), whole.quantile(0.3));
  CHECK_NEAR(parts.variance() / whole.variance(), 1, 1e-13);
  CHECK_NEAR(parts.kurtosis() / whole.kurtosis(), 1, 1e-12);
  LinkStatistics same = whole;
  same.merge({});
  CHECK(same.fourth == whole.fourth && same.bins.size() == whole.bins.size());
}

void threads() {
  const std::vector<double> x = random(900 * 1300);
  const LinkSurvey one = of(x, 900);
  for (const int count : {2, 3, 7}) {
    const LinkSurvey other = of(x, 900, count);
    CHECK(other.statistics.fourth == one.statistics.fourth &&
          other.statistics.quantile(0.1) == one.statistics.quantile(0.1));
    CHECK(other.rows.sum == one.rows.sum && other.columns.square == one.columns.square);
  }
}

Distribution streamed(const std::vector<double>& x, index_t parts, int threads = 1) {
  Distribution out;
  const auto n = static_cast<index_t>(x.size()) / parts;
  for (index_t k = 0; k < parts; ++k) {
    out.update(RowsView<const double>(MatrixView<const double>(x.data() + k * n, 1, n)), {threads, {}});
  }
  return out;
}

void streams() {
  std::vector<double> x = random(1'200'000);
  const LinkStatistics whole = of(x, 20).statistics, one = streamed(x, 1).statistics();
  for (const int count : {2, 3, 7}) CHECK(streamed(x, 1, count).statistics().fourth == one.fourth);
  Distribution parts = streamed(x, 6);
  CHECK(parts.count() == whole.count && parts.statistics().minimum == whole.minimum);
  CHECK(parts.statistics().density == whole.density && one.quantile(0.3) == parts.statistics().quantile(0.3));
  CHECK_NEAR(parts.statistics().kurtosis() / whole.kurtosis(), 1, 1e-12);
  const std::vector<double> bad{1, kNaN, kInfinity, 2};
  parts.merge(streamed(bad, 1));
  CHECK(parts.count() == whole.count + 2 && parts.nonfinite() == 2);
  const Distribution::Parts taken = parts.parts();
  CHECK(Distribution::from_parts(taken).statistics().third == parts.statistics().third);
  Distribution same = parts;
  CHECK_THROWS(same.update(RowsView<const double>(MatrixView<const double>(x.data(), 1, 1'200'000)),
                           {1, [] { throw ValueError("stop"); }}),
               ValueError, "stop");
  CHECK(same.count() == parts.count() && same.parts().counts == taken.counts);
}

void domains() {
  CHECK_THROWS(of({}, 1), ShapeError, "link_survey: got a weight of shape (1, 0), expected (out, in)");
  CHECK_THROWS(of({1, 2, 3, kNaN, 5, kInfinity}, 3), NonFinite, "link_survey: got nan at [1, 1], expected finite");
  CHECK_THROWS(of({1}, 1).statistics.quantile(1.5), ValueError, "quantile: got 1.5, expected a share from 0 to 1");
  CHECK_THROWS(LinkStatistics{}.quantile(0.5), TooFewRows, "quantile: got no links");
  const LinkStatistics huge = of({1e300, -1e300, 1e300, 5e299}, 2).statistics;
  CHECK_NEAR(huge.skewness(), of({1, -1, 1, 0.5}, 2).statistics.skewness(), 1e-14);
}

}  // namespace

int main() {
  guard::report_faults();
  return check::run({
      {"sums of rows and columns, of any length, side by side or not", sums},
      {"sums and counts of integers", integer_sums},
      {"powers, extremes, zeros and counts of a run of any length", powers},
      {"widening is that of base/scalar, for every number", widening},
      {"four links and their sums", known_answers},
      {"parts merge into the whole", merging},
      {"threads change nothing", threads},
      {"a stream is its parts; what is not finite is left out; what throws changes nothing", streams},
      {"what is refused, and what is huge", domains},
  });
}
