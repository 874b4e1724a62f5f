#pragma once
/// The windows of a pooling layer over maps, and which of a window's places holds the largest number.

#include <limits>
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

  struct Found {
    index_t place;
    bool nan;
  };
  /// A NaN is less than any number; the first of equal ones is found, 0 and -0 being equal.
  template <class U>
  Found argmax(const U* x, index_t output, signed_of<U> infinity) const {
    using S = signed_of<U>;
    constexpr U sign = U{1} << (8 * sizeof(U) - 1);
    const Where* const end = where_.data() + first_[static_cast<std::size_t>(output) + 1];
    const Where* at = where_.data() + first_[static_cast<std::size_t>(output)];
    Found found{at->place, false};
    S most = std::numeric_limits<S>::min();
    for (; at < end; ++at) {
      const U bits = x[at->offset];
      const auto size = static_cast<S>(static_cast<U>(bits & static_cast<U>(~sign)));
      const bool nan = size > infinity;
      const S key = nan ? std::numeric_limits<S>::min() : static_cast<S>((bits & sign) != 0 ? -size : size);
      found.nan |= nan;
      if (key > most) {
        most = key;
        found.place = at->place;
      }
    }
    return found;
  }

 private:
  struct Where {
    index_t offset, place;
  };
  /// The next index tuple in lexicographic order; false after the last.
  static bool advance(std::vector<index_t>& index, const std::vector<index_t>& extents) {
    for (std::size_t a = index.size(); a-- > 0;) {
      if (++index[a] < extents[a]) return true;
      index[a] = 0;
    }
    return false;
  }

  std::vector<std::size_t> first_;
  std::vector<Where> where_;
};

}  // namespace netassay::complexity
