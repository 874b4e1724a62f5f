#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <numeric>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "network/kernels.hpp"
#include "network/power.hpp"
#include "network/sequence.hpp"
#include "network/tally.hpp"
#include "network/tiles.hpp"

namespace netassay {
namespace network {
namespace {

/// Values that one task sums. Small, so that a map of a small batch gives work to more than one thread.
constexpr index_t kBlock = 32 * kRun;
/// Blocks that more than one thread is worth: to wake another, and to wait for it where processors are busy with
/// training, may cost more than a small array does.
constexpr std::size_t kShared = 32;
/// Values that counts of four bytes are sure to hold.
constexpr index_t kSlab = index_t{1} << 31;

constexpr std::size_t kHalf = 32768;
/// Keys below are those of magnitudes below 2^-126, which formats tell apart in different ways.
constexpr std::size_t kTiny = 128;

/// The least magnitude of a key without its sign; 2^-126 at least.
double magnitude_of(std::size_t key) {
  const auto bits = static_cast<std::uint64_t>(key + static_cast<std::size_t>(kRebias));
  return key == kHalf ? std::numeric_limits<double>::infinity() : std::bit_cast<double>(bits << kNarrow);
}

/// Sums and counts of the values from `first` on.
template <class T>
class Slab {
 public:
  Slab(const Sequence<T>& values, index_t first, index_t n, const Execution& execution)
      : values_(values), first_(first), n_(n), execution_(execution) {
    blocks_.resize(static_cast<std::size_t>((n + kBlock - 1) / kBlock));
    const int threads = thread_count(execution.threads);
    execution_.threads = blocks_.size() < kShared ? 1 : threads;
    tallies_.resize(static_cast<std::size_t>(execution_.threads));
  }

  /// False where a value may not have been finite.
  bool read() {
    std::atomic<bool> finite{true};
    each_block([&](index_t b, int worker) {
      if (!finite.load(std::memory_order_relaxed)) return;
      std::optional<Tally>& mine = tallies_[static_cast<std::size_t>(worker)];
      if (!mine) mine.emplace();
      const Powers& found = powers(b, mine->counts());
      if (!std::isfinite(found.first)) finite.store(false, std::memory_order_relaxed);
    });
    return finite.load();
  }

  Powers total() const {
    Powers all = kNoPowers;
    for (const Block& block : blocks_) add(block.powers, all);
    return all;
  }

  Central moments() {
    const Powers all = total();
    if (out_of_range(all.least, all.most)) {
      exponent_ = fitting_exponent(all.least, all.most);
      each_block([&](index_t b, int) { powers(b, nullptr); });
    }
    Central sums;
    for (std::size_t b = 0; b < blocks_.size(); ++b) {
      const index_t n = std::min(kBlock, n_ - static_cast<index_t>(b) * kBlock);
      sums.merge(Central::about(blocks_[b].centre, static_cast<double>(n), blocks_[b].powers, exponent_));
    }
    return sums;
  }

  std::vector<std::optional<Tally>>& tallies() { return tallies_; }

 private:
  struct Block {
    double centre = 0;
    Powers powers = kNoPowers;
  };

  template <class Use>
  void each_block(const Use& use) {
    parallel_for(static_cast<index_t>(blocks_.size()), execution_, use);
  }

  const Powers& powers(index_t b, std::uint32_t* counts) {
    const index_t first = first_ + b * kBlock, end = std::min(first + kBlock, first_ + n_);
    const double scale = std::ldexp(1.0, -exponent_);
    Block& block = blocks_[static_cast<std::size_t>(b)];
    block.centre = scale * typical_of(end - first, [&](index_t place) { return values_[first + place]; });
    block.powers = kNoPowers;
    std::array<T, kRun> scratch;
    std::array<Summed<T>, kRun> wide;
    for (index_t at = first; at < end; at += kRun) {
      const index_t n = std::min(kRun, end - at);
      const Summed<T>* run = summed(values_.run(at, n, scratch.data()), n, wide.data());
      add(kernel<T>().powers(run, n, scale, block.centre, counts), block.powers);
    }
    return block.powers;
  }

  const Sequence<T>& values_;
  index_t first_, n_;
  Execution execution_;
  int exponent_ = 0;
  std::vector<Block> blocks_;
  std::vector<std::optional<Tally>> tallies_;
};

template <class T>
std::vector<T> finite_of(const Sequence<T>& values, const Execution& execution) {
  std::vector<T> kept;
  kept.reserve(static_cast<std::size_t>(values.count()));
  std::array<T, kRun> scratch;
  for (index_t at = 0; at < values.count(); at += kRun) {
    if (execution.poll) execution.poll();
    const index_t n = std::min(kRun, values.count() - at);
    const T* run = values.run(at, n, scratch.data());
    std::copy_if(run, run + n, std::back_inserter(kept), [](T value) { return std::isfinite(number(value)); });
  }
  return kept;
}

}  // namespace

/// What a state is to take: counts by the page of their keys.
struct Delta {
  using Page = std::array<std::uint64_t, 128>;
  LinkStatistics totals;
  std::uint64_t nonfinite = 0, positives = 0;
  bool narrow = true;
  std::vector<std::pair<std::size_t, Page>> pages;
};

namespace {

constexpr std::size_t kPageKeys = std::tuple_size_v<Delta::Page>, kPages = 2 * kHalf / kPageKeys;

/// Moves the counts of a slab's workers to pages, from the largest magnitudes down to where none is left.
template <class T>
void collect(Slab<T>& slab, std::uint64_t expected, double largest, Delta& to) {
  const auto page = [&](std::size_t number) {
    std::array<std::uint32_t, kPageKeys> sum{};  // a slab has fewer than 2^32 values
    for (auto& tally : slab.tallies()) {
      if (tally) tally->take(number * kPageKeys, sum);
    }
    const std::uint32_t found = std::accumulate(sum.begin(), sum.end(), std::uint32_t{0});
    if (found == 0) return found;
    if (number % (kPages / 2) == 0) sum = {found};  // tiny ones
    std::copy(sum.begin(), sum.end(), to.pages.emplace_back(number, Delta::Page{}).second.begin());
    return found;
  };
  expected -= page(0);
  expected -= page(kPages / 2);
  for (std::size_t k = key(static_cast<Summed<T>>(largest)) / kPageKeys; expected > 0; --k) {
    expected -= page(k);
    expected -= page(kPages / 2 + k);
  }
  for (auto& tally : slab.tallies()) {
    if (tally) tally->cleared();
  }
}

/// Nothing where a value may not have been finite and `finite` does not say that all are.
template <class T>
std::optional<Delta> counted(const Sequence<T>& values, bool finite, const Execution& execution) {
  Delta out;
  Central sums;
  for (index_t first = 0; first < values.count(); first += kSlab) {
    const index_t n = std::min(kSlab, values.count() - first);
    Slab<T> slab(values, first, n, execution);
    if (!slab.read() && !finite) return {};
    const Powers total = slab.total();
    sums.merge(slab.moments());
    collect(slab, static_cast<std::uint64_t>(n), std::max(std::abs(total.least), std::abs(total.most)), out);
    out.totals.count += static_cast<std::uint64_t>(n);
    out.totals.zeros += total.zeros;
    out.totals.minimum = std::min(out.totals.minimum, total.least);
    out.totals.maximum = std::max(out.totals.maximum, total.most);
    out.positives += total.positives;
  }
  store(sums, out.totals);
  out.narrow = std::is_same_v<T, bf16> || out.totals.count == 0;
  return out;
}

}  // namespace
}  // namespace network

using network::Delta;
using network::kHalf;

void Distribution::absorb(const Delta& more) {
  network::Central sums = network::central(totals_);
  sums.merge(network::central(more.totals));
  const auto missing = std::count_if(more.pages.begin(), more.pages.end(),
                                     [this](const auto& page) { return places_[page.first] == 0; });
  if (pages_.size() + static_cast<std::size_t>(missing) > pages_.capacity()) {
    pages_.reserve(pages_.size() + static_cast<std::size_t>(missing));
  }
  // nothing throws from here on
  for (const auto& [number, counts] : more.pages) {
    std::uint16_t& place = places_[number];
    if (place == 0) {
      pages_.emplace_back();
      place = static_cast<std::uint16_t>(pages_.size());
    }
    Page& to = pages_[place - std::size_t{1}];
    for (std::size_t k = 0; k < counts.size(); ++k) to[k] += counts[k];
  }
  totals_.count += more.totals.count;
  totals_.zeros += more.totals.zeros;
  totals_.minimum = std::min(totals_.minimum, more.totals.minimum);
  totals_.maximum = std::max(totals_.maximum, more.totals.maximum);
  network::store(sums, totals_);
  nonfinite_ += more.nonfinite;
  positives_ += more.positives;
  narrow_ = narrow_ && more.narrow;
}

template <class T>
void Distribution::update(const RowsView<const T>& x, const Execution& execution) {
  const network::Sequence<T> values(x);
  if (std::optional<Delta> delta = network::counted(values, false, execution)) return absorb(*delta);
  const std::vector<T> kept = network::finite_of(values, execution);
  const auto count = static_cast<index_t>(kept.size());
  std::optional<Delta> delta = network::counted(network::Sequence<T>(kept.data(), count), true, execution);
  delta->nonfinite = static_cast<std::uint64_t>(values.count() - count);
  absorb(*delta);
}

void Distribution::merge(const Distribution& other) {
  Delta more{other.totals_, other.nonfinite_, other.positives_, other.narrow_, {}};
  for (std::size_t number = 0; number < other.places_.size(); ++number) {
    const std::uint16_t place = other.places_[number];
    if (place > 0) more.pages.emplace_back(number, other.pages_[place - std::size_t{1}]);
  }
  absorb(more);
}

template <class Use>
void Distribution::each_key(const Use& use) const {
  for (std::size_t number = 0; number < places_.size(); ++number) {
    if (places_[number] == 0) continue;
    const Page& page = pages_[places_[number] - std::size_t{1}];
    for (std::size_t k = 0; k < kPageKeys; ++k) {
      if (page[k] > 0) use(number * kPageKeys + k, page[k]);
    }
  }
}

LinkStatistics Distribution::statistics() const {
  LinkStatistics out = totals_;
  std::uint64_t tiny = 0;
  std::vector<LinkBin> above;
  each_key([&](std::size_t key, std::uint64_t count) {
    const std::size_t magnitude = key % kHalf;
    if (magnitude == 0) {
      tiny += count;
      return;
    }
    const double low = network::magnitude_of(magnitude), high = narrow_ ? low : network::magnitude_of(magnitude + 1);
    if (key < kHalf) {
      above.push_back({low, high, count});
    } else {
      out.bins.push_back({-high, -low, count});
    }
  });
  std::reverse(out.bins.begin(), out.bins.end());
  const double most = network::magnitude_of(network::kTiny);
  if (tiny > out.zeros) out.bins.push_back({-most, most, tiny - out.zeros});
  if (out.zeros > 0) out.bins.push_back({0, 0, out.zeros});
  out.bins.insert(out.bins.end(), above.begin(), above.end());
  out.density = network::density(out.bins);
  return out;
}

Distribution::Parts Distribution::parts() const {
  Parts out{totals_, nonfinite_, positives_, narrow_, {}, {}};
  each_key([&](std::size_t key, std::uint64_t count) {
    out.keys.push_back(static_cast<std::int64_t>(key));
    out.counts.push_back(static_cast<std::int64_t>(count));
  });
  return out;
}

Distribution Distribution::from_parts(const Parts& parts) {
  constexpr const char* name = "Distribution.from_parts";
  const LinkStatistics& totals = parts.totals;
  NETASSAY_REQUIRE(parts.keys.size() == parts.counts.size(), ShapeError, name, ": got ", parts.keys.size(),
                   " keys and ", parts.counts.size(), " counts, expected as many");
  Delta delta{totals, parts.nonfinite, parts.positives, parts.narrow, {}};
  std::uint64_t total = 0;
  std::int64_t last = -1;
  for (std::size_t i = 0; i < parts.keys.size(); ++i) {
    const std::int64_t key = parts.keys[i], count = parts.counts[i];
    const auto at = static_cast<std::size_t>(key);
    NETASSAY_REQUIRE(key > last && at < 2 * kHalf && (at % kHalf == 0 || at % kHalf >= network::kTiny), ValueError,
                     name, ": got key ", key, " after ", last, ", expected ascending keys of float32");
    NETASSAY_REQUIRE(count > 0 && total + static_cast<std::uint64_t>(count) >= total, ValueError, name, ": got count ",
                     count, ", expected at least 1");
    last = key;
    total += static_cast<std::uint64_t>(count);
    if (delta.pages.empty() || delta.pages.back().first != at / kPageKeys)
      delta.pages.emplace_back(at / kPageKeys, Page{});
    delta.pages.back().second[at % kPageKeys] = static_cast<std::uint64_t>(count);
  }
  NETASSAY_REQUIRE(total == totals.count && totals.zeros <= total && parts.positives <= total - totals.zeros,
                   ValueError, name, ": got ", total, " counted, ", totals.zeros, " zeros, ", parts.positives,
                   " above, of ", totals.count, " values");
  const bool finite = std::isfinite(totals.scaled_mean) && std::isfinite(totals.scaled_rest) &&
                      std::isfinite(totals.second) && std::isfinite(totals.third) && std::isfinite(totals.fourth);
  const bool ordered = total == 0 || (std::isfinite(totals.minimum) && std::isfinite(totals.maximum) &&
                                      totals.minimum <= totals.maximum && totals.second >= 0 && totals.fourth >= 0);
  NETASSAY_REQUIRE(finite && ordered && std::abs(totals.exponent) <= 1100, NonFinite, name, ": got moments ",
                   totals.scaled_mean, ", ", totals.second, ", ", totals.third, ", ", totals.fourth,
                   " and values from ", totals.minimum, " to ", totals.maximum, ", expected those of finite values");
  Distribution out;
  out.absorb(delta);
  return out;
}

#define NETASSAY_UPDATE(T) template void Distribution::update<T>(const RowsView<const T>&, const Execution&);
NETASSAY_UPDATE(double)
NETASSAY_UPDATE(float)
NETASSAY_UPDATE(bf16)
NETASSAY_UPDATE(f16)
#undef NETASSAY_UPDATE

}  // namespace netassay
