#pragma once
/// Maximum flow by Dinic's algorithm, without recursion.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "graph/dag_walk.hpp"

namespace netassay::graph {

class Flow {
 public:
  using Node = std::uint32_t;
  static constexpr std::int64_t kUnbounded = std::numeric_limits<std::int64_t>::max();

  explicit Flow(std::size_t nodes) : first_(nodes, kNone), level_(nodes), at_(nodes) {}

  /// An arc of so much room, and its reverse of none. What flows out of a source's unbounded arcs must have a sum of
  /// capacities below kUnbounded, or the room of reverse arcs would overflow.
  void arc(Node from, Node to, std::int64_t room) {
    link(from, to, room);
    link(to, from, 0);
  }

  /// The flow from source to sink, or `enough` where it is as large.
  std::int64_t run(Node source, Node sink, std::int64_t enough, Pulse& pulse) {
    std::int64_t flow = 0;
    while (flow < enough && search(source, sink, pulse)) {
      at_ = first_;
      flow += block(source, sink, enough - flow, pulse);
    }
    return flow;
  }

  /// After a run to the end: whether there is still room for more from the source to here.
  bool reached(Node v) const { return level_[v] >= 0; }

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  struct Arc {
    std::int64_t room;
    Node to;
    std::uint32_t next;
  };

  void link(Node from, Node to, std::int64_t room) {
    arcs_.push_back({room, to, first_[from]});
    first_[from] = static_cast<std::uint32_t>(arcs_.size() - 1);
  }

  /// Levels by breadth; whether the sink has one.
  bool search(Node source, Node sink, Pulse& pulse) {
    std::fill(level_.begin(), level_.end(), -1);
    queue_.assign(1, source);
    level_[source] = 0;
    for (std::size_t k = 0; k < queue_.size() && level_[sink] < 0; ++k) {
      const Node v = queue_[k];
      for (std::uint32_t a = first_[v]; a != kNone; a = arcs_[a].next) {
        pulse(1);
        const Node w = arcs_[a].to;
        if (arcs_[a].room == 0 || level_[w] >= 0) continue;
        level_[w] = level_[v] + 1;
        queue_.push_back(w);
      }
    }
    return level_[sink] >= 0;
  }

  /// A blocking flow: paths along rising levels until none is left, at most so much.
  std::int64_t block(Node source, Node sink, std::int64_t most, Pulse& pulse) {
    std::int64_t flow = 0;
    path_.clear();
    for (Node v = source; flow < most;) {
      pulse(1);
      if (v == sink) {
        flow += push(most - flow, pulse);
        v = path_.empty() ? source : arcs_[path_.back()].to;
        continue;
      }
      std::uint32_t& a = at_[v];
      while (a != kNone && (arcs_[a].room == 0 || level_[arcs_[a].to] != level_[v] + 1)) a = arcs_[a].next;
      if (a != kNone) {
        path_.push_back(a);
        v = arcs_[a].to;
      } else if (path_.empty()) {
        break;
      } else {  // nothing leads on from v: the arc to it is done with
        v = arcs_[path_.back() ^ 1].to;
        path_.pop_back();
        at_[v] = arcs_[at_[v]].next;
      }
    }
    return flow;
  }

  /// Sends what the path has room for, and shortens it to its first full arc.
  std::int64_t push(std::int64_t most, Pulse& pulse) {
    pulse(path_.size());
    std::int64_t least = most;
    for (const std::uint32_t a : path_) least = std::min(least, arcs_[a].room);
    std::size_t keep = path_.size();
    for (std::size_t k = path_.size(); k-- > 0;) {
      arcs_[path_[k]].room -= least;
      arcs_[path_[k] ^ 1].room += least;
      if (arcs_[path_[k]].room == 0) keep = k;
    }
    path_.resize(keep);
    return least;
  }

  std::vector<Arc> arcs_;
  std::vector<std::uint32_t> first_;
  std::vector<std::int64_t> level_;
  std::vector<std::uint32_t> at_, path_;
  std::vector<Node> queue_;
};

}  // namespace netassay::graph
