#pragma once
/// The edges of one layer of a chain, made from the stored weights as they are read.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "graph/rows.hpp"
#include "netassay/persistence.hpp"

namespace netassay::persistence {

/// W: float or double, what edges are computed and compared in.
/// edge = |w gain[u] - center| / divisor, gain 1 where there is none.
template <class W>
class Edges {
 public:
  Edges(index_t outputs, index_t inputs) : outputs_(outputs), inputs_(inputs) {}
  virtual ~Edges() = default;
  Edges(const Edges&) = delete;
  Edges& operator=(const Edges&) = delete;

  index_t outputs() const { return outputs_; }
  index_t inputs() const { return inputs_; }

  /// w gain of every edge into output v: in place where it is stored so, else in `scratch` (inputs elements).
  virtual const W* products(index_t v, W* scratch) const = 0;
  virtual W product(index_t v, index_t u) const = 0;

  W edge(index_t v, index_t u) const { return std::abs(product(v, u) - center) / divisor; }
  void row(index_t v, W* out) const {
    const W* from = products(v, out);
    if (divisor == 1) {
      for (index_t u = 0; u < inputs_; ++u) out[u] = std::abs(from[u] - center);
    } else {
      for (index_t u = 0; u < inputs_; ++u) out[u] = std::abs(from[u] - center) / divisor;
    }
  }

  W center = 0, divisor = 1;

 private:
  index_t outputs_, inputs_;
};

template <class T, class W>
class StoredEdges final : public Edges<W> {
 public:
  StoredEdges(const MatrixView<const T>& w, const W* gain) : Edges<W>(w.rows, w.cols), w_(w), gain_(gain) {}

  const W* products(index_t v, W* scratch) const override {
    const T* from = w_.data + v * w_.row_stride;
    const index_t n = w_.cols;
    if constexpr (std::is_same_v<T, W>) {
      if (w_.col_stride == 1 && gain_ == nullptr) return from;
    }
    if (w_.col_stride == 1) {
      for (index_t u = 0; u < n; ++u) scratch[u] = number(from[u]);
    } else {
      for (index_t u = 0; u < n; ++u) scratch[u] = number(from[u * w_.col_stride]);
    }
    if (gain_ != nullptr) {
      for (index_t u = 0; u < n; ++u) scratch[u] *= gain_[u];
    }
    return scratch;
  }
  W product(index_t v, index_t u) const override {
    const W w = number(w_(v, u));
    return gain_ == nullptr ? w : w * gain_[u];
  }

 private:
  static W number(T x) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<W>(x);
    } else {
      return static_cast<W>(widen(x));
    }
  }
  MatrixView<const T> w_;
  const W* gain_;
};

/// lambda = min(edge, alpha[u], beta[v]) as rows of keys: the float's bits, which no sign disturbs.
template <class W>
class Bottlenecks {
 public:
  using Key = typename graph::Format<W>::Key;
  static constexpr graph::Sign sign = graph::Sign::bit;

  /// alpha: of the inputs; beta: of the outputs; empty: infinite.
  Bottlenecks(const Edges<W>& edges, std::span<const W> alpha, std::span<const W> beta)
      : edges_(edges), alpha_(alpha), beta_(beta) {}

  index_t rows() const { return edges_.outputs(); }
  index_t cols() const { return edges_.inputs(); }
  const graph::SurveyKernel<Key>& kernel() const { return graph::survey_kernels_here().*graph::Format<W>::kernel; }

  const Key* row(index_t v, Key* scratch) const {
    W* out = reinterpret_cast<W*>(scratch);
    edges_.row(v, out);
    const W most = beta_.empty() ? std::numeric_limits<W>::infinity() : beta_[static_cast<std::size_t>(v)];
    for (index_t u = 0; u < cols(); ++u) out[u] = std::min(out[u], most);
    for (std::size_t u = 0; u < alpha_.size(); ++u) out[u] = std::min(out[u], alpha_[u]);
    return scratch;
  }
  Key key(index_t v, index_t u) const {
    W lambda = edges_.edge(v, u);
    if (!beta_.empty()) lambda = std::min(lambda, beta_[static_cast<std::size_t>(v)]);
    if (!alpha_.empty()) lambda = std::min(lambda, alpha_[static_cast<std::size_t>(u)]);
    return std::bit_cast<Key>(lambda);
  }
  static W value(std::uint64_t key) { return std::bit_cast<W>(static_cast<Key>(key)); }

 private:
  const Edges<W>& edges_;
  std::span<const W> alpha_, beta_;
};

}  // namespace netassay::persistence
