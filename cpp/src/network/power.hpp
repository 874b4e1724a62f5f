#pragma once
/// Sums of powers of deviations, and how two become one.

#include <algorithm>
#include <cmath>
#include <limits>

#include "netassay/network.hpp"
#include "network/kernel.hpp"

namespace netassay::network {

inline constexpr Powers kNoPowers{
    0, 0, 0, 0, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(), 0, 0};

/// Of runs about one centre.
inline void add(const Powers& run, Powers& total) {
  total.first += run.first;
  total.second += run.second;
  total.third += run.third;
  total.fourth += run.fourth;
  total.least = std::min(total.least, run.least);
  total.most = std::max(total.most, run.most);
  total.zeros += run.zeros;
  total.positives += run.positives;
}

/// Whether fourth powers of what lies between least and most leave the range of float64.
inline bool out_of_range(double least, double most) {
  const double spread = most - least;  // may be infinite
  return spread > 0x1p250 || (spread > 0 && spread < 0x1p-250);
}

/// The power of two that brings the largest magnitude near to 1.
inline int fitting_exponent(double least, double most) {
  return std::max(-1000, std::ilogb(std::max(std::abs(least), std::abs(most))));
}

/// Of w 2^-exponent: the mean, and the sums of the deviations' squares, cubes and fourth powers.
struct Central {
  double count = 0;
  /// The mean is the sum of both, `mean` the nearest float64: parts of one distribution have means so near to each
  /// other that their difference would be lost in the last bits of a large one.
  double mean = 0, rest = 0;
  double second = 0, third = 0, fourth = 0;
  int exponent = 0;

  /// From sums of powers of d = w 2^-exponent - centre.
  static Central about(double centre, double n, const Powers& p, int exponent) {
    const double shift = p.first / n, s2 = shift * shift;
    Central out{n, centre, 0, 0, 0, 0, exponent};
    out.move(shift);
    out.second = std::max(0.0, p.second - n * s2);
    out.third = p.third - shift * (3 * p.second - 2 * n * s2);
    out.fourth = std::max(0.0, p.fourth - shift * (4 * p.third - shift * (6 * p.second - 3 * n * s2)));
    return out;
  }

  /// Adds to the mean.
  void move(double by) {
    const double small = rest + by, sum = mean + small, taken = sum - mean;
    rest = (mean - (sum - taken)) + (small - taken);
    mean = sum;
  }

  void rescale(int to) {
    const int by = exponent - to;
    mean = std::ldexp(mean, by);
    rest = std::ldexp(rest, by);
    second = std::ldexp(second, 2 * by);
    third = std::ldexp(third, 3 * by);
    fourth = std::ldexp(fourth, 4 * by);
    exponent = to;
  }

  /// Pebay's equations 2.1 for orders up to four.
  void merge(Central other) {
    if (other.count == 0) return;
    if (count == 0) {
      *this = other;
      return;
    }
    const int scale = std::max(exponent, other.exponent);
    rescale(scale);
    other.rescale(scale);
    const double a = count, b = other.count, n = a + b;
    const double delta = other.mean - mean + (other.rest - rest), by = delta / n, d2 = delta * by * a * b;
    fourth += other.fourth + d2 * by * by * (a * a - a * b + b * b) +
              6 * by * by * (a * a * other.second + b * b * second) + 4 * by * (a * other.third - b * third);
    third += other.third + d2 * by * (a - b) + 3 * by * (a * other.second - b * second);
    second += other.second + d2;
    move(by * b);
    count = n;
  }
};

inline Central central(const LinkStatistics& of) {
  return {static_cast<double>(of.count), of.scaled_mean, of.scaled_rest, of.second, of.third, of.fourth, of.exponent};
}

inline void store(const Central& sums, LinkStatistics& to) {
  to.scaled_mean = sums.mean;
  to.scaled_rest = sums.rest;
  to.second = sums.second;
  to.third = sums.third;
  to.fourth = sums.fourth;
  to.exponent = sums.exponent;
}

}  // namespace netassay::network
