#pragma once
/// How a matrix is read: tiles for the threads, groups of rows that stay in the nearest caches, runs for the kernels.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "netassay/base/view.hpp"
#include "network/counts.hpp"
#include "network/kernel.hpp"

namespace netassay::network {

/// The median of some of n numbers, at(0) ... at(n - 1): within a few of their standard deviations, whatever a few of
/// them are. Zero where that is as near, as it is for most weights: sums about zero are sums of the weights themselves.
template <class At>
double typical_of(index_t n, const At& at) {
  constexpr index_t most = 15;
  std::array<double, most> some{};
  const index_t taken = std::min(most, n);
  for (index_t k = 0; k < taken; ++k) {
    const double w = number(at((2 * k + 1) * n / (2 * taken)));
    some[static_cast<std::size_t>(k)] = std::isfinite(w) ? w : 0;
  }
  std::sort(some.begin(), some.begin() + taken);
  const auto ranked = [&](index_t k) { return some[static_cast<std::size_t>(k)]; };
  const double middle = ranked(taken / 2);
  return std::abs(middle) <= ranked(3 * taken / 4) - ranked(taken / 4) ? 0 : middle;
}

/// How a matrix is cut: fixed by its shape.
struct Tiles {
  index_t rows, cols, down, across;

  Tiles(index_t m, index_t n) {
    constexpr index_t weights = index_t{1} << 19, most_columns = index_t{1} << 14, most_bands = 128;
    cols = std::min(n, most_columns);
    const index_t wanted = std::max(weights / cols, (m + most_bands - 1) / most_bands);
    rows = std::min(m, (wanted + kTogether - 1) / kTogether * kTogether);
    down = (m + rows - 1) / rows;
    across = (n + cols - 1) / cols;
  }
  index_t count() const { return down * across; }
};

struct Tile {
  index_t row, col, rows, cols;
};

/// A matrix and its tiles.
template <class T>
class Tiled {
 public:
  /// Rows of a tile side by side in memory: of the matrix itself, or a copy.
  struct Group {
    const T* first;
    index_t pitch;
  };

  explicit Tiled(const MatrixView<const T>& w) : tiles(w.rows, w.cols), w_(w) {}

  const Tiles tiles;

  Tile at(index_t t) const {
    const index_t row = t / tiles.across * tiles.rows, col = t % tiles.across * tiles.cols;
    return {row, col, std::min(tiles.rows, w_.rows - row), std::min(tiles.cols, w_.cols - col)};
  }

  /// Calls use(first row, rows, group) for groups of about a run or more.
  template <class Use>
  void each_group(const Tile& tile, const Use& use) const {
    const index_t several = std::max(index_t{1}, kRun / (kTogether * tile.cols)) * kTogether;
    std::vector<T> scratch;
    if (w_.col_stride != 1) scratch.resize(static_cast<std::size_t>(several * tile.cols));
    for (index_t i = 0; i < tile.rows; i += several) {
      const index_t rows = std::min(several, tile.rows - i);
      const T* from = &w_(tile.row + i, tile.col);
      if (w_.col_stride == 1) {
        use(i, rows, Group{from, w_.row_stride});
        continue;
      }
      T* to = scratch.data();
      for (index_t r = 0; r < rows; ++r) {
        for (index_t j = 0; j < tile.cols; ++j) *to++ = from[r * w_.row_stride + j * w_.col_stride];
      }
      use(i, rows, Group{scratch.data(), tile.cols});
    }
  }

  /// Calls use(run, n) for the runs of a group: across rows where they follow each other.
  template <class Use>
  static void each_run(const Group& group, index_t rows, index_t cols, const Use& use) {
    if (group.pitch == cols) {
      cols *= rows;
      rows = 1;
    }
    for (index_t r = 0; r < rows; ++r) {
      const T* row = group.first + r * group.pitch;
      for (index_t j = 0; j < cols; j += kRun) use(row + j, std::min(kRun, cols - j));
    }
  }

  double typical(const Tile& tile) const {
    return typical_of(tile.rows * tile.cols,
                      [&](index_t place) { return w_(tile.row + place / tile.cols, tile.col + place % tile.cols); });
  }

 private:
  MatrixView<const T> w_;
};

}  // namespace netassay::network
