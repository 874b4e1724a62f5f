#pragma once
/// Natural numbers of any size: what counts of paths are. As little as they need: sums, products with a word, text.

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "netassay/base/view.hpp"

namespace netassay {

/// A natural number, zero unless said. Copies own their limbs; a number that was moved from is zero.
class Natural {
 public:
  Natural() = default;
  explicit Natural(std::uint64_t value);
  Natural(const Natural&) = default;
  Natural& operator=(const Natural&) = default;
  Natural(Natural&& other) noexcept : limbs_(std::exchange(other.limbs_, {})) {}
  Natural& operator=(Natural&& other) noexcept {
    limbs_ = std::exchange(other.limbs_, {});
    return *this;
  }

  bool zero() const { return limbs_.empty(); }
  Natural& operator+=(const Natural& x) { return add_product(x, 1); }
  Natural& operator*=(std::uint64_t factor);
  /// Adds x times factor; x may be this number.
  Natural& add_product(const Natural& x, std::uint64_t factor);

  /// The least b with this < 2^b; 0 of zero.
  index_t bit_length() const;
  /// log2 of the number, to two units in the last place of the result (exact of a power of two); -infinity of zero.
  double log2() const;
  /// Decimal digits.
  std::string text() const;
  /// Little-endian bytes, eight for each limb; none of zero.
  std::string bytes() const;
  /// Base 2^64, the lowest first, the last one not 0.
  std::span<const std::uint64_t> limbs() const { return limbs_; }

  bool operator==(const Natural&) const = default;
  std::strong_ordering operator<=>(const Natural& other) const;

 private:
  std::vector<std::uint64_t> limbs_;
};

}  // namespace netassay
