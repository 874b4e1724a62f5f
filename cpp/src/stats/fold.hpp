#pragma once
/// Blocks of rows folded into a mean and a scatter matrix (see netassay/stats/moments.hpp for the formulas).

#include <algorithm>
#include <memory>

#include "stats/tiles.hpp"

namespace netassay::stats {

/// Rows of a block: products in float32 run over at most this many before they are added in float64.
inline constexpr index_t kBlock = 1024;

/// Rows that wait, in storage that grows without being cleared.
template <class W>
class RowBuffer {
 public:
  explicit RowBuffer(index_t width) : d_(width) {}
  RowBuffer(const RowBuffer& other) : d_(other.d_) {
    reserve(other.rows_);
    append(other.data(), other.rows_);
  }
  RowBuffer(RowBuffer&&) noexcept = default;
  RowBuffer& operator=(RowBuffer&&) noexcept = default;

  index_t rows() const { return rows_; }
  W* data() { return values_.get(); }
  const W* data() const { return values_.get(); }
  W* end() { return values_.get() + rows_ * d_; }
  index_t bytes() const { return capacity_ * d_ * static_cast<index_t>(sizeof(W)); }

  void clear() { rows_ = 0; }
  /// Rows written at end() now belong to the buffer.
  void grow(index_t rows) { rows_ += rows; }
  void append(const W* values, index_t rows) {
    std::copy_n(values, rows * d_, end());
    rows_ += rows;
  }
  void drop(index_t rows) {
    std::copy(values_.get() + rows * d_, end(), values_.get());
    rows_ -= rows;
  }
  /// Room for `rows` in all. Up to a block it grows by doubling, so that many small updates cost few moves.
  void reserve(index_t rows) {
    if (rows <= capacity_) return;
    const index_t capacity = std::max(rows, std::min(2 * capacity_, kBlock));
    auto values = std::make_unique_for_overwrite<W[]>(static_cast<std::size_t>(capacity * d_));
    std::copy_n(values_.get(), rows_ * d_, values.get());
    values_ = std::move(values);
    capacity_ = capacity;
  }

 private:
  index_t d_;
  index_t rows_ = 0, capacity_ = 0;
  std::unique_ptr<W[]> values_;
};

struct Folded {
  index_t d;
  bool keeps_fourth;
  index_t n = 0;
  // mean = pivot + offset: pivot is the first block's mean as the block's own format rounds it, so that differences of
  // means lose nothing however large the mean is.
  std::vector<double> pivot, offset;
  SymmetricTiles scatter;
  double fourth = 0;          // sum |x - mean|^4
  std::vector<double> third;  // sum |x - mean|^2 (x - mean)

  Folded(index_t width, bool with_fourth) : d(width), keeps_fourth(with_fourth) {}

  /// Takes the memory that fold and merge need; they throw nothing afterwards but what execution.poll throws.
  void allocate();
  /// Folds rows (count, d), cut into blocks of kBlock; `rows` is overwritten with the centred rows.
  template <class W>
  void fold(W* rows, index_t count, const Execution& how);
  void merge(const Folded& other, const Execution& how);
  /// The mean with further rows added.
  template <class W>
  std::vector<double> mean_with(const W* rows, index_t count) const;

 private:
  struct Block;
  template <class W>
  void add_products(const W* rows, const std::vector<Block>& blocks, const Execution& how);
  template <class W>
  void add_fourth(const W* rows, const Block& block, const Execution& how);
  void shift_fourth(const std::vector<double>& to);
};

}  // namespace netassay::stats
