#include <algorithm>
#include <cstddef>
#include <vector>

#include "netassay/base/parallel.hpp"
#include "stats/fold.hpp"

namespace netassay::stats {
namespace {

// Rows whose fourth moments one task sums.
constexpr index_t kFourthRows = 64;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

}  // namespace

// With the mean moved from m to m', e = m - m', and sum (x - m) = 0:
//   sum |x - m'|^4            = A + 4 e^T M e + 4 e^T B + 2 |e|^2 tr M + n |e|^4
//   sum |x - m'|^2 (x - m')   = B + 2 M e + e tr M + n |e|^2 e
void Folded::shift_fourth(const std::vector<double>& to) {
  std::vector<double> e(offset.size());
  for (std::size_t j = 0; j < e.size(); ++j) e[j] = offset[j] - to[j];
  const std::vector<double> Me = scatter.multiply(e);
  const double trace = scatter.trace(), square = dot(e, e), rows = static_cast<double>(n);
  fourth += 4 * dot(e, Me) + 4 * dot(e, third) + 2 * square * trace + rows * square * square;
  for (std::size_t j = 0; j < e.size(); ++j) third[j] += 2 * Me[j] + e[j] * (trace + rows * square);
}

// Moves the fourth moments to the mean pivot + to, and adds those of rows [first, first + count) about it.
void Folded::add_fourth(const RowSource& rows, index_t first, index_t count, const std::vector<double>& to,
                        const Execution& how) {
  const auto width = static_cast<std::size_t>(d);
  shift_fourth(to);
  const index_t chunks = (count + kFourthRows - 1) / kFourthRows;
  std::vector<double> fourths(static_cast<std::size_t>(chunks));
  std::vector<std::vector<double>> thirds(static_cast<std::size_t>(chunks), std::vector<double>(width));
  parallel_for(chunks, how, [&](index_t chunk, int) {
    std::vector<double> z(width);
    std::vector<double>& partial = thirds[static_cast<std::size_t>(chunk)];
    for (index_t r = chunk * kFourthRows; r < std::min((chunk + 1) * kFourthRows, count); ++r) {
      rows.copy(first + r, 1, 0, d, z.data(), d);
      for (std::size_t j = 0; j < width; ++j) z[j] = (z[j] - pivot[j]) - to[j];
      const double square = dot(z, z);
      fourths[static_cast<std::size_t>(chunk)] += square * square;
      for (std::size_t j = 0; j < width; ++j) partial[j] += square * z[j];
    }
  });
  for (std::size_t chunk = 0; chunk < fourths.size(); ++chunk) {
    fourth += fourths[chunk];
    for (std::size_t j = 0; j < width; ++j) third[j] += thirds[chunk][j];
  }
}

}  // namespace netassay::stats
