#pragma once
/// Weights counted by their leading bits.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>
#include <vector>

#include "netassay/base/scalar.hpp"
#include "netassay/network.hpp"
#include "network/kernel.hpp"

namespace netassay::network {

/// Every weight has a key of two bytes, or of one where it has only one; both bytes of a format of two.
template <class T>
inline constexpr bool kCounted = sizeof(T) <= 2;

template <class T>
inline constexpr std::size_t kKeys = sizeof(T) == 1 ? 256 : 65536;

template <class T>
std::size_t key(T w) {
  if constexpr (sizeof(T) == 1) {
    return std::bit_cast<std::uint8_t>(w);
  } else if constexpr (sizeof(T) == 2) {
    return std::bit_cast<std::uint16_t>(w);
  } else if constexpr (sizeof(T) == 4) {
    return leading(std::bit_cast<std::uint32_t>(w));
  } else {
    return leading(std::bit_cast<std::uint64_t>(w));
  }
}

/// The number, widened.
template <class T>
double number(T w) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<double>(w);
  } else {
    return static_cast<double>(widen(w));
  }
}

/// The least magnitude of a key that has no sign, for formats of more than two bytes.
template <class T>
double least_magnitude(std::uint32_t magnitude) {
  if (magnitude == 0) return 0;
  if constexpr (sizeof(T) == 4) {
    if (magnitude == 0x7f80) return 0x1p128;
    return static_cast<double>(std::bit_cast<float>(magnitude << 16));
  } else {
    if (magnitude == 0x8000) return std::numeric_limits<double>::infinity();
    return std::bit_cast<double>(static_cast<std::uint64_t>(magnitude + kRebias) << kNarrow);
  }
}

/// The counts of one thread: of four bytes each, until these might not do.
template <class T>
class Counter {
 public:
  Counter() : small_(kTables * kTable) {}

  /// Where n more weights may be counted.
  std::uint32_t* room(index_t n) {
    if (static_cast<std::uint64_t>(n) > std::numeric_limits<std::uint32_t>::max() - pending_) flush();
    pending_ += static_cast<std::uint64_t>(n);
    return small_.data();
  }

  void add(const T* run, index_t n) {
    constexpr index_t line = 64 / index_t{sizeof(T)};
    // float16 has so many keys an octave that more tables would not stay in the nearest cache
    constexpr index_t tables = std::is_same_v<T, f16> ? 2 : kTables;
    std::uint32_t* at = room(n);
    index_t j = 0;
    for (; j + line <= n; j += line) {
      __builtin_prefetch(reinterpret_cast<const char*>(run + j) + kAhead);
      for (index_t l = j; l < j + line; l += tables) {
        for (index_t t = 0; t < tables; ++t) ++at[static_cast<std::size_t>(t) * kTable + key(run[l + t])];
      }
    }
    for (; j < n; ++j) ++at[key(run[j])];
  }

  /// Adds every count to `total`, of kKeys<T>.
  void collect(std::vector<std::uint64_t>& total) {
    if (large_.empty()) return sum_into(total);
    flush();
    for (std::size_t k = 0; k < kKeys<T>; ++k) total[k] += large_[k];
  }

 private:
  void sum_into(std::vector<std::uint64_t>& total) const {
    for (std::size_t t = 0; t < small_.size(); t += kTable) {
      for (std::size_t k = 0; k < kKeys<T>; ++k) total[k] += small_[t + k];
    }
  }
  void flush() {
    large_.resize(kKeys<T>);
    sum_into(large_);
    std::fill(small_.begin(), small_.end(), 0);
    pending_ = 0;
  }

  std::vector<std::uint32_t> small_;
  std::vector<std::uint64_t> large_;
  std::uint64_t pending_ = 0;
};

/// The bins that hold weights, ascending. zeros: how many of them are 0, where a key does not tell.
template <class T>
std::vector<LinkBin> bins(const std::vector<std::uint64_t>& counts, std::uint64_t zeros) {
  std::vector<LinkBin> out;
  const auto append = [&](double low, double high, std::uint64_t count) {
    if (count == 0) return;
    if (!out.empty() && out.back().low == low && out.back().high == high) {
      out.back().count += count;
    } else {
      out.push_back({low, high, count});
    }
  };
  constexpr std::uint32_t keys = kKeys<T>, half = keys / 2;
  if constexpr (std::is_integral_v<T>) {
    for (std::uint32_t r = 0; r < keys; ++r) {
      const auto w = static_cast<T>(static_cast<int>(r) + std::numeric_limits<T>::min());
      append(w, w, counts[key(w)]);
    }
  } else if constexpr (kCounted<T>) {
    using Bits = std::conditional_t<sizeof(T) == 1, std::uint8_t, std::uint16_t>;
    for (std::uint32_t r = 0; r < keys; ++r) {  // -largest, ..., -0, 0, ..., largest
      const std::uint32_t k = r < half ? keys - 1 - r : r - half;
      if (counts[k] == 0) continue;
      const double w = number(std::bit_cast<T>(static_cast<Bits>(k))) + 0.0;  // -0 becomes 0
      append(w, w, counts[k]);
    }
  } else {
    for (std::uint32_t k = half - 1; k > 0; --k) {
      append(-least_magnitude<T>(k + 1), -least_magnitude<T>(k), counts[half + k]);
    }
    const double tiny = least_magnitude<T>(1);
    append(-tiny, tiny, counts[0] + counts[half] - zeros);
    append(0, 0, zeros);
    for (std::uint32_t k = 1; k < half; ++k) append(least_magnitude<T>(k), least_magnitude<T>(k + 1), counts[k]);
  }
  return out;
}

/// Of bins that do not reach across an edge of link_grid().
std::vector<std::uint64_t> density(std::span<const LinkBin> bins);

}  // namespace netassay::network
