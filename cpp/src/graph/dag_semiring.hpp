#pragma once
/// The semirings whose numbers are doubles, and the one walk for all of them.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "graph/dag_walk.hpp"

namespace netassay::graph {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// log2 of a sum of powers of two, each relative to the largest so far.
class Log2Sum {
 public:
  void add(double x) {
    if (x == -kInfinity) return;
    if (x <= most_) {
      sum_ += std::exp2(x - most_);
    } else {
      sum_ = sum_ * std::exp2(most_ - x) + 1;
      most_ = x;
    }
  }
  double value() const { return most_ + std::log2(sum_); }

 private:
  double most_ = -kInfinity, sum_ = 0;
};

struct Log2Paths {
  static constexpr double kOne = 0, kZero = -kInfinity;
  static constexpr const char* kExpected = "a number below infinity";
  using Sum = Log2Sum;
  static double times(double t, double gain) { return t + gain; }
  static bool takes(double gain) { return gain < kInfinity; }
  static bool holds(double t) { return t < kInfinity; }
};

struct Longest : Log2Paths {
  struct Sum {
    double most = kZero;
    void add(double x) { most = x > most ? x : most; }
    double value() const { return most; }
  };
};

struct Shortest {
  static constexpr double kOne = 0, kZero = kInfinity;
  static constexpr const char* kExpected = "a number above -infinity";
  struct Sum {
    double least = kZero;
    void add(double x) { least = x < least ? x : least; }
    double value() const { return least; }
  };
  static double times(double t, double gain) { return t + gain; }
  static bool takes(double gain) { return gain > -kInfinity; }
  static bool holds(double t) { return t > -kInfinity; }
};

struct Widest {
  static constexpr double kOne = kInfinity, kZero = -kInfinity;
  static constexpr const char* kExpected = "a number";
  using Sum = Longest::Sum;
  static double times(double t, double gain) { return std::min(t, gain); }
  static bool takes(double gain) { return !std::isnan(gain); }
  static bool holds(double) { return true; }
};

/// The product of what reaches v, its sum of logarithms; zero where nothing does.
inline double product(const Dag& dag, std::span<const double> gains, const std::vector<double>& t, Dag::Node v) {
  double sum = 0;
  bool reached = false;
  for (const Dag::Arrival& in : dag.arrivals(v)) {
    const double factor = t[in.from] + gains[in.edge];
    if (factor == -kInfinity) continue;
    sum += factor;
    reached = true;
  }
  return reached ? sum : -kInfinity;
}

/// t of every node; `multiplies` is empty or marks the products.
template <class S>
std::vector<double> walk(const Dag& dag, std::span<const double> gains, const Mask& source, const Mask& multiplies,
                         const Execution& execution, const char* function) {
  require_count(gains, dag.edges(), function, "gains", "edge");
  for (std::size_t e = 0; e < gains.size(); ++e) {
    NETASSAY_REQUIRE(S::takes(gains[e]), NonFinite, function, ": got gain ", gains[e], " of edge ", e, ", expected ",
                     S::kExpected);
  }
  std::vector<double> t(static_cast<std::size_t>(dag.nodes()));
  Pulse pulse(execution);
  for (const Dag::Node v : dag.order()) {
    const auto arrivals = dag.arrivals(v);
    pulse(1 + arrivals.size());
    typename S::Sum sum;
    if (source[v]) sum.add(S::kOne);
    if (!multiplies.empty() && multiplies[v]) {
      sum.add(product(dag, gains, t, v));
    } else {
      for (const Dag::Arrival& in : arrivals) sum.add(S::times(t[in.from], gains[in.edge]));
    }
    t[v] = sum.value();
    NETASSAY_REQUIRE(S::holds(t[v]), NonFinite, function, ": got gains whose sum at node ", v,
                     " is beyond a double, expected smaller ones");
  }
  return t;
}

}  // namespace netassay::graph
