#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "network/kernels.hpp"
#include "network/power.hpp"
#include "network/tiles.hpp"

namespace netassay {
namespace network {
namespace {

/// Of one tile. Sums of columns: plain, absolute, square, one after the other; rows likewise.
struct Part {
  Central moments;
  double least = std::numeric_limits<double>::infinity(), most = -std::numeric_limits<double>::infinity();
  std::uint64_t zeros = 0;
  bool finite = true;
  std::vector<double> columns;
  std::vector<Sums> rows;
};

template <class T>
class Reading {
 public:
  Reading(const MatrixView<const T>& w, const LinkOptions& options, const Execution& execution)
      : w_(w), options_(options), execution_(execution), tiled_(w) {
    parts_.resize(static_cast<std::size_t>(tiled_.tiles.count()));
    if (options_.statistics) {
      counters_.resize(static_cast<std::size_t>(std::max(1, thread_count(execution.threads))));
    }
  }

  /// Whether all weights were finite; if not, some may not have been, or a sum has left the range of float64.
  bool read() {
    counting_ = options_.statistics;
    each_tile([this](const Tile& tile, Part& part, int worker) { read_tile(tile, part, worker); });
    return std::all_of(parts_.begin(), parts_.end(), [](const Part& part) { return part.finite; });
  }

  /// Whether all weights were finite.
  bool statistics(LinkStatistics& out) {
    std::vector<std::uint64_t> counts(kKeys<T>);
    for (auto& counter : counters_) {
      if (counter) counter->collect(counts);
    }
    out.count = static_cast<std::uint64_t>(w_.rows) * static_cast<std::uint64_t>(w_.cols);
    if constexpr (kCounted<T>) {
      out.bins = bins<T>(counts, 0);
      for (const LinkBin& bin : out.bins) {
        if (!std::isfinite(bin.low)) return false;
        if (bin.low == 0) out.zeros = bin.count;
      }
      out.minimum = out.bins.front().low;
      out.maximum = out.bins.back().low;
      out.density = density(out.bins);
      store(of_bins(out), out);
    } else {
      for (const Part& part : parts_) {
        out.minimum = std::min(out.minimum, part.least);
        out.maximum = std::max(out.maximum, part.most);
        out.zeros += part.zeros;
      }
      out.bins = bins<T>(counts, out.zeros);
      out.density = density(out.bins);
      if (crowded(out)) out.bins = even_bins(out);
      if (out_of_range(out.minimum, out.maximum)) again(out);
      Central sums;
      for (const Part& part : parts_) sums.merge(part.moments);
      store(sums, out);
    }
    return true;
  }

  void sums(LinkSums& rows, LinkSums& columns) const {
    std::vector<Sums> down(static_cast<std::size_t>(w_.rows));
    for (std::size_t t = 0; t < parts_.size(); ++t) {
      const Tile tile = tiled_.at(static_cast<index_t>(t));
      for (index_t i = 0; i < tile.rows; ++i) {
        Sums& to = down[static_cast<std::size_t>(tile.row + i)];
        const Sums& from = parts_[t].rows[static_cast<std::size_t>(i)];
        to = {to.plain + from.plain, to.absolute + from.absolute, to.square + from.square};
      }
    }
    for (const Sums& row : down) {
      rows.sum.push_back(row.plain);
      rows.absolute.push_back(row.absolute);
      rows.square.push_back(row.square);
    }
    for (auto* to : {&columns.sum, &columns.absolute, &columns.square}) to->resize(static_cast<std::size_t>(w_.cols));
    constexpr index_t chunk = 1024;
    parallel_for((w_.cols + chunk - 1) / chunk, execution_, [&](index_t c, int) {
      const index_t first = c * chunk, n = std::min(chunk, w_.cols - first);
      const index_t across = first / tiled_.tiles.cols;  // tiles are of whole chunks
      for (index_t down_at = 0; down_at < tiled_.tiles.down; ++down_at) {
        const Tile tile = tiled_.at(down_at * tiled_.tiles.across + across);
        const double* from = parts_[static_cast<std::size_t>(down_at * tiled_.tiles.across + across)].columns.data();
        for (auto* to : {&columns.sum, &columns.absolute, &columns.square}) {
          double* into = to->data() + first;
          for (index_t j = 0; j < n; ++j) into[j] += from[first - tile.col + j];
          from += tile.cols;
        }
      }
    });
  }

 private:
  using Group = typename Tiled<T>::Group;

  template <class Use>
  void each_tile(const Use& use) {
    parallel_for(tiled_.tiles.count(), execution_,
                 [&](index_t t, int worker) { use(tiled_.at(t), parts_[static_cast<std::size_t>(t)], worker); });
  }

  /// Counting and summing are two passes over each group of a tile, or one where a kernel does both together.
  void read_tile(const Tile& tile, Part& part, int worker) {
    Counter<T>* const counter = counting_ ? &counter_of(worker) : nullptr;
    const bool powered = counting_ && !kCounted<T>;
    const double pivot = powered ? tiled_.typical(tile) : 0;
    // about zero, the sums of the rows are the first two powers; weights of fewer bytes have no powers
    const bool together = options_.sums && counting_ && pivot == 0 && kSurveyed<T>;
    if (options_.sums) part.rows.assign(static_cast<std::size_t>(tile.rows), Sums{});
    Powers total = kNoPowers;
    Columns<T> columns(tile.cols);
    tiled_.each_group(tile, [&](index_t first, index_t rows, const Group& group) {
      if (counting_ && !together) count_group(group, rows, tile.cols, pivot, *counter, total);
      if (options_.sums) {
        sum_group(group, rows, tile.cols, part.rows.data() + first, columns, together ? counter : nullptr, total);
      }
    });
    if (options_.sums) part.columns = columns.take();
    if (powered && together) add_first_two(part.rows, total);
    if (powered) {
      part.moments = central(tile, pivot, total);
      part.least = total.least;
      part.most = total.most;
      part.zeros = total.zeros;
      part.finite = !std::isnan(total.first) && std::isfinite(total.least) && std::isfinite(total.most);
    }
    for (const Sums& row : part.rows) part.finite = part.finite && std::isfinite(row.absolute);
  }

  Counter<T>& counter_of(int worker) {
    std::optional<Counter<T>>& mine = counters_[static_cast<std::size_t>(worker)];
    return mine ? *mine : mine.emplace();
  }

  /// Counts a group's weights, and adds their powers about the pivot where they are not all counted.
  void count_group(const Group& group, index_t rows, index_t cols, double pivot, Counter<T>& counter, Powers& total) {
    tiled_.each_run(group, rows, cols, [&](const T* run, index_t n) {
      if constexpr (kCounted<T>) {
        counter.add(run, n);
      } else {
        network::add(kernel<T>().powers(run, n, scale_, pivot * scale_, counter.room(n)), total);
      }
    });
  }

  static void add_first_two(const std::vector<Sums>& rows, Powers& total) {
    for (const Sums& row : rows) {
      total.first += row.plain;
      total.second += row.square;
    }
  }

  Central central(const Tile& tile, double pivot, const Powers& total) const {
    const double weights = static_cast<double>(tile.rows) * static_cast<double>(tile.cols);
    return Central::about(pivot * scale_, weights, total, exponent_);
  }

  static void sum_group(const Group& group, index_t rows, index_t cols, Sums* into, Columns<T>& columns,
                        Counter<T>* counter, Powers& total) {
    std::array<const T*, kTogether> runs{};
    for (index_t r = 0; r < rows; r += kTogether) {
      const auto together = static_cast<int>(std::min<index_t>(kTogether, rows - r));
      columns.expect(together);
      for (index_t j = 0; j < cols; j += kSideRun) {
        const index_t n = std::min(kSideRun, cols - j);
        for (int k = 0; k < together; ++k) runs[static_cast<std::size_t>(k)] = group.first + (r + k) * group.pitch + j;
        std::uint32_t* counts = counter == nullptr ? nullptr : counter->room(together * n);
        sum_runs(runs.data(), together, n, columns, j, into + r, counts, total);
      }
    }
  }

  /// From exact counts, about the median's bin.
  static Central of_bins(const LinkStatistics& of) {
    std::uint64_t below = 0;
    double pivot = 0;
    for (const LinkBin& bin : of.bins) {
      if (below * 2 <= of.count) pivot = bin.low;
      below += bin.count;
    }
    const auto n = static_cast<double>(of.count);
    double shift = 0;
    for (const LinkBin& bin : of.bins) shift += static_cast<double>(bin.count) * (bin.low - pivot);
    const double mean = pivot + shift / n;
    Powers p{};
    for (const LinkBin& bin : of.bins) {
      const double d = bin.low - mean, times = static_cast<double>(bin.count), d2 = d * d;
      p.first += times * d;
      p.second += times * d2;
      p.third += times * d2 * d;
      p.fourth += times * d2 * d2;
    }
    return Central::about(mean, n, p, 0);
  }

  /// Whether all weights lie in few bins.
  static bool crowded(const LinkStatistics& of) {
    const double range = of.maximum - of.minimum;
    return range > 0 && range < std::max(std::abs(of.minimum), std::abs(of.maximum)) / 4 &&
           std::isfinite(kEven / range);
  }

  static constexpr int kEven = 1 << 16;

  /// The weights counted once more, in equal parts of their range.
  std::vector<LinkBin> even_bins(const LinkStatistics& of) {
    const double range = of.maximum - of.minimum, by = kEven / range;
    std::vector<std::vector<std::uint64_t>> counts(counters_.size());
    each_tile([&](const Tile& tile, Part&, int worker) {
      std::vector<std::uint64_t>& mine = counts[static_cast<std::size_t>(worker)];
      mine.resize(kEven);
      tiled_.each_group(tile, [&](index_t, index_t rows, const Group& group) {
        tiled_.each_run(group, rows, tile.cols, [&](const T* run, index_t n) {
          for (index_t j = 0; j < n; ++j) {
            const auto part = static_cast<index_t>((number(run[j]) - of.minimum) * by);
            ++mine[static_cast<std::size_t>(std::min<index_t>(part, kEven - 1))];
          }
        });
      });
    });
    std::vector<LinkBin> out;
    for (int k = 0; k < kEven; ++k) {
      std::uint64_t count = 0;
      for (const auto& mine : counts) count += mine.empty() ? 0 : mine[static_cast<std::size_t>(k)];
      if (count > 0) out.push_back({of.minimum + k / by, of.minimum + (k + 1) / by, count});
    }
    return out;
  }

  /// The moments once more, of weights whose largest magnitude is near 1.
  void again(const LinkStatistics& of) {
    exponent_ = fitting_exponent(of.minimum, of.maximum);
    scale_ = std::ldexp(1.0, -exponent_);
    if constexpr (!kCounted<T>) {
      each_tile([this](const Tile& tile, Part& part, int) {
        const double pivot = tiled_.typical(tile);
        Powers total = kNoPowers;
        tiled_.each_group(tile, [&](index_t, index_t rows, const Group& group) {
          tiled_.each_run(group, rows, tile.cols, [&](const T* run, index_t n) {
            network::add(kernel<T>().powers(run, n, scale_, pivot * scale_, nullptr), total);
          });
        });
        part.moments = central(tile, pivot, total);
      });
    }
  }

  MatrixView<const T> w_;
  LinkOptions options_;
  const Execution& execution_;
  Tiled<T> tiled_;
  bool counting_ = false;
  int exponent_ = 0;
  double scale_ = 1;
  std::vector<Part> parts_;
  std::vector<std::optional<Counter<T>>> counters_;
};

/// Throws where a weight is no finite number; does nothing where all are.
template <class T>
void refuse(const MatrixView<const T>& w, const char* function) {
  for (index_t i = 0; i < w.rows; ++i) {
    for (index_t j = 0; j < w.cols; ++j) {
      const double x = number(w(i, j));
      NETASSAY_REQUIRE(std::isfinite(x), NonFinite, function, ": got ", x, " at [", i, ", ", j,
                       "], expected finite weights");
    }
  }
}

}  // namespace
}  // namespace network

template <class T>
LinkSurvey link_survey(const MatrixView<const T>& w, const LinkOptions& options, const Execution& execution) {
  NETASSAY_REQUIRE(w.rows > 0 && w.cols > 0, ShapeError, options.function, ": got a weight of shape (", w.rows, ", ",
                   w.cols, "), expected (out, in), neither of them 0");
  // read along the axis whose weights are nearer to each other in memory
  const bool turned = w.cols == 1 || (w.rows > 1 && std::abs(w.row_stride) < std::abs(w.col_stride));
  const MatrixView<const T> along =
      turned ? MatrixView<const T>(w.data, w.cols, w.rows, w.col_stride, w.row_stride) : w;
  LinkSurvey out;
  network::Reading<T> reading(along, options, execution);
  if (!reading.read()) network::refuse(w, options.function);
  if (options.statistics && !reading.statistics(out.statistics)) network::refuse(w, options.function);
  if (options.sums) reading.sums(turned ? out.columns : out.rows, turned ? out.rows : out.columns);
  return out;
}

#define NETASSAY_LINKS(T) \
  template LinkSurvey link_survey<T>(const MatrixView<const T>&, const LinkOptions&, const Execution&);
NETASSAY_LINKS(double)
NETASSAY_LINKS(float)
NETASSAY_LINKS(bf16)
NETASSAY_LINKS(f16)
NETASSAY_LINKS(f8e4m3)
NETASSAY_LINKS(f8e5m2)
NETASSAY_LINKS(std::int8_t)
NETASSAY_LINKS(std::uint8_t)
#undef NETASSAY_LINKS

}  // namespace netassay
