#pragma once
/// The survey written once for vectors of any kind; each instruction-set unit brings its own. Everything has internal
/// linkage, so that no unit's code can end up in another's.
///
/// Lanes offers: Key, sign, count (of keys in a vector), V, load, all(key), strip (raw bits -> keys), min, max, and
/// above(a, b), equal(a, b): bit l is set where lane l of a is greater than, or is, that of b.

#include "graph/kernel.hpp"

namespace netassay::graph {
namespace {

template <class Lanes>
struct Survey {
  using K = typename Lanes::Key;
  using V = typename Lanes::V;
  static constexpr index_t count = Lanes::count;
  static constexpr K key(K raw) { return magnitude<Lanes::sign, K>(raw); }

  static index_t survey(const K* row, index_t n, K threshold, const K* best, Hit* hits, K* top) {
    const V limit = Lanes::all(threshold);
    V most = Lanes::all(0);
    index_t found = 0, j = 0;
    for (; j + count <= n; j += count) {
      const V keys = Lanes::strip(Lanes::load(row + j));
      most = Lanes::max(most, keys);
      const std::uint64_t lanes = Lanes::above(keys, Lanes::min(limit, Lanes::load(best + j)));
      hits[found] = {lanes, j};
      found += lanes != 0;
    }
    K largest_key = horizontal(most);
    Hit rest{0, j};
    for (; j < n; ++j) {
      const K k = key(row[j]);
      const K bound = best[j] < threshold ? best[j] : threshold;
      if (k > largest_key) largest_key = k;
      if (k > bound) rest.lanes |= std::uint64_t{1} << (j - rest.first);
    }
    hits[found] = rest;
    *top = largest_key;
    return found + (rest.lanes != 0);
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
