#pragma once
/// Rows out of a view into a dense block, widened; rows with a NaN or an infinity are told apart.

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

  /// Rows still to be read.
  index_t left() const { return total_ - next_; }
  index_t total() const { return total_; }

  /// Reads the next min(left(), capacity) rows and writes the finite ones, in order, to out (row-major, width
  /// columns). Returns how many it wrote; adds the others to `nonfinite`.
  template <class W>
  index_t read(index_t capacity, W* out, index_t& nonfinite, const Execution& execution);

 private:
  template <class W>
  void copy(index_t first, index_t count, W* out) const;

  RowsView<const T> view_;
  std::vector<index_t> kept_;  // row numbers; empty when all are kept
  index_t total_;
  index_t next_ = 0;
};

}  // namespace netassay::stats
