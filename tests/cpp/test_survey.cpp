/// The survey kernels of every instruction set that this processor offers, against scalar loops, on memory that ends at
/// a page nobody may touch. All comparisons are exact.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "check.hpp"
#include "graph/kernel.hpp"
#include "graph/pass.hpp"
#include "guard.hpp"
#include "netassay/base/cpu.hpp"

namespace {

using namespace netassay;
using namespace netassay::graph;
using guard::expect;
using guard::Guarded;
using netassay::graph::index_t;

constexpr index_t kMostKeys = 200;

// ---- the kernels -------------------------------------------------------------------------------------------------

const std::vector<guard::Named<SurveyKernels>> kAll{{"baseline", Isa::baseline, &kSurveyBaseline},
#if defined(__x86_64__)
                                                    {"avx2", Isa::avx2, &kSurveyAvx2},
                                                    {"avx512", Isa::avx512, &kSurveyAvx512}
#endif
};

/// Calls body.operator()<sign>(kernel, name of the format) for every format of every kernel.
template <class Body>
void each(Body body) {
  guard::each_kernel(kAll, [&](const SurveyKernels& tables) {
    body.template operator()<Sign::bit>(tables.f64, "f64");
    body.template operator()<Sign::bit>(tables.f32, "f32");
    body.template operator()<Sign::bit>(tables.f16, "f16");
    body.template operator()<Sign::bit>(tables.f8, "f8");
    body.template operator()<Sign::twos_complement>(tables.i8, "i8");
    body.template operator()<Sign::none>(tables.u8, "u8");
  });
}

// ---- rows --------------------------------------------------------------------------------------------------------

/// What a stored number's magnitude is, by arithmetic rather than by bits.
template <Sign kSign, class K>
K literal_key(K raw) {
  constexpr K half = std::numeric_limits<K>::max() / 2 + 1;  // the value of the top bit
  if (kSign == Sign::bit) return static_cast<K>(raw % half);
  if (kSign == Sign::twos_complement && raw >= half) return static_cast<K>(std::numeric_limits<K>::max() - raw + 1);
  return raw;
}

enum class Data { any_bits, few_values, zeros, ends };
constexpr std::array kEveryData{Data::any_bits, Data::few_values, Data::zeros, Data::ends};

template <class K>
K value(Data data, std::mt19937_64& bits) {
  constexpr K most = std::numeric_limits<K>::max(), half = most / 2 + 1;
  constexpr K ends[] = {0, 1, half - 1, half, half + 1, most - 1, most};
  switch (data) {
    case Data::any_bits:
      return static_cast<K>(bits());
    case Data::few_values:  // both signs of small numbers
      return static_cast<K>(bits() % 5 + (bits() % 2 != 0 ? half : K{0}));
    case Data::zeros:
      return bits() % 2 != 0 ? K{0} : half;
    case Data::ends:
      return ends[bits() % std::size(ends)];
  }
  return 0;
}

/// `count` rows, each of which ends at a guard page of its own.
template <class K>
struct Rows {
  index_t n;
  std::vector<std::unique_ptr<Guarded<K>>> memory;
  std::vector<const K*> row;

  Rows(Data data, int count, index_t width, std::mt19937_64& bits) : n(width) {
    for (int r = 0; r < count; ++r) {
      memory.push_back(std::make_unique<Guarded<K>>(n));
      for (index_t j = 0; j < n; ++j) (*memory.back())[j] = value<K>(data, bits);
      row.push_back(memory.back()->data());
    }
  }
};

// ---- the claims --------------------------------------------------------------------------------------------------

/// The rows that hits name for each element, as bits. The rows of an element must ascend:
/// the lowest row of a key comes first.
std::vector<unsigned> named(const Hit* hits, index_t found, index_t n, const char* format) {
  std::vector<unsigned> rows(static_cast<std::size_t>(n));
  for (index_t h = 0; h < found; ++h) {
    const auto& [lanes, row, first] = hits[h];
    expect(lanes != 0 && row < kTogether, format, ": a hit of row ", row, " without lanes");
    for (std::uint64_t left = lanes; left != 0; left &= left - 1) {
      const index_t j = static_cast<index_t>(first) + std::countr_zero(left);
      expect(j < n, format, ": a hit at ", j, " of ", n);
      if (j >= n) continue;
      unsigned& mine = rows[static_cast<std::size_t>(j)];
      expect(mine >> row == 0, format, ": element ", j, " has row ", row, " after rows ", mine);
      mine |= 1u << row;
    }
  }
  return rows;
}

template <Sign kSign, class K>
void check_survey(const SurveyKernel<K>& k, const Rows<K>& rows, int count, K threshold, Guarded<K>& best,
                  Guarded<Hit>& hits, const char* format) {
  const index_t n = rows.n;
  K top[kTogether] = {77, 77, 77, 77};
  const index_t found = k.survey(rows.row.data(), count, n, threshold, best.data(), hits.data(), top);
  expect(found >= 0 && found <= hits.size(), "survey, ", format, ": ", found, " hits in room for ", hits.size());
  std::vector<unsigned> expected(static_cast<std::size_t>(n));
  for (int r = 0; r < kTogether; ++r) {
    K most = r < count ? K{0} : K{77};  // what is not asked for stays
    for (index_t j = 0; j < n && r < count; ++j) {
      const K key = literal_key<kSign>(rows.row[static_cast<std::size_t>(r)][j]);
      most = std::max(most, key);
      if (key > std::min(threshold, best[j])) expected[static_cast<std::size_t>(j)] |= 1u << r;
    }
    expect(top[r] == most, "survey, ", format, ", n ", n, ", row ", r, " of ", count, ": top ", +top[r], ", expected ",
           +most);
  }
  expect(named(hits.data(), found, n, format) == expected, "survey, ", format, ", n ", n, ", ", count,
         " rows, threshold ", +threshold, ": other elements than a loop finds");
}

template <Sign kSign, class K>
void surveys_of(const SurveyKernel<K>& k, Data data, index_t n, const char* format) {
  constexpr K most = std::numeric_limits<K>::max();
  constexpr K largest = kSign == Sign::none ? most : kSign == Sign::bit ? most / 2 : most / 2 + 1;
  Guarded<Hit> hits(most_hits<K>(n));
  std::mt19937_64 bits(static_cast<unsigned>(n));
  const Rows<K> rows(data, kTogether, n, bits);
  Guarded<K> best(n);
  const auto key = [&](index_t j) { return literal_key<kSign>(rows.row[bits() % kTogether][j]); };
  for (const int reached : {0, 1, 2, 3}) {  // how far columns have come: nowhere, at keys, just below, at the end
    for (index_t j = 0; j < n; ++j) {
      const K at = key(j);
      best[j] = reached == 0 ? K{0} : reached == 1 ? at : reached == 2 ? static_cast<K>(at - (at > 0)) : largest;
    }
    const K some = n > 0 ? key(static_cast<index_t>(bits() % static_cast<unsigned>(n))) : K{0};
    for (const K threshold : {K{0}, some, static_cast<K>(some - (some > 0)), largest, kNoEdges<K>}) {
      const int count = 1 + static_cast<int>(bits() % kTogether);
      check_survey<kSign>(k, rows, count, threshold, best, hits, format);
      check_survey<kSign>(k, rows, kTogether, threshold, best, hits, format);
    }
  }
}

void surveys() {
  each([]<Sign kSign, class K>(const SurveyKernel<K>& k, const char* format) {
    for (const Data data : kEveryData) {
      for (index_t n = 0; n <= kMostKeys; ++n) surveys_of<kSign>(k, data, n, format);
    }
  });
}

// A key in every place, among keys of zero: which place it is matters.
void single_keys() {
  each([]<Sign kSign, class K>(const SurveyKernel<K>& k, const char* format) {
    for (const index_t n : {1, 15, 16, 17, 63, 64, 65, 129, 200}) {
      std::mt19937_64 bits(1);
      Rows<K> rows(Data::zeros, kTogether, n, bits);
      if (kSign != Sign::bit) {
        for (auto& row : rows.memory) std::fill_n(row->data(), n, K{0});
      }
      Guarded<K> best(n, K{0});
      Guarded<Hit> hits(most_hits<K>(n));
      for (index_t j = 0; j < n; ++j) {
        K& place = (*rows.memory[static_cast<std::size_t>(j % kTogether)])[j];
        const K before = std::exchange(place, K{3});
        for (const int count : {1, 2, 3, 4}) check_survey<kSign>(k, rows, count, K{2}, best, hits, format);
        place = before;
      }
    }
  });
}

void largest_keys() {
  each([]<Sign kSign, class K>(const SurveyKernel<K>& k, const char* format) {
    for (const Data data : kEveryData) {
      for (index_t n = 0; n <= kMostKeys; ++n) {
        std::mt19937_64 bits(static_cast<unsigned>(n + 1));
        const Rows<K> rows(data, 1, n, bits);
        K most = 0;
        for (index_t j = 0; j < n; ++j) most = std::max(most, literal_key<kSign>(rows.row[0][j]));
        const K got = k.largest(rows.row[0], n);
        expect(got == most, "largest, ", format, ", n ", n, ": got ", +got, ", expected ", +most);
      }
    }
    for (const index_t n : {1, 17, 64, 200}) {  // in every place
      Guarded<K> row(n, K{0});
      for (index_t j = 0; j < n; ++j) {
        row[j] = K{5};
        expect(k.largest(row.data(), n) == K{5}, "largest, ", format, ", n ", n, ", at ", j);
        row[j] = 0;
      }
    }
  });
}

void found_keys() {
  each([]<Sign kSign, class K>(const SurveyKernel<K>& k, const char* format) {
    for (const Data data : kEveryData) {
      for (index_t n = 0; n <= kMostKeys; ++n) {
        std::mt19937_64 bits(static_cast<unsigned>(n + 2));
        const Rows<K> rows(data, 1, n, bits);
        const K* const row = rows.row[0];
        const auto check = [&](K wanted) {
          const K* const at = std::find_if(row, row + n, [wanted](K raw) { return literal_key<kSign>(raw) == wanted; });
          const index_t got = k.find(row, n, wanted);
          expect(got == at - row, "find, ", format, ", n ", n, ", key ", +wanted, ": got ", got, ", expected ",
                 at - row);
        };
        for (index_t j = 0; j < n; j += 7) check(literal_key<kSign>(row[j]));
        if (n > 0) check(literal_key<kSign>(row[n - 1]));
        for (const K wanted : {K{0}, K{1}, K{77}, std::numeric_limits<K>::max()}) check(wanted);
      }
    }
  });
}

void magnitudes() {
  each([]<Sign kSign, class K>(const SurveyKernel<K>&, const char* format) {
    std::mt19937_64 bits(3);
    for (const Data data : kEveryData) {
      for (int i = 0; i < 1000; ++i) {
        const K raw = value<K>(data, bits);
        expect(magnitude<kSign, K>(raw) == literal_key<kSign>(raw), "magnitude, ", format, " of ", +raw);
      }
    }
  });
}

}  // namespace

int main() {
  guard::report_faults();
  guard::report_skipped(kAll);
  return check::run({
      {"a key is the magnitude of what is stored", magnitudes},
      {"survey: the keys above the bounds, row by row, and the largest of each row", surveys},
      {"survey: a key is found in whatever place it stands", single_keys},
      {"largest: of any number of keys", largest_keys},
      {"find: the first of any number of keys, or their number", found_keys},
  });
}
