#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "graph/dag_semiring.hpp"
#include "graph/dag_walk.hpp"
#include "netassay/graph/dag.hpp"

namespace netassay {
namespace {

using namespace graph;

constexpr const char* kShares = "path_shares";

template <class S>
std::vector<double> scalar_paths(const Dag& dag, std::span<const double> gains, const NodeList& sources,
                                 const Execution& execution, const char* function) {
  return walk<S>(dag, gains, source_mask(dag, sources, function), {}, execution, function);
}

Mask product_mask(const Dag& dag, std::span<const std::int64_t> products, const char* function) {
  return products.empty() ? Mask{} : mask(dag, products, function, "product");
}

/// What each target has of the total, 0 elsewhere; false where no path arrives at any.
bool seed(const Mask& target, const std::vector<double>& t, std::vector<double>& adjoint) {
  Log2Sum total;
  for (std::size_t v = 0; v < t.size(); ++v) {
    if (target[v]) total.add(t[v]);
  }
  const double whole = total.value();
  if (whole == -kInfinity) return false;
  for (std::size_t v = 0; v < t.size(); ++v) {
    if (target[v]) adjoint[v] = std::exp2(t[v] - whole);
  }
  return true;
}

/// The walk backwards: what a node has of the total it hands to its edges, in proportion to what they carry.
class Shares {
 public:
  Shares(const Dag& dag, std::span<const double> gains, const Mask& source, const Mask& multiplies,
         const std::vector<double>& t)
      : dag_(dag), gains_(gains), source_(source), multiplies_(multiplies), t_(t), share_(gains.size()) {}

  void hand_down(Dag::Node v, std::vector<double>& adjoint) {
    if (adjoint[v] == 0) return;
    const bool times = !multiplies_.empty() && multiplies_[v];
    const double whole = times ? adjoint[v] * of_product(v) : adjoint[v] / weight(v);
    for (const Dag::Arrival& in : dag_.arrivals(v)) {
      const double carried = t_[in.from] + gains_[in.edge];
      if (carried == -kInfinity) continue;
      share_[in.edge] = times ? whole : whole * std::exp2(carried - t_[v]);
      adjoint[in.from] += share_[in.edge];
    }
  }
  std::vector<double> take() { return std::move(share_); }

 private:
  /// The sum of all terms over 2^t(v): 1 but for rounding, which would add up along paths.
  double weight(Dag::Node v) const {
    double sum = source_[v] ? std::exp2(-t_[v]) : 0;
    for (const Dag::Arrival& in : dag_.arrivals(v)) sum += std::exp2(t_[in.from] + gains_[in.edge] - t_[v]);
    return sum;
  }
  /// What the product is of one plus the product, at a source; else all.
  double of_product(Dag::Node v) const { return source_[v] ? std::exp2(product(dag_, gains_, t_, v) - t_[v]) : 1; }

  const Dag& dag_;
  std::span<const double> gains_;
  const Mask& source_;
  const Mask& multiplies_;
  const std::vector<double>& t_;
  std::vector<double> share_;
};

void require_field(std::span<const double> extents, std::span<const double> strides, std::size_t e,
                   const char* function) {
  const double extent = extents[e], stride = strides[e];
  NETASSAY_REQUIRE(!std::isnan(extent) && !std::isnan(stride) && stride < kInfinity, NonFinite, function, ": got (",
                   extent, ", ", stride, ") of edge ", e, ", expected an extent and a finite stride");
  NETASSAY_REQUIRE(extent >= 0 && stride > 0, ValueError, function, ": got (", extent, ", ", stride, ") of edge ", e,
                   ", expected an extent not below 0 and a stride above 0");
}

/// The size is the largest of what arrives, the stride the common one.
struct Field {
  double size = 0, stride = 0;
  bool consistent = true;

  void add(const Field& x) {
    if (x.size == 0) return;
    constexpr double kSame = 1e-9;
    const double larger = std::max(stride, x.stride);
    const bool agrees = size == 0 || std::abs(stride - x.stride) <= kSame * larger;
    *this = {std::max(size, x.size), larger, consistent && x.consistent && agrees};
  }
};

}  // namespace

std::vector<double> log2_path_sums(const Dag& dag, std::span<const double> gains, NodeList sources,
                                   std::span<const std::int64_t> products, const Execution& execution) {
  constexpr const char* kName = "log2_path_sums";
  return walk<Log2Paths>(dag, gains, source_mask(dag, sources, kName), product_mask(dag, products, kName), execution,
                         kName);
}

std::vector<double> longest_paths(const Dag& dag, std::span<const double> gains, NodeList sources,
                                  const Execution& execution) {
  return scalar_paths<Longest>(dag, gains, sources, execution, "longest_paths");
}

std::vector<double> shortest_paths(const Dag& dag, std::span<const double> gains, NodeList sources,
                                   const Execution& execution) {
  return scalar_paths<Shortest>(dag, gains, sources, execution, "shortest_paths");
}

std::vector<double> widest_paths(const Dag& dag, std::span<const double> gains, NodeList sources,
                                 const Execution& execution) {
  return scalar_paths<Widest>(dag, gains, sources, execution, "widest_paths");
}

std::vector<double> path_shares(const Dag& dag, std::span<const double> gains, NodeList sources,
                                std::span<const std::int64_t> products, NodeList targets, const Execution& execution) {
  const Mask source = source_mask(dag, sources, kShares), multiplies = product_mask(dag, products, kShares);
  const Mask target = mask(dag, targets ? *targets : std::span<const std::int64_t>(ends(dag)), kShares, "target");
  const std::vector<double> t = walk<Log2Paths>(dag, gains, source, multiplies, execution, kShares);
  std::vector<double> adjoint(t.size());
  Shares shares(dag, gains, source, multiplies, t);
  if (!seed(target, t, adjoint)) return shares.take();
  Pulse pulse(execution);
  for (auto v = dag.order().rbegin(); v != dag.order().rend(); ++v) {
    pulse(1 + dag.arrivals(*v).size());
    shares.hand_down(*v, adjoint);
  }
  return shares.take();
}

ReceptiveFields receptive_fields(const Dag& dag, std::span<const double> extents, std::span<const double> strides,
                                 NodeList sources, const Execution& execution) {
  constexpr const char* kName = "receptive_fields";
  require_count(extents, dag.edges(), kName, "extents", "edge");
  require_count(strides, dag.edges(), kName, "strides", "edge");
  for (std::size_t e = 0; e < extents.size(); ++e) require_field(extents, strides, e, kName);
  const Mask source = source_mask(dag, sources, kName);
  const auto nodes = static_cast<std::size_t>(dag.nodes());
  ReceptiveFields t{std::vector<double>(nodes), std::vector<double>(nodes), Mask(nodes)};
  Pulse pulse(execution);
  for (const Dag::Node v : dag.order()) {
    const auto arrivals = dag.arrivals(v);
    pulse(1 + arrivals.size());
    Field field;
    if (source[v]) field.add({1, 1, true});
    for (const Dag::Arrival& in : arrivals) {
      const Dag::Node u = in.from;
      if (t.size[u] == 0) continue;
      const double size = t.size[u] + extents[in.edge] * t.stride[u];
      field.add({size, t.stride[u] * strides[in.edge], t.consistent[u] != 0});
    }
    NETASSAY_REQUIRE(field.stride < kInfinity && (field.size == 0 || field.stride >= 1e-300), NonFinite, kName,
                     ": got strides whose product at node ", v, " is beyond a double, expected moderate ones");
    t.size[v] = field.size;
    t.stride[v] = field.stride;
    t.consistent[v] = field.consistent;
  }
  return t;
}

}  // namespace netassay
