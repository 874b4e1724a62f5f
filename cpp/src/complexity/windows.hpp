#pragma once
/// The windows of a pooling layer over maps.

#include <cstddef>
#include <span>
#include <vector>

#include "complexity/kernel.hpp"
#include "netassay/complexity.hpp"

namespace netassay::complexity {

class Windows {
 public:
  index_t places;

  Windows(const PoolWindow& window, const std::vector<Axis>& axes) : places(window.places()) {
    std::vector<index_t> shape;
    for (const Axis& axis : axes) shape.push_back(axis.extent);
    const std::vector<index_t> outputs = window.outputs(shape);
    std::vector<index_t> output(axes.size()), place(axes.size());
    first_.push_back(0);
    do {
      index_t number = 0;
      do {
        index_t offset = 0;
        bool inside = true;
        for (std::size_t a = 0; a < axes.size(); ++a) {
          const index_t at = output[a] * window.stride[a] - window.padding[a] + place[a] * window.dilation[a];
          inside = inside && at >= 0 && at < shape[a];
          offset += at * axes[a].stride;
        }
        if (inside) where_.push_back({offset, number});
        ++number;
      } while (advance(place, window.kernel));
      first_.push_back(where_.size());
    } while (advance(output, outputs));
  }

  index_t count() const { return static_cast<index_t>(first_.size()) - 1; }

  /// Those of a window that lie inside.
  std::span<const Place> at(index_t output) const {
    const std::size_t first = first_[static_cast<std::size_t>(output)];
    return {where_.data() + first, first_[static_cast<std::size_t>(output) + 1] - first};
  }

 private:
  /// The next index tuple in lexicographic order; false after the last.
  static bool advance(std::vector<index_t>& index, const std::vector<index_t>& extents) {
    for (std::size_t a = index.size(); a-- > 0;) {
      if (++index[a] < extents[a]) return true;
      index[a] = 0;
    }
    return false;
  }

  std::vector<std::size_t> first_;
  std::vector<Place> where_;
};

}  // namespace netassay::complexity
