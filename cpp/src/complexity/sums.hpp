#pragma once
/// Sums of a batch's numbers, a group of samples after the other.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "complexity/batch.hpp"

namespace netassay::complexity {

/// Sums of `rows` samples, one after the other, (rows, units of a task), about pivots (units).
template <class T>
class Summed {
  using U = Bits<T>;

 public:
  void allocate(index_t rows, index_t units) {
    pivot_.resize(size(units));
    sum_.resize(size(rows * units));
    square_.resize(size(rows * units));
    left_out_.resize(size(rows * units));
  }
  Sums<U> at(index_t offset) {
    return {pivot_.data(), sum_.data() + offset, square_.data() + offset, left_out_.data() + offset};
  }

  /// Before a group of samples is summed: pivots are the first finite numbers, so that no outlier and no mean, however
  /// large, makes the sum of squares more than (numbers of the group) times the scatter.
  void start(const Batch<T>& batch, const Range& part) {
    clear();
    for (index_t c = part.first; c < part.last; ++c) pivot_[size(c - part.first)] = first_finite(batch, c, part);
  }
  /// After it: `rows` samples with `each` numbers, or all of a group in one row, become a part of every unit, in to;
  /// and means, if there are any, those of every sample and unit, from the batch's first on.
  void finish(const Batch<T>& batch, const Range& part, index_t rows, index_t each, Part* to, double* means) {
    const index_t units = part.last - part.first;
    for (index_t n = part.from; means != nullptr && n < part.to; ++n) {
      double* const of_sample = means + n * batch.units + part.first;
      for (index_t c = 0; c < units; ++c) of_sample[c] = mean_of(batch, n, part, c);
    }
    double *const sum = sum_.data(), *const square = square_.data();
    std::uint32_t* const left_out = left_out_.data();
    for (index_t k = 1; k < rows; ++k) {
      for (index_t c = 0; c < units; ++c) {
        sum[c] += sum[k * units + c];
        square[c] += square[k * units + c];
        left_out[c] += left_out[k * units + c];
      }
    }
    for (index_t c = 0; c < units; ++c) {
      const std::int64_t finite = rows * each - std::int64_t{left_out[c]};
      if (finite == 0) continue;
      const double mean = sum[c] / static_cast<double>(finite), scatter = square[c] - sum[c] * mean;
      to[c] = {finite, value(pivot_[size(c)]) + mean, scatter < 0 ? 0.0 : scatter};
    }
  }

 private:
  void clear() {
    std::fill(sum_.begin(), sum_.end(), 0.0);
    std::fill(square_.begin(), square_.end(), 0.0);
    std::fill(left_out_.begin(), left_out_.end(), 0);
  }
  static U first_finite(const Batch<T>& batch, index_t unit, const Range& part) {
    for (index_t n = part.from; n < part.to; ++n) {
      for (const Segment& s : batch.segments.all) {
        const U* const x = batch.data + batch.samples[size(n)] + unit * batch.unit_stride + s.offset;
        for (index_t j = 0; j < s.length; ++j) {
          const auto magnitude = static_cast<U>(x[j * batch.segments.stride] << 1);
          if (magnitude < static_cast<U>(kInfinity<T> << 1)) return x[j * batch.segments.stride];
        }
      }
    }
    return 0;
  }
  /// Over the positions of a sample; NaN where one is not finite.
  double mean_of(const Batch<T>& batch, index_t n, const Range& part, index_t c) const {
    const double none = std::numeric_limits<double>::quiet_NaN();
    if (batch.positions == 1) {
      const double x = value(batch.data[batch.samples[size(n)] + (part.first + c) * batch.unit_stride]);
      return std::isfinite(x) ? x : none;
    }
    const std::size_t k = size((n - part.from) * (part.last - part.first) + c);
    if (left_out_[k] > 0) return none;
    return value(pivot_[size(c)]) + sum_[k] / static_cast<double>(batch.positions);
  }
  static double value(U bits) { return static_cast<double>(widen(std::bit_cast<T>(bits))); }

  std::vector<U> pivot_;
  std::vector<double> sum_, square_;
  std::vector<std::uint32_t> left_out_;
};

}  // namespace netassay::complexity
