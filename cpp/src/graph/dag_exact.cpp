#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

#include "graph/dag_walk.hpp"
#include "netassay/graph/dag.hpp"

namespace netassay {
namespace {

using namespace graph;

/// Counts of paths: naturals.
struct Counts {
  using Value = Natural;
  using Gain = std::uint64_t;
  static Value one() { return Natural(1); }
  static std::size_t bytes(const Value& x) { return 8 * x.limbs().size(); }
  /// to += x times gain; x is no longer needed where it is the last use.
  static void add(Value& to, Value& x, Gain gain, bool last, const char*) {
    if (gain == 0 || x.zero()) return;
    if (!to.zero()) {
      to.add_product(x, gain);
      return;
    }
    to = last ? std::move(x) : x;
    to *= gain;
  }
};

/// sum_i coefficients[i] z^(low + i), the first and the last of them not 0; none for zero.
struct Polynomial {
  std::uint64_t low = 0;
  std::vector<Natural> coefficients;
  std::uint64_t end() const { return low + coefficients.size(); }
};

void require_room(std::uint64_t coefficients, const char* function) {
  NETASSAY_REQUIRE(coefficients <= kPathBytes / sizeof(Natural), LimitExceeded, function,
                   ": got lengths that spread over ", coefficients, ", expected at most ",
                   kPathBytes / sizeof(Natural));
}

struct Lengths {
  using Value = Polynomial;
  using Gain = std::uint32_t;
  static Value one() { return {0, {Natural(1)}}; }
  static std::size_t bytes(const Value& x) {
    std::size_t sum = sizeof(Natural) * x.coefficients.size();
    for (const Natural& c : x.coefficients) sum += 8 * c.limbs().size();
    return sum;
  }
  static void add(Value& to, Value& x, Gain gain, bool last, const char* function) {
    if (x.coefficients.empty()) return;
    if (to.coefficients.empty()) {
      to = last ? std::move(x) : x;
      to.low += gain;
      return;
    }
    const std::uint64_t low = std::min(to.low, x.low + gain), end = std::max(to.end(), x.end() + gain);
    require_room(end - low, function);
    to.coefficients.insert(to.coefficients.begin(), to.low - low, Natural());
    to.coefficients.resize(end - low);
    to.low = low;
    for (std::size_t i = 0; i < x.coefficients.size(); ++i)
      to.coefficients[x.low + gain - low + i] += x.coefficients[i];
  }
};

/// How often a value is still to be read; targets count as one more. Nodes that lead to no target are never read.
std::vector<std::uint32_t> uses(const Dag& dag, std::span<const std::int64_t> targets, const char* function) {
  std::vector<std::uint32_t> left(static_cast<std::size_t>(dag.nodes()));
  for (const std::int64_t target : targets) left[checked(dag, target, function, "target")] = 1;
  for (auto v = dag.order().rbegin(); v != dag.order().rend(); ++v) {
    if (left[*v] == 0) continue;
    for (const Dag::Arrival& in : dag.arrivals(*v)) ++left[in.from];
  }
  return left;
}

/// The walk of dag_semiring.hpp for values that own memory: each is dropped after its last use.
template <class S>
class ExactWalk {
 public:
  using Value = typename S::Value;

  ExactWalk(const Dag& dag, std::span<const typename S::Gain> gains, const NodeList& sources,
            std::span<const std::int64_t> targets, const char* function)
      : dag_(dag),
        gains_(gains),
        function_(function),
        source_(source_mask(dag, sources, function)),
        uses_(uses(dag, targets, function)),
        t_(source_.size()) {
    require_count(gains, dag.edges(), function, "gains", "edge");
  }

  std::vector<Value> run(std::span<const std::int64_t> targets, const Execution& execution) {
    Pulse pulse(execution);
    for (const Dag::Node v : dag_.order()) {
      if (uses_[v] != 0) pulse(16 + visit(v));
    }
    std::vector<Value> out;
    out.reserve(targets.size());
    for (const std::int64_t target : targets) out.push_back(t_[static_cast<std::size_t>(target)]);
    return out;
  }

 private:
  /// The bytes it went through.
  std::size_t visit(Dag::Node v) {
    Value sum{};
    if (source_[v]) sum = S::one();
    std::size_t work = 0;
    for (const Dag::Arrival& in : dag_.arrivals(v)) {
      Value& x = t_[in.from];
      const std::size_t size = S::bytes(x);
      const bool last = --uses_[in.from] == 0;
      S::add(sum, x, gains_[in.edge], last, function_);
      work += 16 + size;
      if (!last) continue;
      x = Value{};
      held_ -= size;
    }
    held_ += S::bytes(sum);
    NETASSAY_REQUIRE(held_ <= kPathBytes, LimitExceeded, function_, ": got paths whose numbers take more than ",
                     kPathBytes, " bytes at node ", v, ", expected fewer targets, or a smaller graph");
    t_[v] = std::move(sum);
    return work;
  }

  const Dag& dag_;
  std::span<const typename S::Gain> gains_;
  const char* function_;
  Mask source_;
  std::vector<std::uint32_t> uses_;
  std::vector<Value> t_;
  std::size_t held_ = 0;
};

std::vector<std::int64_t> every_node(const Dag& dag) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(dag.nodes()));
  for (std::size_t v = 0; v < out.size(); ++v) out[v] = static_cast<std::int64_t>(v);
  return out;
}

}  // namespace

std::vector<Natural> path_counts(const Dag& dag, std::span<const std::uint64_t> multiplicities, NodeList sources,
                                 NodeList targets, const Execution& execution) {
  const auto all = targets ? std::vector<std::int64_t>() : every_node(dag);
  const auto chosen = targets ? *targets : std::span<const std::int64_t>(all);
  return ExactWalk<Counts>(dag, multiplicities, sources, chosen, "path_counts").run(chosen, execution);
}

std::vector<std::vector<Natural>> path_lengths(const Dag& dag, std::span<const std::uint32_t> lengths, NodeList sources,
                                               NodeList targets, const Execution& execution) {
  constexpr const char* kName = "path_lengths";
  const auto all = targets ? std::vector<std::int64_t>() : ends(dag);
  const auto chosen = targets ? *targets : std::span<const std::int64_t>(all);
  std::vector<Polynomial> found = ExactWalk<Lengths>(dag, lengths, sources, chosen, kName).run(chosen, execution);
  std::uint64_t coefficients = 0;
  for (const Polynomial& x : found) {
    if (!x.coefficients.empty()) require_room(coefficients += x.end(), kName);
  }
  std::vector<std::vector<Natural>> out(found.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (found[i].coefficients.empty()) continue;
    out[i].resize(found[i].low);
    std::move(found[i].coefficients.begin(), found[i].coefficients.end(), std::back_inserter(out[i]));
  }
  return out;
}

}  // namespace netassay
