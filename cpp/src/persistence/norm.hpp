#pragma once
/// Sums of persistences.

#include <cmath>

namespace netassay::persistence {

/// A sum that loses nothing that a float64 result could show (Neumaier).
class Sum {
 public:
  void add(double x) {
    const double total = sum_ + x;
    rest_ += std::abs(sum_) >= std::abs(x) ? (sum_ - total) + x : (x - total) + sum_;
    sum_ = total;
  }
  double value() const { return sum_ + rest_; }

 private:
  double sum_ = 0, rest_ = 0;
};

inline double power(double x, double p) { return p == 2 ? x * x : std::pow(x, p); }
inline double root(double x, double p) { return p == 2 ? std::sqrt(x) : std::pow(x, 1 / p); }

}  // namespace netassay::persistence
