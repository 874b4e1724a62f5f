#include "stats/tiles.hpp"

#include <algorithm>

namespace netassay::stats {

SymmetricTiles::SymmetricTiles(index_t d) : d_(d), values_(static_cast<std::size_t>(size(d))) {
  index_t offset = 0;
  const index_t step = tile_width(d);
  for (index_t i = 0; i < d; i += step) {
    for (index_t j = i; j < d; j += step) {
      const Place p{i, j, std::min(step, d - i), std::min(step, d - j), offset};
      places_.push_back(p);
      offset += p.rows * p.cols;
    }
  }
}

index_t SymmetricTiles::size(index_t d) {
  index_t total = 0;
  const index_t step = tile_width(d);
  for (index_t i = 0; i < d; i += step) total += std::min(step, d - i) * (d - i);
  return total;
}

SquareMatrix SymmetricTiles::dense(double scale) const {
  SquareMatrix full(d_);
  for (index_t t = 0; t < count(); ++t) {
    const Place& p = place(t);
    const double* values = tile(t);
    for (index_t r = 0; r < p.rows; ++r) {
      for (index_t c = p.diagonal() ? r : 0; c < p.cols; ++c) {
        const double value = values[r * p.cols + c] * scale;
        full(p.i + r, p.j + c) = value;
        full(p.j + c, p.i + r) = value;
      }
    }
  }
  return full;
}

void SymmetricTiles::assign(MatrixView<const double> full) {
  for (index_t t = 0; t < count(); ++t) {
    const Place& p = place(t);
    double* values = tile(t);
    for (index_t r = 0; r < p.rows; ++r) {
      for (index_t c = 0; c < p.cols; ++c) {
        const bool upper = !p.diagonal() || c >= r;
        values[r * p.cols + c] = upper ? full(p.i + r, p.j + c) : full(p.j + c, p.i + r);
      }
    }
  }
}

std::vector<double> SymmetricTiles::multiply(const std::vector<double>& x) const {
  std::vector<double> y(x.size());
  for (index_t t = 0; t < count(); ++t) {
    const Place& p = place(t);
    const double* values = tile(t);
    for (index_t r = 0; r < p.rows; ++r) {
      for (index_t c = p.diagonal() ? r : 0; c < p.cols; ++c) {
        const double value = values[r * p.cols + c];
        const auto i = static_cast<std::size_t>(p.i + r), j = static_cast<std::size_t>(p.j + c);
        y[i] += value * x[j];
        if (i != j) y[j] += value * x[i];
      }
    }
  }
  return y;
}

double SymmetricTiles::trace() const {
  double sum = 0;
  for (index_t t = 0; t < count(); ++t) {
    const Place& p = place(t);
    if (!p.diagonal()) continue;
    for (index_t r = 0; r < p.rows; ++r) sum += tile(t)[r * p.cols + r];
  }
  return sum;
}

}  // namespace netassay::stats
