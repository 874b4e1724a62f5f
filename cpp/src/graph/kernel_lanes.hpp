#pragma once
/// The survey written once for vectors of any kind; each instruction-set unit brings its own. Everything has internal
/// linkage, so that no unit's code can end up in another's.
///
/// Lanes offers: Key, sign, count (of keys in a vector), V, load, all(key), strip (raw bits -> keys), min, max, and
/// above(a, b), equal(a, b): bit l is set where lane l of a is greater than, or is, that of b.

#include <cstdint>

#include "graph/kernel.hpp"

namespace netassay::graph {
namespace {

template <class Lanes>
struct Survey {
  using K = typename Lanes::Key;
  using V = typename Lanes::V;
  static constexpr index_t count = Lanes::count;
  static constexpr K key(K raw) { return magnitude<Lanes::sign, K>(raw); }

  static index_t survey(const K* const* rows, int rows_count, index_t n, K threshold, const K* best, Hit* hits,
                        K* top) {
    if (rows_count == kTogether) return side_by_side<kTogether>(rows, n, threshold, best, hits, top);
    index_t found = 0;
    for (int r = 0; r < rows_count; ++r) {
      const index_t more = side_by_side<1>(rows + r, n, threshold, best, hits + found, top + r);
      for (index_t h = found; h < found + more; ++h) hits[h].row = static_cast<std::uint32_t>(r);
      found += more;
    }
    return found;
  }

  template <int kRows>
  static index_t side_by_side(const K* const* rows, index_t n, K threshold, const K* best, Hit* hits, K* top) {
    const V limit = Lanes::all(threshold);
    V most[kRows];
    for (int r = 0; r < kRows; ++r) most[r] = Lanes::all(0);
    index_t found = 0, j = 0;
    for (; j + count <= n; j += count) {
      const V bound = Lanes::min(limit, Lanes::load(best + j));
      std::uint64_t lanes[kRows], any = 0;
      // the rows that follow in memory, most likely the next ones: several streams at once outrun the processor's guess
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(rows[kRows - 1] + n + kRows * j + r * count, 0, 2);
      for (int r = 0; r < kRows; ++r) {
        const V keys = Lanes::strip(Lanes::load(rows[r] + j));
        most[r] = Lanes::max(most[r], keys);
        lanes[r] = Lanes::above(keys, bound);
        any |= lanes[r];
      }
      if (any == 0) continue;
      for (int r = 0; r < kRows; ++r) {
        hits[found] = {lanes[r], static_cast<std::uint32_t>(r), static_cast<std::uint32_t>(j)};
        found += lanes[r] != 0;
      }
    }
    for (int r = 0; r < kRows; ++r) top[r] = horizontal(most[r]);
    const index_t first = j;
    for (int r = 0; r < kRows; ++r) {
      Hit rest{0, static_cast<std::uint32_t>(r), static_cast<std::uint32_t>(first)};
      for (j = first; j < n; ++j) {
        const K k = key(rows[r][j]);
        const K bound = best[j] < threshold ? best[j] : threshold;
        if (k > top[r]) top[r] = k;
        if (k > bound) rest.lanes |= std::uint64_t{1} << (j - first);
      }
      if (rest.lanes != 0) hits[found++] = rest;
    }
    return found;
  }

  static K largest(const K* row, index_t n) {
    V most[4] = {Lanes::all(0), Lanes::all(0), Lanes::all(0), Lanes::all(0)};
    index_t j = 0;
    for (; j + 4 * count <= n; j += 4 * count) {
      for (int v = 0; v < 4; ++v) most[v] = Lanes::max(most[v], Lanes::strip(Lanes::load(row + j + v * count)));
    }
    K found = horizontal(Lanes::max(Lanes::max(most[0], most[1]), Lanes::max(most[2], most[3])));
    for (; j < n; ++j) {
      if (key(row[j]) > found) found = key(row[j]);
    }
    return found;
  }

  static index_t find(const K* row, index_t n, K wanted) {
    const V same = Lanes::all(wanted);
    index_t j = 0;
    for (; j + count <= n; j += count) {
      const std::uint64_t lanes = Lanes::equal(Lanes::strip(Lanes::load(row + j)), same);
      if (lanes != 0) return j + __builtin_ctzll(lanes);
    }
    while (j < n && key(row[j]) != wanted) ++j;
    return j;
  }

  static K horizontal(V most) {
    K lanes[count];
    __builtin_memcpy(lanes, &most, sizeof most);
    K found = 0;
    for (const K k : lanes) {
      if (k > found) found = k;
    }
    return found;
  }

  static constexpr SurveyKernel<K> kernel{survey, largest, find};
};

template <template <class, Sign> class Lanes>
constexpr SurveyKernels survey_kernels{Survey<Lanes<std::uint64_t, Sign::bit>>::kernel,
                                       Survey<Lanes<std::uint32_t, Sign::bit>>::kernel,
                                       Survey<Lanes<std::uint16_t, Sign::bit>>::kernel,
                                       Survey<Lanes<std::uint8_t, Sign::bit>>::kernel,
                                       Survey<Lanes<std::uint8_t, Sign::twos_complement>>::kernel,
                                       Survey<Lanes<std::uint8_t, Sign::none>>::kernel};

}  // namespace
}  // namespace netassay::graph
