/// How often units switch: the kernels of every instruction set on memory that ends at a guard page, every number of
/// two bytes, layouts, merges, failure.

#include "netassay/complexity.hpp"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "check.hpp"
#include "complexity/kernels.hpp"
#include "guard.hpp"
#include "netassay/base/cpu.hpp"

namespace {

using namespace netassay;
using complexity::Above;
using complexity::CountKernel;
using complexity::kTogether;
using guard::expect;
using guard::Guarded;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const std::vector<guard::Named<complexity::Kernels>> kAll{{"baseline", Isa::baseline, &complexity::kCountsBaseline},
#if defined(__x86_64__)
                                                          {"avx2", Isa::avx2, &complexity::kCountsAvx2},
                                                          {"avx512", Isa::avx512, &complexity::kCountsAvx512}
#endif
};

template <class U>
const CountKernel<U>& of(const complexity::Kernels& tables) {
  if constexpr (sizeof(U) == 8) {
    return tables.eight;
  } else if constexpr (sizeof(U) == 4) {
    return tables.four;
  } else {
    return tables.two;
  }
}

const std::vector<index_t> kSizes{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 255, 256};
const std::vector<double> kThresholds{0, 0.75, -0.75};

/// Numbers that any format has; one in four is a zero, a NaN or an infinity.
template <class T>
T number(std::mt19937& bits) {
  static const double values[] = {0, -0.0, kNaN, -kNaN, kInfinity, -kInfinity};
  const unsigned draw = bits();
  const double x = draw % 4 == 0 ? values[draw / 4 % 6] : static_cast<double>(static_cast<int>(draw / 4 % 15) - 7) / 4;
  if constexpr (sizeof(T) >= 4) {
    return static_cast<T>(x);
  } else {  // a quarter's multiples up to 2 lose nothing in the upper half of a float32
    const auto wide = std::bit_cast<std::uint32_t>(static_cast<float>(x));
    return bf16{static_cast<std::uint16_t>(wide >> 16)};
  }
}

template <class T>
bool is_zero(T x) {
  return static_cast<double>(widen(x)) == 0;
}
template <class T>
bool is_nan(T x) {
  return std::isnan(static_cast<double>(widen(x)));
}

template <class T>
void runs_of(const complexity::Kernels& tables) {
  using U = complexity::Bits<T>;
  std::mt19937 bits(1);
  for (const double threshold : kThresholds) {
    const Above<U> above = complexity::above<T>(threshold);
    for (const index_t n : kSizes) {
      for (const index_t runs : {1, 3}) {
        const index_t step = n + 1;
        Guarded<T> x((runs - 1) * step + n);
        for (index_t j = 0; j < x.size(); ++j) x[j] = number<T>(bits);
        Guarded<std::uint32_t> on(runs, 5);
        Guarded<std::int64_t> zero(runs, 6), nan(runs, 7);
        Guarded<U> counts(runs * n, 8);
        const auto* const from = reinterpret_cast<const U*>(x.data());
        of<U>(tables).runs(from, runs, step, n, above, {on.data(), zero.data(), nan.data()}, counts.data(), n, {});
        of<U>(tables).runs(from, runs, step, n, above, {on.data(), zero.data(), nan.data()}, nullptr, 0, {});
        bool right = true;
        for (index_t r = 0; r < runs; ++r) {
          std::uint32_t ons = 5;
          std::int64_t zeros = 6, nans = 7;
          for (index_t j = 0; j < n; ++j) {
            const T value = x[r * step + j];
            const bool is = static_cast<double>(widen(value)) > threshold;
            ons += is ? 2 : 0;
            zeros += is_zero(value) ? 2 : 0;
            nans += is_nan(value) ? 2 : 0;
            right = right && counts[r * n + j] == U{8} + is;
          }
          right = right && on[r] == ons && zero[r] == zeros && nan[r] == nans;
        }
        expect(right, runs, " runs of ", n, " numbers of ", sizeof(T), " bytes above ", threshold);
      }
    }
  }
}

void runs() {
  guard::each_kernel(kAll, [](const complexity::Kernels& tables) {
    runs_of<double>(tables);
    runs_of<float>(tables);
    runs_of<bf16>(tables);
  });
}

template <class T>
void columns_of(const complexity::Kernels& tables) {
  using U = complexity::Bits<T>;
  std::mt19937 bits(2);
  for (const double threshold : kThresholds) {
    const Above<U> above = complexity::above<T>(threshold);
    for (const index_t n : kSizes) {
      for (index_t rows = 1; rows <= kTogether; ++rows) {
        std::vector<std::unique_ptr<Guarded<T>>> x;
        std::vector<const U*> starts;
        for (index_t r = 0; r < rows; ++r) {
          x.push_back(std::make_unique<Guarded<T>>(n));
          for (index_t j = 0; j < n; ++j) (*x.back())[j] = number<T>(bits);
          starts.push_back(reinterpret_cast<const U*>(x.back()->data()));
        }
        Guarded<U> on(n, 5), zero(n, 6), nan(n, 7), counts(rows * n, 8);
        const complexity::Lines<U> lines{on.data(), zero.data(), nan.data()};
        of<U>(tables).columns(starts.data(), rows, n, 1 << 20, above, lines, counts.data(), n, {});
        of<U>(tables).columns(starts.data(), rows, n, 0, above, lines, nullptr, 0, {});
        bool right = true;
        for (index_t j = 0; j < n; ++j) {
          U ons = 5, zeros = 6, nans = 7;
          for (index_t r = 0; r < rows; ++r) {
            const T value = (*x[static_cast<std::size_t>(r)])[j];
            const bool is = static_cast<double>(widen(value)) > threshold;
            ons = static_cast<U>(ons + (is ? 2 : 0));
            zeros = static_cast<U>(zeros + (is_zero(value) ? 2 : 0));
            nans = static_cast<U>(nans + (is_nan(value) ? 2 : 0));
            right = right && counts[r * n + j] == U{8} + is;
          }
          right = right && on[j] == ons && zero[j] == zeros && nan[j] == nans;
        }
        expect(right, rows, " rows of ", n, " numbers of ", sizeof(T), " bytes above ", threshold);
      }
    }
  }
}

void columns() {
  guard::each_kernel(kAll, [](const complexity::Kernels& tables) {
    columns_of<double>(tables);
    columns_of<float>(tables);
    columns_of<bf16>(tables);
  });
}

template <class T>
const CountKernel<complexity::Bits<T>>& summing(const complexity::Kernels& tables) {
  if constexpr (sizeof(T) == 8) {
    return tables.float64;
  } else if constexpr (sizeof(T) == 4) {
    return tables.float32;
  } else if constexpr (std::is_same_v<T, bf16>) {
    return tables.bfloat16;
  } else {
    return tables.float16;
  }
}

/// Multiples of a quarter, whose sums are exact, about 0.25: of runs, and of columns that are the runs' numbers.
template <class T>
void sums_of(const complexity::Kernels& tables) {
  using U = complexity::Bits<T>;
  std::mt19937 bits(5);
  const Above<U> above = complexity::above<T>(0);
  const U pivot = sizeof(T) == 8   ? static_cast<U>(std::bit_cast<std::uint64_t>(0.25))
                  : sizeof(T) == 4 ? static_cast<U>(std::bit_cast<std::uint32_t>(0.25f))
                                   : static_cast<U>(std::is_same_v<T, bf16> ? 0x3e80 : 0x3400);
  const auto number_of = [&]() -> T {
    if constexpr (!std::is_same_v<T, f16>) {
      return number<T>(bits);
    } else {  // multiples of a quarter from 1 to 1.75 and 2^-15, a denormal; zeros, infinities, NaNs
      static const std::uint16_t values[] = {0x3c00, 0x3d00, 0xbe00, 0x3f00, 0xbc00, 0,
                                             0x8000, 0x7c00, 0xfc00, 0x7e00, 0x0200, 0x8200};
      return T{values[bits() % 12]};
    }
  };
  for (const index_t n : kSizes) {
    for (index_t rows = 1; rows <= kTogether; ++rows) {
      Guarded<T> x(rows * n);
      for (index_t j = 0; j < x.size(); ++j) x[j] = number_of();
      const auto* const from = reinterpret_cast<const U*>(x.data());
      // every row a run
      Guarded<U> of_runs(rows, pivot), of_columns(n, pivot), totals(3 * n, 0);
      Guarded<double> sum(rows, 1), square(rows, 2), column_sum(n, 1), column_square(n, 2);
      Guarded<std::uint32_t> left_out(rows, 3), column_left_out(n, 3), on(rows, 0);
      Guarded<std::int64_t> zero(rows, 0), nan(rows, 0);
      summing<T>(tables).runs(from, rows, n, n, above, {on.data(), zero.data(), nan.data()}, nullptr, 0,
                              {of_runs.data(), sum.data(), square.data(), left_out.data()});
      std::vector<const U*> starts;
      for (index_t r = 0; r < rows; ++r) starts.push_back(from + r * n);
      summing<T>(tables).columns(starts.data(), rows, n, 0, above,
                                 {totals.data(), totals.data() + n, totals.data() + 2 * n}, nullptr, 0,
                                 {of_columns.data(), column_sum.data(), column_square.data(), column_left_out.data()});
      bool right = true;
      const auto is = [&](index_t first, index_t step, index_t count, double s, double q, std::uint32_t left) {
        double sums = 1, squares = 2;
        std::uint32_t lefts = 3;
        for (index_t k = 0; k < count; ++k) {
          const auto value = static_cast<double>(widen(x[first + k * step]));
          lefts += !std::isfinite(value);
          if (!std::isfinite(value)) continue;
          sums += value - 0.25;
          squares += (value - 0.25) * (value - 0.25);
        }
        right = right && s == sums && q == squares && left == lefts;
      };
      for (index_t r = 0; r < rows; ++r) is(r * n, 1, n, sum[r], square[r], left_out[r]);
      for (index_t j = 0; j < n; ++j) is(j, n, rows, column_sum[j], column_square[j], column_left_out[j]);
      expect(right, "sums of ", rows, " x ", n, " numbers of ", sizeof(T), " bytes");
    }
  }
}

void sums() {
  guard::each_kernel(kAll, [](const complexity::Kernels& tables) {
    sums_of<double>(tables);
    sums_of<float>(tables);
    sums_of<bf16>(tables);
    sums_of<f16>(tables);
  });
}

template <class T>
void windows_of(const complexity::Kernels& tables) {
  using U = complexity::Bits<T>;
  using S = complexity::signed_of<U>;
  std::mt19937 bits(6);
  const std::vector<index_t> numbers{0, 1, 3, 4};  // the third place of five lies outside
  for (const index_t n : {complexity::kWindowUnits<U>, 3 * complexity::kWindowUnits<U>}) {
    Guarded<T> x(4 * n);
    for (index_t j = 0; j < x.size(); ++j) x[j] = number<T>(bits);
    std::vector<complexity::Place> places;
    for (const index_t number : numbers) places.push_back({static_cast<index_t>(places.size()) * n, number});
    Guarded<U> totals(4 * n, 5), counts(4 * n, 6), nan(n, 7);
    const auto* const from = reinterpret_cast<const U*>(x.data());
    const auto infinity = static_cast<S>(complexity::kInfinity<T>);
    of<U>(tables).window(from, places.data(), 4, 5, n, infinity, totals.data(), counts.data(), nan.data());
    of<U>(tables).window(from, places.data(), 4, 5, n, infinity, totals.data(), nullptr, nan.data());
    bool right = true;
    for (index_t j = 0; j < n; ++j) {
      index_t found = 0;
      double most = kNaN;
      bool any = false;
      for (std::size_t p = 0; p < 4; ++p) {
        const auto value = static_cast<double>(widen(x[static_cast<index_t>(p) * n + j]));
        any = any || std::isnan(value);
        if (std::isnan(value) || value <= most) continue;
        most = value;
        found = numbers[p];
      }
      right = right && nan[j] == U{7} + 2 * any;
      for (index_t k = 1; k < 5; ++k) {
        right = right && totals[(k - 1) * n + j] == U{5} + 2 * (found == k);
        right = right && counts[(k - 1) * n + j] == U{6} + (found == k);
      }
    }
    expect(right, "windows of ", n, " units of ", sizeof(T), " bytes");
  }
}

void windows() {
  guard::each_kernel(kAll, [](const complexity::Kernels& tables) {
    windows_of<double>(tables);
    windows_of<float>(tables);
    windows_of<bf16>(tables);
  });
}

template <class T>
void signs_of(const complexity::Kernels& tables) {
  using U = complexity::Bits<T>;
  std::mt19937 bits(3);
  for (const double threshold : kThresholds) {
    for (const index_t n : kSizes) {
      Guarded<T> x(n);
      for (index_t j = 0; j < n; ++j) x[j] = number<T>(bits);
      Guarded<unsigned char> packed((n + 7) / 8);
      of<U>(tables).signs(reinterpret_cast<const U*>(x.data()), n, complexity::above<T>(threshold), packed.data());
      bool right = true;
      for (index_t j = 0; j < 8 * packed.size(); ++j) {
        const bool is = j<n&& static_cast<double>(widen(x[j]))> threshold;
        right = right && (packed[j / 8] >> (j % 8) & 1) == is;
      }
      expect(right, "signs of ", n, " numbers of ", sizeof(T), " bytes above ", threshold);
    }
  }
}

void signs() {
  guard::each_kernel(kAll, [](const complexity::Kernels& tables) {
    signs_of<double>(tables);
    signs_of<float>(tables);
    signs_of<bf16>(tables);
  });
}

/// Every number of two bytes above thresholds between, on and beyond all of them.
template <class T>
void all_numbers_of(const complexity::Kernels& tables) {
  std::vector<T> x(65536);
  for (std::size_t k = 0; k < x.size(); ++k) x[k] = T{static_cast<std::uint16_t>(k)};
  for (const double threshold :
       {0.0, -0.0, 1.0, -1.0, 0.3, -0.3, 6e-8, -6e-8, 1e-42, -1e-42, 65504.0, -65504.0, 7e4, -7e4, 1e300, -1e300}) {
    std::vector<unsigned char> packed(8192);
    tables.two.signs(reinterpret_cast<const std::uint16_t*>(x.data()), 65536, complexity::above<T>(threshold),
                     packed.data());
    index_t wrong = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      wrong += (packed[k / 8] >> (k % 8) & 1) != (static_cast<double>(widen(x[k])) > threshold);
    }
    expect(wrong == 0, wrong, " numbers on the wrong side of ", threshold);
  }
}

void all_numbers() {
  guard::each_kernel(kAll, [](const complexity::Kernels& tables) {
    all_numbers_of<bf16>(tables);
    all_numbers_of<f16>(tables);
  });
}

ActivationsView<const float> maps(const std::vector<float>& x, index_t n, index_t c, index_t s) {
  return {x.data(), {{n, c * s}}, {c, s}, {{s, 1}}};
}

std::vector<float> random(index_t count) {
  std::mt19937 bits(4);
  std::normal_distribution<float> draw(0, 1);
  std::vector<float> x(static_cast<std::size_t>(count));
  for (float& value : x) value = draw(bits);
  return x;
}

void known_answers() {
  // two samples of two units: a coin, and one that is always on
  const std::vector<float> x{1, 2, -1, 3};
  Switching state;
  state.update(ActivationsView<const float>{x.data(), {{2, 2}}, {2, 1}});
  const std::vector<double> bits = state.channel_bits();
  CHECK((bits == std::vector<double>{1, 0}));
  CHECK((state.counts().state == std::vector<std::int64_t>{1, 2}));
  CHECK(state.position_bits().empty());
  Switching positions;
  positions.update(maps(x, 2, 1, 2));
  CHECK((positions.position_bits() == std::vector<double>{1, 0}));
  CHECK_NEAR(positions.channel_bits()[0], 2 - 0.75 * std::log2(3), 1e-15);
  CHECK_EQUAL(positions.counts().square[0], 5);
  // a window of one place has one state
  Switching single({.window = PoolWindow{{1}, {2}, {0}, {1}}});
  single.update(maps(x, 1, 2, 2));
  CHECK((single.channel_bits() == std::vector<double>{0, 0} && single.position_bits() == std::vector<double>{0, 0}));
}

void merging_is_one_batch() {
  const index_t c = 5, s = 7;
  const std::vector<float> x = random(9 * c * s);
  Switching whole, parts, other;
  whole.update(maps(x, 9, c, s));
  parts.update(maps(x, 4, c, s));
  other.update(ActivationsView<const float>{x.data() + 4 * c * s, {{5, c * s}}, {c, s}, {{s, 1}}}, nullptr, {3, {}});
  other.merge(parts);
  other.merge(Switching());
  CHECK(other.counts().state == whole.counts().state && other.counts().position == whole.counts().position);
  CHECK(other.counts().square == whole.counts().square && other.counts().samples == 9);
  Switching twice = whole;
  twice.merge(twice);
  CHECK_EQUAL(twice.counts().state[0], 2 * whole.counts().state[0]);
}

void failure_changes_nothing() {
  const std::vector<float> x = random(4 * 3 * 5);
  Switching state;
  state.update(maps(x, 4, 3, 5));
  const std::vector<std::int64_t> before = state.counts().state;
  CHECK_THROWS(state.update(maps(x, 4, 5, 3)), ShapeError, "got 5 units, expected 3");
  CHECK_THROWS(state.update(ActivationsView<const float>{x.data(), {{0, 1}}, {3, 1}}), ShapeError, "got 0 samples");
  const std::vector<std::int64_t> labels{0, 1, 0, 1};
  CHECK_THROWS(state.update(maps(x, 4, 3, 5), labels.data()), ValueError, "got labels with 0 classes");
  CHECK_THROWS(Switching().channel_bits(), TooFewRows, "got no samples");
  Switching small;
  CHECK_THROWS(small.update(maps(x, 4, 3, 5), nullptr, {}, 100), LimitExceeded, "3 units at 5 positions");
  CHECK(state.counts().state == before && state.counts().samples == 4 && small.counts().units == 0);
  CHECK_THROWS(Switching({.thresholds = {1, 0}}), ValueError, "that ascend");
  CHECK_THROWS(Switching({.thresholds = {}}), ValueError, "got no threshold");
  CHECK_THROWS(Switching({.window = PoolWindow{{2}, {1}, {2}, {1}}}), ValueError, "half the kernel");
}

void an_interrupt_leaves_the_state() {
  // more than is counted without asking
  const index_t n = 80, s = 1 << 20;
  const std::vector<float> x(static_cast<std::size_t>(s), 1.0f);
  const ActivationsView<const float> many{x.data(), {{n, 0}}, {1, s}, {{s, 1}}};
  Switching state;
  state.update(ActivationsView<const float>{x.data(), {{1, 0}}, {1, s}, {{s, 1}}});
  struct Stop {};
  for (const int threads : {1, 2}) {
    bool stopped = false;
    try {
      state.update(many, nullptr, {threads, [] { throw Stop(); }});
    } catch (const Stop&) {
      stopped = true;
    }
    CHECK(stopped && state.counts().samples == 1 && state.counts().state[0] == s);
  }
}

void counts_make_the_state_again() {
  const std::vector<float> x = random(4 * 3 * 5);
  Switching state;
  state.update(maps(x, 4, 3, 5));
  Switching again = Switching::from_counts(state.options(), state.counts());
  again.update(maps(x, 4, 3, 5));
  state.update(maps(x, 4, 3, 5));
  CHECK(again.counts().position == state.counts().position && again.counts().square == state.counts().square);
  SwitchingCounts wrong = state.counts();
  wrong.state[0] = 1000;
  CHECK_THROWS(Switching::from_counts(state.options(), wrong), ValueError, "larger than the number of observations");
  wrong = state.counts();
  wrong.nan.pop_back();
  CHECK_THROWS(Switching::from_counts(state.options(), wrong), ShapeError, "2 numbers of NaNs, expected 3");
}

}  // namespace

int main() {
  guard::report_faults();
  return check::run({
      {"runs are counted exactly and nothing beyond them is touched", runs},
      {"columns are counted exactly and nothing beyond them is touched", columns},
      {"sums of finite numbers are exact where float64 is and nothing beyond them is touched", sums},
      {"windows are counted exactly and nothing beyond them is touched", windows},
      {"signs are packed exactly and nothing beyond them is touched", signs},
      {"every number of two bytes is on its side of every threshold", all_numbers},
      {"a coin has a bit, a unit that never switches none", known_answers},
      {"merging is one batch", merging_is_one_batch},
      {"a failed call changes nothing", failure_changes_nothing},
      {"an interrupt leaves the state as it was", an_interrupt_leaves_the_state},
      {"a state is its counts", counts_make_the_state_again},
  });
}
