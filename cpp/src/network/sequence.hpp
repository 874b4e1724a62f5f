#pragma once
/// The values of an array one after the other, in the order in which they lie in memory.

#include <algorithm>
#include <array>
#include <cstddef>

#include "netassay/base/view.hpp"

namespace netassay::network {

template <class T>
class Sequence {
 public:
  explicit Sequence(const RowsView<const T>& x) : data_(x.data()), count_(x.rows() * x.width()) {
    if (count_ == 0) return;
    for (int a = 0; a < x.axes(); ++a) insert(x.axis(a));
    insert(x.units());
    join();
  }
  Sequence(const T* data, index_t count) : data_(data), count_(count) { insert({count, 1}); }

  index_t count() const { return count_; }

  const T& operator[](index_t at) const {
    const T* value = data_;
    for (int a = axes_ - 1; a >= 0; --a) {
      const Axis& axis = axes_of_[static_cast<std::size_t>(a)];
      value += at % axis.extent * axis.stride;
      at /= axis.extent;
    }
    return *value;
  }

  /// The n values from `at` on: in place, or copied to `scratch`.
  const T* run(index_t at, index_t n, T* scratch) const {
    const Axis last = inner();
    index_t skipped = at % last.extent;
    if (last.stride == 1 && skipped + n <= last.extent) return &(*this)[at];
    T* to = scratch;
    while (n > 0) {
      const T* from = &(*this)[at];
      const index_t some = std::min(n, last.extent - skipped);
      for (index_t j = 0; j < some; ++j) *to++ = from[j * last.stride];
      at += some;
      n -= some;
      skipped = 0;
    }
    return scratch;
  }

 private:
  static constexpr int kMost = RowsView<const T>::kMaxAxes + 1;

  Axis inner() const { return axes_ > 0 ? axes_of_[static_cast<std::size_t>(axes_ - 1)] : Axis{1, 1}; }

  /// Axes from the longest stride to the shortest, each made to step forwards.
  void insert(Axis axis) {
    if (axis.extent == 1) return;
    if (axis.stride < 0) {
      data_ += (axis.extent - 1) * axis.stride;
      axis.stride = -axis.stride;
    }
    int at = axes_++;
    for (; at > 0 && axes_of_[static_cast<std::size_t>(at - 1)].stride < axis.stride; --at) {
      axes_of_[static_cast<std::size_t>(at)] = axes_of_[static_cast<std::size_t>(at - 1)];
    }
    axes_of_[static_cast<std::size_t>(at)] = axis;
  }

  /// Neighbouring axes that step evenly become one.
  void join() {
    int kept = 0;
    for (int a = 1; a < axes_; ++a) {
      Axis& last = axes_of_[static_cast<std::size_t>(kept)];
      const Axis next = axes_of_[static_cast<std::size_t>(a)];
      if (last.stride == next.extent * next.stride) {
        last = {last.extent * next.extent, next.stride};
      } else {
        axes_of_[static_cast<std::size_t>(++kept)] = next;
      }
    }
    if (axes_ > 0) axes_ = kept + 1;
  }

  const T* data_;
  index_t count_;
  std::array<Axis, kMost> axes_of_{};
  int axes_ = 0;
};

}  // namespace netassay::network
