#pragma once
/// Rows out of a view, widened; rows with a NaN or an infinity are told apart.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"

namespace netassay::stats {

/// A walk over the rows of a view that are to be read: all of them, or those a mask keeps, in order.
template <class T>
class RowReader {
 public:
  /// mask: rows() bytes, zero leaves the row out; null keeps all.
  RowReader(const RowsView<const T>& view, const unsigned char* mask);

  index_t width() const { return view_.width(); }
  /// Rows still to be read.
  index_t left() const { return total_ - next_; }
  void skip(index_t rows) { next_ += rows; }
  /// Leaves out every row still to be read that has a NaN or an infinity; returns how many.
  index_t drop_nonfinite(const Execution& execution);

  /// Columns [col, col + cols) of `count` rows, from the `row`-th still to be read:
  /// out(count, cols), rows `step` apart.
  template <class W>
  void copy(index_t row, index_t count, index_t col, index_t cols, W* out, index_t step) const;

  /// Reads all that is left and writes the finite rows, in order, to out (row-major). Returns how many it wrote; adds
  /// the others to `nonfinite`.
  template <class W>
  index_t read(W* out, index_t& nonfinite, const Execution& execution);

 private:
  RowsView<const T> view_;
  bool all_;                   // every row of the view is read
  std::vector<index_t> kept_;  // else the numbers of those that are
  index_t total_;
  index_t next_ = 0;
};

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
  index_t width() const { return d_; }
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
  /// Room for `rows` in all, growing by doubling, so that many small updates cost few moves.
  void reserve(index_t rows) {
    if (rows <= capacity_) return;
    const index_t capacity = std::max(rows, 2 * capacity_);
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

/// Rows to be folded, wherever they are.
class RowSource {
 public:
  virtual ~RowSource() = default;
  /// As RowReader::copy.
  virtual void copy(index_t row, index_t count, index_t col, index_t cols, float* out, index_t step) const = 0;
  virtual void copy(index_t row, index_t count, index_t col, index_t cols, double* out, index_t step) const = 0;
};

/// The rows of a buffer.
template <class W>
class WaitingRows final : public RowSource {
 public:
  explicit WaitingRows(const RowBuffer<W>& rows) : rows_(rows) {}
  void copy(index_t row, index_t count, index_t col, index_t cols, float* out, index_t step) const override {
    get(row, count, col, cols, out, step);
  }
  void copy(index_t row, index_t count, index_t col, index_t cols, double* out, index_t step) const override {
    get(row, count, col, cols, out, step);
  }

 private:
  template <class To>
  void get(index_t row, index_t count, index_t col, index_t cols, To* out, index_t step) const {
    for (index_t r = 0; r < count; ++r) {
      const W* in = rows_.data() + (row + r) * rows_.width() + col;
      for (index_t j = 0; j < cols; ++j) out[r * step + j] = static_cast<To>(in[j]);
    }
  }
  const RowBuffer<W>& rows_;
};

/// The rows of a buffer, then those still to be read.
template <class T, class W>
class JoinedRows final : public RowSource {
 public:
  JoinedRows(const RowBuffer<W>& waiting, const RowReader<T>& reader)
      : count_(waiting.rows()), waiting_(waiting), reader_(reader) {}
  void copy(index_t row, index_t count, index_t col, index_t cols, float* out, index_t step) const override {
    get(row, count, col, cols, out, step);
  }
  void copy(index_t row, index_t count, index_t col, index_t cols, double* out, index_t step) const override {
    get(row, count, col, cols, out, step);
  }

 private:
  template <class To>
  void get(index_t row, index_t count, index_t col, index_t cols, To* out, index_t step) const {
    const index_t first = std::clamp<index_t>(count_ - row, 0, count);
    if (first > 0) waiting_.copy(row, first, col, cols, out, step);
    if (first < count) reader_.copy(row + first - count_, count - first, col, cols, out + first * step, step);
  }
  index_t count_;
  WaitingRows<W> waiting_;
  const RowReader<T>& reader_;
};

}  // namespace netassay::stats
