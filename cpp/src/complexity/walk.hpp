#pragma once
/// Where the numbers of a batch lie: offsets of its samples, and its positions as segments that step evenly.

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "complexity/kernel.hpp"
#include "netassay/base/view.hpp"

namespace netassay::complexity {

/// Neighbouring axes that step evenly are joined, those of extent 1 dropped.
inline std::vector<Axis> joined(const std::vector<Axis>& axes) {
  std::vector<Axis> out;
  for (const Axis& next : axes) {
    if (next.extent == 1) continue;
    if (!out.empty() && out.back().stride == next.extent * next.stride) {
      out.back() = {out.back().extent * next.extent, next.stride};
    } else {
      out.push_back(next);
    }
  }
  return out;
}

/// Offsets of all index tuples, in lexicographic order.
inline std::vector<index_t> offsets(const std::vector<Axis>& axes) {
  std::vector<index_t> out{0};
  for (const Axis& axis : axes) {
    std::vector<index_t> next;
    next.reserve(out.size() * static_cast<std::size_t>(axis.extent));
    for (const index_t start : out) {
      for (index_t k = 0; k < axis.extent; ++k) next.push_back(start + k * axis.stride);
    }
    out = std::move(next);
  }
  return out;
}

/// Positions position ... position + length - 1.
struct Segment {
  index_t offset, position, length;
};

/// Positions in runs of at most kRun; `stride` is that of neighbours.
struct Segments {
  std::vector<Segment> all;
  index_t stride = 1;

  explicit Segments(const std::vector<Axis>& positions) {
    std::vector<Axis> axes = joined(positions);
    Axis last{1, 1};
    if (!axes.empty()) {
      last = axes.back();
      axes.pop_back();
    }
    stride = last.stride;
    index_t position = 0;
    for (const index_t start : offsets(axes)) {
      for (index_t k = 0; k < last.extent; k += kRun) {
        const index_t length = std::min(kRun, last.extent - k);
        all.push_back({start + k * last.stride, position, length});
        position += length;
      }
    }
  }
};

}  // namespace netassay::complexity
