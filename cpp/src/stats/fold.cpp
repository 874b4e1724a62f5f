#include "stats/fold.hpp"

#include <cmath>
#include <type_traits>

#include "netassay/base/cpu.hpp"
#include "stats/workspace.hpp"

namespace netassay::stats {
namespace {

// Columns a task packs: with a block's rows they stay in a core's cache between being read, measured and packed.
constexpr index_t kStripe = 2 * kPanel;
constexpr index_t kTilePanels = kTile / kPanel;
// Up to this many tiles there is too little to share out by tile, so blocks are shared out as well.
constexpr index_t kFewTiles = 3;
// Packed rows of one fold, and blocks at most: the more at once, the less often the tiles pass through the cache.
constexpr index_t kPackedBytes = index_t{64} << 20;
constexpr index_t kMostBlocks = 16;
// Rows whose fourth moments one task sums.
constexpr index_t kFourthRows = 64;
// Variances between which float32 products neither over- nor underflow, with room for outliers.
constexpr double kLeastVariance = 0x1p-100, kLargestVariance = 0x1p+80;

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

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t j = 0; j < a.size(); ++j) sum += a[j] * b[j];
  return sum;
}

}  // namespace

// What makes a block one that cannot simply be folded.
enum Special : unsigned char { kNonfinite = 1, kOutOfRange = 2 };

// One block of rows and how it joins what is there: with y = x - pivot and s = sum y,
//   M += sum y y^T - s s^T / n + weight delta delta^T,   mean += delta n / (n_before + n).
// Vectors are padded to whole panels.
template <class W>
struct Folded::Block {
  index_t first, n;
  std::byte* packed;
  std::vector<W> pivot;
  std::vector<double> sum, rest, delta;
  std::vector<unsigned char> has_rest;  // per panel: whether its second parts are to be multiplied
  std::vector<double> offset{};         // of the mean after this block
  double weight = 0;
  std::vector<unsigned char> special;  // per panel, see Special

  Block(index_t first_row, index_t rows, index_t d, std::byte* memory)
      : first(first_row),
        n(rows),
        packed(memory),
        pivot(static_cast<std::size_t>(panels(d) * kPanel)),
        sum(pivot.size()),
        rest(pivot.size()),
        delta(pivot.size()),
        has_rest(static_cast<std::size_t>(panels(d))),
        special(has_rest.size()) {}

  bool any(Special what) const {
    return std::any_of(special.begin(), special.end(), [what](unsigned char flags) { return (flags & what) != 0; });
  }

  void* chunk(index_t c, index_t panel) const {
    return packed + (c * static_cast<index_t>(has_rest.size()) + panel) * kernel<W>().chunk_bytes;
  }
  index_t rows_of(index_t c) const { return std::min(kChunk, n - c * kChunk); }
  index_t chunks() const { return (n + kChunk - 1) / kChunk; }

  // Packs one panel from rows (n, kPanel), `step` apart.
  void pack(index_t panel, const W* x, index_t step) {
    const ScatterKernel<W>& k = kernel<W>();
    const auto j0 = static_cast<std::size_t>(panel * kPanel), p = static_cast<std::size_t>(panel);
    double sums[kPanel], squares[kPanel];
    const bool narrow = k.measure(x, n, step, sums, squares);
    for (std::size_t j = 0; j < kPanel; ++j) {
      special[p] |= place(j0 + j, static_cast<double>(x[j]), sums[j], squares[j], narrow);
    }
    bool any_rest = false;
    for (index_t c = 0; c < chunks(); ++c) {
      any_rest |= k.pack(x + c * kChunk * step, rows_of(c), step, &pivot[j0], &rest[j0], chunk(c, panel));
    }
    has_rest[p] = any_rest;
  }

  // From sums over x - x0 and its square: where to centre a column, the sum of what is left, and whether float32
  // products carry it. A column of bfloat16 values not far from zero is left where it is when packing splits values: it
  // then packs into one part, exactly.
  unsigned char place(std::size_t j, double x0, double total, double squares, bool narrow) {
    const auto rows = static_cast<double>(n);
    const double mean = x0 + total / rows, variance = squares / rows - (total / rows) * (total / rows);
    const bool stays = narrow && kernel<W>().splits && mean * mean <= variance;
    pivot[j] = stays ? W{0} : static_cast<W>(mean);
    sum[j] = total + (x0 - static_cast<double>(pivot[j])) * rows;
    if (!std::isfinite(total)) return kNonfinite;
    const bool carried = variance <= 0 || (variance >= kLeastVariance && variance <= kLargestVariance);
    return std::is_same_v<W, float> && !carried ? kOutOfRange : 0;
  }

  // C = A^T B of a tile, panel by panel, upper panels alone where it is on the diagonal.
  void multiply(const SymmetricTiles::Place& p, W* out) const {
    const ScatterKernel<W>& k = kernel<W>();
    const index_t i0 = p.i / kPanel, j0 = p.j / kPanel;
    for (index_t c = 0; c < chunks(); ++c) {
      for (index_t i = 0; i < panels(p.rows); ++i) {
        const index_t j = p.diagonal() ? i : 0;
        const bool more = c + 1 < chunks();
        k.multiply(chunk(c, i0 + i), chunk(c, j0 + j), panels(p.cols) - j, rows_of(c),
                   has_rest[static_cast<std::size_t>(i0 + i)] != 0, &has_rest[static_cast<std::size_t>(j0 + j)], c == 0,
                   out + (i * kTilePanels + j) * kPanel * kPanel, more ? chunk(c + 1, i0 + i) : nullptr,
                   more ? chunk(c + 1, std::min(j0 + i, j0 + panels(p.cols) - 1)) : nullptr);
      }
    }
  }
};

void Folded::allocate() {
  if (scatter.empty()) scatter = SymmetricTiles(d);
  pivot.resize(static_cast<std::size_t>(d));
  offset.resize(static_cast<std::size_t>(d));
  if (keeps_fourth) third.resize(static_cast<std::size_t>(d));
}

template <class W>
index_t Folded::blocks_at_once(index_t width) {
  return std::clamp<index_t>(kPackedBytes / packed_bytes<W>(kBlock, width), 1, kMostBlocks);
}

template <class W>
bool Folded::fold(const RowSource& rows, index_t first, index_t count, bool finite, const Execution& how) {
  if (count == 0) return true;
  const index_t block_bytes = packed_bytes<W>(std::min(kBlock, count), d);
  const index_t stripe_bytes = std::min(kBlock, count) * kStripe * static_cast<index_t>(sizeof(W));
  const index_t groups = (count + kBlock - 1) / kBlock, stripes = (d + kStripe - 1) / kStripe;
  Workspace packed(static_cast<std::size_t>(groups * block_bytes));
  std::vector<Block<W>> blocks;
  for (index_t g = 0; g < groups; ++g) {
    const index_t begin = g * kBlock;
    blocks.emplace_back(first + begin, std::min(kBlock, count - begin), d, packed.data() + g * block_bytes);
  }
  {
    Workspace stripe(static_cast<std::size_t>(thread_count(how.threads) * stripe_bytes));
    parallel_for(groups * stripes, how, [&](index_t task, int worker) {
      Block<W>& block = blocks[static_cast<std::size_t>(task / stripes)];
      const index_t j0 = task % stripes * kStripe, cols = std::min(kStripe, d - j0);
      W* x = reinterpret_cast<W*>(stripe.data() + worker * stripe_bytes);
      rows.copy(block.first, block.n, j0, cols, x, kStripe);
      for (index_t r = 0; r < block.n && cols < kStripe; ++r) {
        std::fill(x + r * kStripe + cols, x + (r + 1) * kStripe, W{0});
      }
      for (index_t j = 0; j < cols; j += kPanel) block.pack((j0 + j) / kPanel, x + j, kStripe);
    });
  }
  for (const Block<W>& block : blocks) {
    if (!finite && block.any(kNonfinite)) return false;
  }
  // Blocks join in their order, as many at once as are alike.
  Block<W>* const end = blocks.data() + groups;
  for (Block<W>* begin = blocks.data(); begin != end;) {
    if (begin->any(kOutOfRange)) {
      fold<double>(rows, begin->first, begin->n, true, how);
      ++begin;
      continue;
    }
    Block<W>* next = begin + 1;
    // The fourth moments need the scatter as it is before each block.
    while (!keeps_fourth && next != end && !next->any(kOutOfRange)) ++next;
    join(rows, begin, next, how);
    begin = next;
  }
  return true;
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
    block->offset.resize(offset.size());
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
  const auto contribute = [&](const Block<W>& block, index_t t, int worker, double* out) {
    const SymmetricTiles::Place& p = scatter.place(t);
    W* product = reinterpret_cast<W*>(products.data() + worker * product_bytes);
    block.multiply(p, product);
    for (index_t r = 0; r < p.rows; ++r) {
      const auto i = static_cast<std::size_t>(p.i + r);
      const index_t c = p.diagonal() ? r : 0;
      const W* row = product + (r / kPanel * kTilePanels * kPanel + r % kPanel) * kPanel;
      kernel<W>().add(row, c, p.cols, block.delta[i] * block.weight, &block.delta[0] + p.j,
                      block.sum[i] / static_cast<double>(block.n), &block.sum[0] + p.j, out + r * p.cols);
      if (p.diagonal()) out[r * p.cols + r] += block.rest[i];
    }
  };

  const index_t tiles = scatter.count(), groups = end - begin;
  if (tiles > kFewTiles || groups == 1) {
    parallel_for(tiles, how, [&](index_t t, int worker) {
      for (const Block<W>* block = begin; block != end; ++block) contribute(*block, t, worker, scatter.tile(t));
    });
    return;
  }
  // Each block's contribution apart, then added in the order of the blocks: the same sums as above.
  const index_t size = SymmetricTiles::size(d);
  std::vector<double> apart(static_cast<std::size_t>(groups * size));
  parallel_for(groups * tiles, how, [&](index_t task, int worker) {
    const index_t g = task / tiles, t = task % tiles;
    contribute(begin[g], t, worker, apart.data() + g * size + scatter.place(t).offset);
  });
  parallel_for(tiles, how, [&](index_t t, int) {
    const SymmetricTiles::Place& p = scatter.place(t);
    for (index_t g = 0; g < groups; ++g) {
      const double* in = apart.data() + g * size + p.offset;
      double* out = scatter.tile(t);
      for (index_t k = 0; k < p.rows * p.cols; ++k) out[k] += in[k];
    }
  });
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
