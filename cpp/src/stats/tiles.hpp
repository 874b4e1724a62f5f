#pragma once
/// A symmetric d x d matrix as the square tiles of its upper triangle: half the memory of the full square, and each
/// tile one task's own output.

#include <algorithm>
#include <cstddef>
#include <vector>

#include "netassay/base/parallel.hpp"

namespace netassay::stats {

/// Columns of a tile at most. At 256 the packed rows that a tile reads are used often enough for a core's second cache
/// to feed the products, and the tile's own sums stay there beside them; matrices up to 512 wide are cut finer, so that
/// there is something to share out.
inline constexpr index_t kTile = 256;

class SymmetricTiles {
 public:
  SymmetricTiles() = default;
  explicit SymmetricTiles(index_t d);

  bool empty() const { return values_.empty(); }
  void clear() { std::fill(values_.begin(), values_.end(), 0.0); }
  index_t width() const { return d_; }
  /// Tiles, numbered along the upper triangle row by row.
  index_t count() const { return static_cast<index_t>(places_.size()); }

  struct Place {
    index_t i, j;        // first row and column
    index_t rows, cols;  // extent, kTile but at the border
    index_t offset;      // of its row-major values
    bool diagonal() const { return i == j; }
  };
  const Place& place(index_t t) const { return places_[static_cast<std::size_t>(t)]; }
  double* tile(index_t t) { return values_.data() + place(t).offset; }
  const double* tile(index_t t) const { return values_.data() + place(t).offset; }

  /// The full matrix; only the upper triangle of a diagonal tile is read.
  SquareMatrix dense(double scale) const;
  /// Takes the upper triangle of a full matrix.
  void assign(MatrixView<const double> full);
  /// y = A x and trace(A).
  std::vector<double> multiply(const std::vector<double>& x) const;
  double trace() const;

  /// Doubles that a matrix of width d takes.
  static index_t size(index_t d);
  static index_t tile_width(index_t d) { return d <= 2 * kTile ? kTile / 2 : kTile; }

 private:
  index_t d_ = 0;
  std::vector<Place> places_;
  std::vector<double> values_;
};

}  // namespace netassay::stats
