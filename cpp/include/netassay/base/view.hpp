#pragma once
/// Borrowed arrays. A view owns nothing: pointer, extents and strides in elements (any sign).

#include <array>
#include <cstddef>
#include <vector>

#include "netassay/base/error.hpp"

namespace netassay {

using index_t = std::ptrdiff_t;

/// A matrix somewhere in memory.
template <class T>
struct MatrixView {
  T* data;
  index_t rows, cols;
  index_t row_stride, col_stride;

  MatrixView(T* p, index_t n, index_t d) : MatrixView(p, n, d, d, 1) {}
  MatrixView(T* p, index_t n, index_t d, index_t row_step, index_t col_step)
      : data(p), rows(n), cols(d), row_stride(row_step), col_stride(col_step) {}
  T& operator()(index_t i, index_t j) const { return data[i * row_stride + j * col_stride]; }
};

/// A row-major square matrix that owns its storage: what results are handed out in.
struct SquareMatrix {
  index_t d = 0;
  std::vector<double> values;

  explicit SquareMatrix(index_t width) : d(width), values(static_cast<std::size_t>(width * width)) {}
  double& operator()(index_t i, index_t j) { return values[static_cast<std::size_t>(i * d + j)]; }
  double operator()(index_t i, index_t j) const { return values[static_cast<std::size_t>(i * d + j)]; }
  MatrixView<const double> view() const { return {values.data(), d, d}; }
};

/// One axis: how many steps, and how far apart.
struct Axis {
  index_t extent, stride;
};

/// Activations as rows of d units, wherever they lie: any number of leading axes, whose index tuples in
/// lexicographic order are the rows, and one unit axis. A map (N, C, H, W) has row axes N, H, W and unit axis C.
/// Neighbouring axes that step evenly are joined, so a contiguous batch has a single row axis.
template <class T>
class RowsView {
 public:
  static constexpr int kMaxAxes = 8;

  RowsView(T* data, const Axis* rows, int row_axes, Axis units) : data_(data), units_(units) {
    NETASSAY_REQUIRE(row_axes <= kMaxAxes, ShapeError, "rows: got ", row_axes + 1, " axes, expected at most ",
                     kMaxAxes + 1);
    for (int a = 0; a < row_axes; ++a) append(rows[a]);
    if (axes_ == 0) append({1, 0});
  }
  // A matrix is the common case, so it converts.
  RowsView(const MatrixView<T>& m) : data_(m.data), units_{m.cols, m.col_stride} { append({m.rows, m.row_stride}); }

  T* data() const { return data_; }
  Axis units() const { return units_; }
  index_t width() const { return units_.extent; }
  int axes() const { return axes_; }
  const Axis& axis(int a) const { return rows_[static_cast<std::size_t>(a)]; }
  index_t rows() const { return count_; }

  /// Element offset of a row's first unit.
  index_t offset(index_t row) const {
    index_t at = 0;
    for (int a = axes_ - 1; a >= 0; --a) {
      at += (row % axis(a).extent) * axis(a).stride;
      row /= axis(a).extent;
    }
    return at;
  }

 private:
  void append(Axis next) {
    count_ *= next.extent;
    if (next.extent == 1 && axes_ > 0) return;
    if (axes_ > 0) {
      Axis& last = rows_[static_cast<std::size_t>(axes_ - 1)];
      if (last.extent == 1) {
        last = next;
        return;
      }
      if (last.stride == next.extent * next.stride) {
        last = {last.extent * next.extent, next.stride};
        return;
      }
    }
    rows_[static_cast<std::size_t>(axes_++)] = next;
  }

  T* data_;
  std::array<Axis, kMaxAxes> rows_{};
  int axes_ = 0;
  Axis units_;
  index_t count_ = 1;
};

}  // namespace netassay
