#pragma once
/// A batch as its bits and where they lie, and the parts of it that are counted at a time.

#include <cstddef>
#include <vector>

#include "complexity/count.hpp"
#include "complexity/kernels.hpp"
#include "complexity/walk.hpp"

namespace netassay::complexity {

constexpr index_t ceil_div(index_t a, index_t b) { return (a + b - 1) / b; }
inline std::size_t size(index_t n) { return static_cast<std::size_t>(n); }

/// Units first ... last - 1 of samples from ... to - 1.
struct Range {
  index_t first, last, from, to;
};

/// The stored bits of numbers, and where they lie.
template <class T>
struct Batch {
  using U = Bits<T>;

  const U* data;
  std::vector<index_t> samples;  // their offsets
  index_t units, unit_stride;
  Segments segments;
  index_t positions;

  explicit Batch(const ActivationsView<const T>& a)
      : data(reinterpret_cast<const U*>(a.data)),
        samples(offsets(a.samples)),
        units(a.units.extent),
        unit_stride(a.units.stride),
        segments(a.positions),
        positions(product(extents(a.positions))) {}
};

/// Numbers side by side: where they are, or brought to `line`.
template <class U>
const U* gathered(const U* from, index_t stride, index_t length, U* line) {
  if (stride == 1) return from;
  for (index_t j = 0; j < length; ++j) line[j] = from[j * stride];
  return line;
}

}  // namespace netassay::complexity
