#include "stats/fold.hpp"

#include <cmath>

#include "stats/products.hpp"

namespace netassay::stats {
namespace {

// Columns a task centres: a block's worth of them stays in cache between the pass that sums and the pass that subtracts.
constexpr index_t kStripe = 64;
// Up to this many tiles there is too little to share out by tile, so blocks are shared out as well.
constexpr index_t kFewTiles = 3;
// Rows whose fourth moments one task sums.
constexpr index_t kFourthRows = 64;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

}  // namespace

// One block of rows and how it joins what is there: with y = x - pivot and s = sum y,
//   M += sum y y^T - s s^T / n + weight delta delta^T,   mean += delta n / (n_before + n).
struct Folded::Block {
  index_t first, n;
  std::vector<double> pivot, sum, delta;
  std::vector<double> offset;  // of the mean after this block
  double weight = 0;
};

void Folded::allocate() {
  if (scatter.empty()) scatter = SymmetricTiles(d);
  pivot.resize(static_cast<std::size_t>(d));
  offset.resize(static_cast<std::size_t>(d));
  if (keeps_fourth) third.resize(static_cast<std::size_t>(d));
}

template <class W>
void Folded::fold(W* rows, index_t count, const Execution& how) {
  const auto width = static_cast<std::size_t>(d);
  std::vector<Block> blocks;
  for (index_t first = 0; first < count; first += kBlock) {
    const std::vector<double> zeros(width);
    blocks.push_back({first, std::min(kBlock, count - first), zeros, zeros, zeros, zeros});
  }

  const index_t stripes = (d + kStripe - 1) / kStripe;
  parallel_for(static_cast<index_t>(blocks.size()) * stripes, how, [&](index_t task) {
    Block& block = blocks[static_cast<std::size_t>(task / stripes)];
    const index_t j0 = task % stripes * kStripe, m = std::min(kStripe, d - j0);
    double* sum = block.sum.data() + j0;
    double* centre = block.pivot.data() + j0;
    W* x = rows + block.first * d + j0;
    W narrow[kStripe];
    for (index_t r = 0; r < block.n; ++r) {
      for (index_t j = 0; j < m; ++j) sum[j] += static_cast<double>(x[r * d + j]);
    }
    for (index_t j = 0; j < m; ++j) {
      narrow[j] = static_cast<W>(sum[j] / static_cast<double>(block.n));
      centre[j] = static_cast<double>(narrow[j]);
      sum[j] = 0;
    }
    for (index_t r = 0; r < block.n; ++r) {
      for (index_t j = 0; j < m; ++j) {
        const W y = x[r * d + j] - narrow[j];
        x[r * d + j] = y;
        sum[j] += static_cast<double>(y);
      }
    }
  });

  if (n == 0) {
    pivot = blocks.front().pivot;
    std::fill(offset.begin(), offset.end(), 0.0);
  }
  index_t before = n;
  const std::vector<double>* at = &offset;
  for (Block& block : blocks) {
    const auto rows_before = static_cast<double>(before), rows_here = static_cast<double>(block.n);
    const double rows_after = rows_before + rows_here;
    block.weight = rows_before * rows_here / rows_after;
    for (std::size_t j = 0; j < width; ++j) {
      block.delta[j] = (block.pivot[j] - pivot[j]) + block.sum[j] / rows_here - (*at)[j];
      block.offset[j] = (*at)[j] + block.delta[j] * (rows_here / rows_after);
    }
    at = &block.offset;
    before += block.n;
  }

  if (keeps_fourth) {  // the fourth moments need the scatter as it is before each block
    for (const Block& block : blocks) {
      add_fourth(rows, block, how);
      add_products(rows, {block}, how);
      n += block.n;
      offset = block.offset;
    }
  } else {
    add_products(rows, blocks, how);
    n = before;
    offset = blocks.back().offset;
  }
}

template <class W>
void Folded::add_products(const W* rows, const std::vector<Block>& blocks, const Execution& how) {
  const auto contribute = [&](const Block& block, index_t t, double* out, auto store) {
    const SymmetricTiles::Place& p = scatter.place(t);
    W product[kTile * kTile];
    const W* x = rows + block.first * d;
    inner_product(x + p.i, x + p.j, block.n, p.rows, p.cols, d, p.diagonal(), product);
    const auto share = 1.0 / static_cast<double>(block.n);
    for (index_t r = 0; r < p.rows; ++r) {
      const auto i = static_cast<std::size_t>(p.i + r);
      const double s = block.sum[i] * share, w = block.delta[i] * block.weight;
      const double* sum = block.sum.data() + p.j;
      const double* delta = block.delta.data() + p.j;
      for (index_t c = p.diagonal() ? r : 0; c < p.cols; ++c) {
        const index_t k = r * p.cols + c;
        store(out[k], static_cast<double>(product[k]) + (w * delta[c] - s * sum[c]));
      }
    }
  };
  const auto add = [](double& out, double value) { out += value; };
  const auto put = [](double& out, double value) { out = value; };

  const index_t tiles = scatter.count(), groups = static_cast<index_t>(blocks.size());
  if (tiles > kFewTiles || groups == 1) {
    parallel_for(tiles, how, [&](index_t t) {
      for (const Block& block : blocks) contribute(block, t, scatter.tile(t), add);
    });
    return;
  }
  // Each block's contribution apart, then added in the order of the blocks: the same sums as above.
  const index_t size = SymmetricTiles::size(d);
  const auto apart = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(groups * size));
  parallel_for(groups * tiles, how, [&](index_t task) {
    const index_t g = task / tiles, t = task % tiles;
    contribute(blocks[static_cast<std::size_t>(g)], t, apart.get() + g * size + scatter.place(t).offset, put);
  });
  for (index_t t = 0; t < tiles; ++t) {
    const SymmetricTiles::Place& p = scatter.place(t);
    double* out = scatter.tile(t);
    for (index_t g = 0; g < groups; ++g) {
      const double* in = apart.get() + g * size + p.offset;
      for (index_t r = 0; r < p.rows; ++r) {
        for (index_t c = p.diagonal() ? r : 0; c < p.cols; ++c) out[r * p.cols + c] += in[r * p.cols + c];
      }
    }
  }
}

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

template <class W>
void Folded::add_fourth(const W* rows, const Block& block, const Execution& how) {
  const auto width = static_cast<std::size_t>(d);
  shift_fourth(block.offset);
  std::vector<double> move(width);  // from the block's pivot to the new mean
  for (std::size_t j = 0; j < width; ++j) move[j] = (block.pivot[j] - pivot[j]) - block.offset[j];

  const index_t chunks = (block.n + kFourthRows - 1) / kFourthRows;
  std::vector<double> fourths(static_cast<std::size_t>(chunks));
  std::vector<std::vector<double>> thirds(static_cast<std::size_t>(chunks), std::vector<double>(width));
  parallel_for(chunks, how, [&](index_t chunk) {
    std::vector<double> z(width);
    std::vector<double>& partial = thirds[static_cast<std::size_t>(chunk)];
    for (index_t r = chunk * kFourthRows; r < std::min((chunk + 1) * kFourthRows, block.n); ++r) {
      const W* y = rows + (block.first + r) * d;
      for (std::size_t j = 0; j < width; ++j) z[j] = static_cast<double>(y[j]) + move[j];
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

void Folded::merge(const Folded& other, const Execution& how) {
  if (other.n == 0) return;
  if (n == 0) {
    *this = other;
    return;
  }
  allocate();
  const auto width = static_cast<std::size_t>(d);
  const auto mine = static_cast<double>(n), theirs = static_cast<double>(other.n);
  const double all = mine + theirs, weight = mine * theirs / all;
  std::vector<double> delta(width), next(width);
  for (std::size_t j = 0; j < width; ++j) {
    delta[j] = (other.pivot[j] - pivot[j]) + (other.offset[j] - offset[j]);
    next[j] = offset[j] + delta[j] * (theirs / all);
  }
  if (keeps_fourth) {
    Folded moved(other);
    std::vector<double> to(width);  // the new mean, as an offset from the other's pivot
    for (std::size_t j = 0; j < width; ++j) to[j] = next[j] + (pivot[j] - other.pivot[j]);
    moved.shift_fourth(to);
    shift_fourth(next);
    fourth += moved.fourth;
    for (std::size_t j = 0; j < width; ++j) third[j] += moved.third[j];
  }
  parallel_for(scatter.count(), how, [&](index_t t) {
    const SymmetricTiles::Place& p = scatter.place(t);
    double* out = scatter.tile(t);
    const double* in = other.scatter.tile(t);
    for (index_t r = 0; r < p.rows; ++r) {
      const double w = delta[static_cast<std::size_t>(p.i + r)] * weight;
      const double* along = delta.data() + p.j;
      for (index_t c = 0; c < p.cols; ++c) out[r * p.cols + c] += in[r * p.cols + c] + w * along[c];
    }
  });
  n += other.n;
  offset = next;
}

template <class W>
std::vector<double> Folded::mean_with(const W* rows, index_t count) const {
  const auto width = static_cast<std::size_t>(d);
  std::vector<double> mean(width), sum(width);
  const auto rows_before = static_cast<double>(n), rows_here = static_cast<double>(count);
  for (std::size_t j = 0; j < width && n > 0; ++j) mean[j] = pivot[j] + offset[j];
  if (count == 0) return mean;
  const W* first = rows;  // differences from the first row, so that a large mean does not swamp the sum
  for (index_t r = 0; r < count; ++r) {
    for (std::size_t j = 0; j < width; ++j) {
      sum[j] += static_cast<double>(rows[r * d + static_cast<index_t>(j)]) - static_cast<double>(first[j]);
    }
  }
  for (std::size_t j = 0; j < width; ++j) {
    const double here = static_cast<double>(first[j]) + sum[j] / rows_here;
    mean[j] = n > 0 ? mean[j] + (here - mean[j]) * (rows_here / (rows_before + rows_here)) : here;
  }
  return mean;
}

template void Folded::fold(float*, index_t, const Execution&);
template void Folded::fold(double*, index_t, const Execution&);
template std::vector<double> Folded::mean_with(const float*, index_t) const;
template std::vector<double> Folded::mean_with(const double*, index_t) const;

}  // namespace netassay::stats
