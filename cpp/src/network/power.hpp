#pragma once
/// Sums of powers of deviations, and how two become one.

#include <algorithm>
#include <cmath>

#include "netassay/network.hpp"
#include "network/kernel.hpp"

namespace netassay::network {

/// Of w 2^-exponent: the mean, and the sums of the deviations' squares, cubes and fourth powers.
struct Central {
  double count = 0, mean = 0, second = 0, third = 0, fourth = 0;
  int exponent = 0;

  /// From sums of powers of d = w 2^-exponent - centre.
  static Central about(double centre, double n, const Powers& p, int exponent) {
    const double shift = p.first / n, s2 = shift * shift;
    Central out{n, centre + shift, 0, 0, 0, exponent};
    out.second = std::max(0.0, p.second - n * s2);
    out.third = p.third - shift * (3 * p.second - 2 * n * s2);
    out.fourth = std::max(0.0, p.fourth - shift * (4 * p.third - shift * (6 * p.second - 3 * n * s2)));
    return out;
  }

  void rescale(int to) {
    const int by = exponent - to;
    mean = std::ldexp(mean, by);
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
    const double delta = other.mean - mean, by = delta / n, d2 = delta * by * a * b;
    fourth += other.fourth + d2 * by * by * (a * a - a * b + b * b) +
              6 * by * by * (a * a * other.second + b * b * second) + 4 * by * (a * other.third - b * third);
    third += other.third + d2 * by * (a - b) + 3 * by * (a * other.second - b * second);
    second += other.second + d2;
    mean += by * b;
    count = n;
  }
};

inline Central central(const LinkStatistics& of) {
  return {static_cast<double>(of.count), of.scaled_mean, of.second, of.third, of.fourth, of.exponent};
}

inline void store(const Central& sums, LinkStatistics& to) {
  to.scaled_mean = sums.mean;
  to.second = sums.second;
  to.third = sums.third;
  to.fourth = sums.fourth;
  to.exponent = sums.exponent;
}

}  // namespace netassay::network
