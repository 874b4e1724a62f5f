#pragma once
/// Blocks of rows folded into a mean and a scatter matrix (see netassay/stats/moments.hpp for the formulas).

#include <vector>

#include "stats/gather.hpp"
#include "stats/kernel.hpp"
#include "stats/tiles.hpp"

namespace netassay::stats {

/// Rows of a block: products in float32 run over at most this many before they are added in float64.
inline constexpr index_t kBlock = 1024;

struct Folded {
  index_t d;
  bool keeps_fourth;
  index_t n = 0;
  // mean = pivot + offset: pivot is the first block's, so that differences of means lose nothing,
  // however large the mean is.
  std::vector<double> pivot, offset;
  SymmetricTiles scatter;
  double fourth = 0;          // sum |x - mean|^4
  std::vector<double> third;  // sum |x - mean|^2 (x - mean)

  Folded(index_t width, bool with_fourth) : d(width), keeps_fourth(with_fourth) {}

  /// Takes the memory of the state.
  void allocate();
  /// Forgets all rows and keeps the memory.
  void clear();
  /// Blocks that fit the workspace of one fold.
  template <class W>
  static index_t blocks_at_once(index_t width);
  /// Folds rows [first, first + count), cut into blocks of kBlock, worked on in W; a block whose values float32
  /// products would not carry is worked on in float64. Unless the rows are known to be `finite`, returns false and
  /// changes nothing where one of them may hold a NaN or an infinity.
  template <class W>
  bool fold(const RowSource& rows, index_t first, index_t count, bool finite, const Execution& how);
  void merge(const Folded& other, const Execution& how);
  /// The mean with further rows added.
  template <class W>
  std::vector<double> mean_with(const W* rows, index_t count) const;

 private:
  template <class W>
  struct Block;
  template <class W>
  void pack(const RowSource& rows, std::vector<Block<W>>& blocks, index_t pieces, const Execution& how);
  template <class W>
  void join(const RowSource& rows, Block<W>* begin, Block<W>* end, const Execution& how);
  template <class W>
  void add_products(const Block<W>* begin, const Block<W>* end, const Execution& how);
  void add_fourth(const RowSource& rows, index_t first, index_t count, const std::vector<double>& to,
                  const Execution& how);
  void shift_fourth(const std::vector<double>& to);
};

}  // namespace netassay::stats
