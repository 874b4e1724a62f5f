#include "stats/fold.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "netassay/base/cpu.hpp"
#include "stats/workspace.hpp"

namespace netassay::stats {
namespace {

// Columns of a chunk that a task reads at once: whole pieces of rows, so that reading streams, and few enough that they
// are still in a core's cache when they are packed.
constexpr index_t kPiece = 1024;
constexpr index_t kTilePanels = kTile / kPanel;
// Packed rows of one fold, and blocks at most: few enough to be in some cache still when they are multiplied.
constexpr index_t kPackedBytes = index_t{8} << 20;
constexpr index_t kMostBlocks = 16;
// Mean squares between which float32 products neither over- nor underflow, with room for outliers.
constexpr double kLeast = 0x1p-100, kLargest = 0x1p+80;

template <class W>
const ScatterKernel<W>& kernel() {
  constexpr bool wide = std::is_same_v<W, double>;
#if defined(__x86_64__)
  const Isa level = isa();
  if constexpr (wide) {
    if (level >= Isa::avx512) return kScatterAvx512Wide;
    if (level >= Isa::avx2) return kScatterAvx2Wide;
  } else {
    if (level >= Isa::amx) return kScatterAmx;
    if (level >= Isa::avx512) return kScatterAvx512;
    if (level >= Isa::avx2) return kScatterAvx2;
  }
#endif
  if constexpr (wide) {
    return kScatterBaselineWide;
  } else {
    return kScatterBaseline;
  }
}

index_t panels(index_t d) { return (d + kPanel - 1) / kPanel; }

template <class W>
index_t packed_bytes(index_t rows, index_t d) {
  return (rows + kChunk - 1) / kChunk * panels(d) * kernel<W>().chunk_bytes;
}

float round_to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return std::bit_cast<float>((bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u);
}

}  // namespace

// One block of rows and how it joins what is there: with y = x - pivot and s = sum y,
//   M += sum y y^T - s s^T / n + weight delta delta^T,   mean += delta n / (n_before + n).
// Vectors over columns are padded to whole panels. The pivot is the mean of the block's first chunk.
template <class W>
struct Folded::Block {
  index_t first, n;
  std::byte* packed;
  std::size_t columns;
  std::vector<W> pivot;
  std::vector<double> sum, square, rest;  // of each chunk, one after the other; then the first are those of the block
  std::vector<unsigned char> has_rest;    // per chunk and panel: whether its second parts are to be multiplied
  std::vector<double> delta, offset;      // offset: of the mean after this block
  double weight = 0;
  bool finite = true, in_range = true;

  Block(index_t first_row, index_t rows, index_t d, std::byte* memory)
      : first(first_row),
        n(rows),
        packed(memory),
        columns(static_cast<std::size_t>(panels(d) * kPanel)),
        pivot(columns),
        sum(columns * static_cast<std::size_t>(chunks())),
        square(sum.size()),
        rest(sum.size()),
        has_rest(sum.size() / kPanel),
        delta(columns),
        offset(static_cast<std::size_t>(d)) {}

  index_t chunks() const { return (n + kChunk - 1) / kChunk; }
  index_t rows_of(index_t c) const { return std::min(kChunk, n - c * kChunk); }
  std::byte* chunk(index_t c, index_t panel) const {
    return packed + (c * row_of_panels() + panel) * kernel<W>().chunk_bytes;
  }

  // Where to centre the columns of a panel, from the first chunk's rows. bfloat16 values are left on a grid of few
  // bits, near zero where they are, else at the nearest bfloat16 of the mean: products are then exact, and where
  // packing splits values they pack into one part.
  void place(index_t panel, const W* x, index_t step) {
    const ScatterKernel<W>& k = kernel<W>();
    const auto rows = static_cast<double>(rows_of(0));
    double sums[kPanel], squares[kPanel];
    const bool narrow = k.measure(x, rows_of(0), step, sums, squares);
    for (index_t j = 0; j < kPanel; ++j) {
      const double shift = sums[j] / rows, mean = static_cast<double>(x[j]) + shift;
      const bool near = mean * mean <= squares[j] / rows - shift * shift;
      pivot[static_cast<std::size_t>(panel * kPanel + j)] =
          !narrow ? static_cast<W>(mean)
          : near  ? W{0}
                  : static_cast<W>(round_to_bf16(static_cast<float>(mean)));
    }
  }

  void pack(index_t c, index_t panel, const W* x, index_t step) {
    const auto j = static_cast<std::size_t>(panel * kPanel), at = static_cast<std::size_t>(c) * columns + j;
    has_rest[at / kPanel] =
        kernel<W>().pack(x, rows_of(c), step, &pivot[j], &sum[at], &square[at], &rest[at], chunk(c, panel));
  }

  // Sums over chunks, in their order; then what kind of block this is.
  void finish() {
    for (std::size_t at = columns; at < sum.size(); ++at) {
      sum[at % columns] += sum[at];
      square[at % columns] += square[at];
      rest[at % columns] += rest[at];
    }
    const auto rows = static_cast<double>(n);
    for (std::size_t j = 0; j < columns; ++j) {
      finite = finite && std::isfinite(sum[j]);
      const double moment = square[j] / rows;
      const bool carried = sum[j] == 0 && moment == 0 ? true : moment >= kLeast && moment <= kLargest;
      in_range = in_range && (std::is_same_v<W, double> || carried);
    }
  }

  // C = A^T B of a tile, panel by panel, upper panels alone where it is on the diagonal.
  void multiply(const SymmetricTiles::Place& p, W* out) const {
    const index_t i0 = p.i / kPanel, j0 = p.j / kPanel, rows = panels(p.rows), cols = panels(p.cols);
    // First parts alone of all chunks are few enough to stay in cache,
    // so sums need not leave the registers between chunks.
    const bool at_once = !any_rest(i0, rows) && !any_rest(j0, cols);
    for (index_t c = 0; c < (at_once ? 1 : chunks()); ++c) {
      const unsigned char* const second = has_rest.data() + c * row_of_panels();
      const bool more = !at_once && c + 1 < chunks();
      for (index_t i = 0; i < rows; ++i) {
        const index_t j = p.diagonal() ? i : 0;
        kernel<W>().multiply(chunk(c, i0 + i), chunk(c, j0 + j), cols - j, at_once ? n : rows_of(c),
                             row_of_panels() * kernel<W>().chunk_bytes, second[i0 + i] != 0, second + j0 + j, c == 0,
                             out + (i * kTilePanels + j) * kPanel * kPanel, more ? chunk(c + 1, i0 + i) : nullptr,
                             more ? chunk(c + 1, j0 + std::min(i, cols - 1)) : nullptr);
      }
    }
  }

  index_t row_of_panels() const { return static_cast<index_t>(columns) / kPanel; }
  bool any_rest(index_t panel, index_t count) const {
    for (index_t c = 0; c < chunks(); ++c) {
      for (index_t k = 0; k < count; ++k) {
        if (has_rest[static_cast<std::size_t>(c * row_of_panels() + panel + k)]) return true;
      }
    }
    return false;
  }
};

void Folded::allocate() {
  if (scatter.empty()) scatter = SymmetricTiles(d);
  pivot.resize(static_cast<std::size_t>(d));
  offset.resize(static_cast<std::size_t>(d));
  if (keeps_fourth) third.resize(static_cast<std::size_t>(d));
}

void Folded::clear() {
  if (n > 0) scatter.clear();
  n = 0;
  fourth = 0;
  std::fill(third.begin(), third.end(), 0.0);
}

template <class W>
index_t Folded::blocks_at_once(index_t width) {
  return std::clamp<index_t>(kPackedBytes / packed_bytes<W>(kBlock, width), 1, kMostBlocks);
}

template <class W>
bool Folded::fold(const RowSource& rows, index_t first, index_t count, bool finite, const Execution& how) {
  if (count == 0) return true;
  const index_t block_bytes = packed_bytes<W>(std::min(kBlock, count), d);
  const index_t groups = (count + kBlock - 1) / kBlock, pieces = (d + kPiece - 1) / kPiece;
  Workspace packed(static_cast<std::size_t>(groups * block_bytes));
  std::vector<Block<W>> blocks;
  for (index_t g = 0; g < groups; ++g) {
    const index_t begin = g * kBlock;
    blocks.emplace_back(first + begin, std::min(kBlock, count - begin), d, packed.data() + g * block_bytes);
  }
  pack<W>(rows, blocks, pieces, how);
  for (Block<W>& block : blocks) {
    block.finish();
    if (!finite && !block.finite) return false;
  }
  // Blocks join in their order, as many at once as are alike.
  Block<W>* const end = blocks.data() + groups;
  for (Block<W>* begin = blocks.data(); begin != end;) {
    if (!begin->in_range) {
      fold<double>(rows, begin->first, begin->n, true, how);
      ++begin;
      continue;
    }
    Block<W>* next = begin + 1;
    // The fourth moments need the scatter as it is before each block.
    while (!keeps_fourth && next != end && next->in_range) ++next;
    join(rows, begin, next, how);
    begin = next;
  }
  return true;
}

// Reads every row once (a block's first chunk twice): first where to centre each block, then centred and packed.
template <class W>
void Folded::pack(const RowSource& rows, std::vector<Block<W>>& blocks, index_t pieces, const Execution& how) {
  const index_t step = std::min(panels(d) * kPanel, kPiece);
  const index_t piece_bytes = kChunk * step * static_cast<index_t>(sizeof(W));
  Workspace scratch(static_cast<std::size_t>(thread_count(how.threads) * piece_bytes));
  const auto each_panel = [&](const Block<W>& block, index_t c, index_t piece, int worker, auto use) {
    W* x = reinterpret_cast<W*>(scratch.data() + worker * piece_bytes);
    const index_t j0 = piece * kPiece, cols = std::min(kPiece, d - j0), padded = panels(cols) * kPanel;
    rows.copy(block.first + c * kChunk, block.rows_of(c), j0, cols, x, step);
    for (index_t r = 0; r < block.rows_of(c); ++r) std::fill(x + r * step + cols, x + r * step + padded, W{0});
    for (index_t j = 0; j < padded; j += kPanel) use((j0 + j) / kPanel, x + j);
  };
  const auto groups = static_cast<index_t>(blocks.size());
  parallel_for(groups * pieces, how, [&](index_t task, int worker) {
    Block<W>& block = blocks[static_cast<std::size_t>(task / pieces)];
    each_panel(block, 0, task % pieces, worker, [&](index_t panel, const W* x) { block.place(panel, x, step); });
  });
  const index_t chunks = blocks.front().chunks();
  parallel_for(groups * chunks * pieces, how, [&](index_t task, int worker) {
    Block<W>& block = blocks[static_cast<std::size_t>(task / (chunks * pieces))];
    const index_t c = task / pieces % chunks;
    if (c >= block.chunks()) return;
    each_panel(block, c, task % pieces, worker, [&](index_t panel, const W* x) { block.pack(c, panel, x, step); });
  });
}

template <class W>
void Folded::join(const RowSource& rows, Block<W>* begin, Block<W>* end, const Execution& how) {
  if (n == 0) {
    std::copy_n(begin->pivot.begin(), d, pivot.begin());
    std::fill(offset.begin(), offset.end(), 0.0);
  }
  index_t before = n;
  const std::vector<double>* at = &offset;
  for (Block<W>* block = begin; block != end; ++block) {
    const auto rows_before = static_cast<double>(before), rows_here = static_cast<double>(block->n);
    const double rows_after = rows_before + rows_here;
    block->weight = rows_before * rows_here / rows_after;
    for (std::size_t j = 0; j < offset.size(); ++j) {
      const double shift = static_cast<double>(block->pivot[j]) - pivot[j];
      block->delta[j] = shift + block->sum[j] / rows_here - (*at)[j];
      block->offset[j] = (*at)[j] + block->delta[j] * (rows_here / rows_after);
    }
    at = &block->offset;
    before += block->n;
  }
  if (keeps_fourth) add_fourth(rows, begin->first, begin->n, *at, how);
  add_products(begin, end, how);
  n = before;
  offset = *at;
}

template <class W>
void Folded::add_products(const Block<W>* begin, const Block<W>* end, const Execution& how) {
  constexpr index_t product_bytes = kTile * kTile * static_cast<index_t>(sizeof(W));
  Workspace products(static_cast<std::size_t>(thread_count(how.threads) * product_bytes));
  // out += (or, `put`, =) a block's contribution to a tile.
  const auto contribute = [&](const Block<W>& block, index_t t, int worker, double* out, bool put) {
    const SymmetricTiles::Place& p = scatter.place(t);
    W* product = reinterpret_cast<W*>(products.data() + worker * product_bytes);
    block.multiply(p, product);
    for (index_t r = 0; r < p.rows; ++r) {
      const auto i = static_cast<std::size_t>(p.i + r);
      const index_t c = p.diagonal() ? r : 0;
      const W* row = product + (r / kPanel * kTilePanels * kPanel + r % kPanel) * kPanel;
      if (put) std::fill(out + r * p.cols, out + (r + 1) * p.cols, 0.0);
      kernel<W>().add(row, c, p.cols, block.delta[i] * block.weight, &block.delta[0] + p.j,
                      block.sum[i] / static_cast<double>(block.n), &block.sum[0] + p.j, out + r * p.cols);
      if (p.diagonal()) out[r * p.cols + r] += block.rest[i];
    }
  };

  const index_t tiles = scatter.count(), groups = end - begin;
  if (tiles > 1 || groups == 1) {
    parallel_for(tiles, how, [&](index_t t, int worker) {
      for (const Block<W>* block = begin; block != end; ++block) contribute(*block, t, worker, scatter.tile(t), false);
    });
    return;
  }
  // A single tile: there are only blocks to share out. Each contribution apart, then added in the order of the blocks:
  // the same sums as above.
  const index_t size = SymmetricTiles::size(d);
  Workspace apart(static_cast<std::size_t>(groups * size) * sizeof(double));
  double* const parts = reinterpret_cast<double*>(apart.data());
  parallel_for(groups, how, [&](index_t g, int worker) { contribute(begin[g], 0, worker, parts + g * size, true); });
  for (index_t g = 0; g < groups; ++g) {
    for (index_t k = 0; k < size; ++k) scatter.tile(0)[k] += parts[g * size + k];
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
  parallel_for(scatter.count(), how, [&](index_t t, int) {
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

template bool Folded::fold<float>(const RowSource&, index_t, index_t, bool, const Execution&);
template bool Folded::fold<double>(const RowSource&, index_t, index_t, bool, const Execution&);
template index_t Folded::blocks_at_once<float>(index_t);
template index_t Folded::blocks_at_once<double>(index_t);
template std::vector<double> Folded::mean_with(const float*, index_t) const;
template std::vector<double> Folded::mean_with(const double*, index_t) const;

}  // namespace netassay::stats
