#include <cstdint>

#include "graph/kernel_lanes.hpp"

namespace netassay::graph {
namespace {

/// Vectors of 16 bytes, for any processor.
template <class K, Sign kSign>
struct Lanes {
  using Key = K;
  static constexpr Sign sign = kSign;
  static constexpr index_t count = 16 / static_cast<index_t>(sizeof(K));
  typedef K V __attribute__((vector_size(16)));
  typedef std::uint64_t Halves __attribute__((vector_size(16)));

  static V load(const K* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static V all(K key) { return key - V{}; }
  static V min(V a, V b) { return a < b ? a : b; }
  static V max(V a, V b) { return a > b ? a : b; }
  static V strip(V raw) {
    if constexpr (kSign == Sign::bit) return raw & all(static_cast<K>(static_cast<K>(~K{0}) >> 1));
    if constexpr (kSign == Sign::twos_complement) return min(raw, V{} - raw);
    return raw;
  }
  static std::uint64_t above(V a, V b) { return mask((V)(a > b)); }
  static std::uint64_t equal(V a, V b) { return mask((V)(a == b)); }
  static std::uint64_t mask(V v) {
    const Halves halves = (Halves)v;
    if ((halves[0] | halves[1]) == 0) return 0;
    std::uint64_t lanes = 0;
    for (index_t l = 0; l < count; ++l) lanes |= std::uint64_t{v[l] != 0} << l;
    return lanes;
  }
};

}  // namespace

constinit const SurveyKernels kSurveyBaseline = survey_kernels<Lanes>;

}  // namespace netassay::graph
