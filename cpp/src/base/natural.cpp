#include "netassay/base/natural.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>

namespace netassay {
namespace {

__extension__ typedef unsigned __int128 Wide;

/// The product of two limbs and what is carried, which 128 bits always hold: (2^64 - 1)^2 + 2 (2^64 - 1) = 2^128 - 1.
std::uint64_t fused(std::uint64_t x, std::uint64_t factor, std::uint64_t addend, std::uint64_t& carry) {
  const Wide sum = static_cast<Wide>(x) * factor + addend + carry;
  carry = static_cast<std::uint64_t>(sum >> 64);
  return static_cast<std::uint64_t>(sum);
}

}  // namespace

Natural::Natural(std::uint64_t value) {
  if (value != 0) limbs_.push_back(value);
}

Natural& Natural::operator*=(std::uint64_t factor) {
  if (factor == 1) return *this;
  if (factor == 0) limbs_.clear();
  std::uint64_t carry = 0;
  for (std::uint64_t& limb : limbs_) limb = fused(limb, factor, 0, carry);
  if (carry != 0) limbs_.push_back(carry);
  return *this;
}

Natural& Natural::add_product(const Natural& x, std::uint64_t factor) {
  if (factor == 0) return *this;
  const std::size_t size = x.limbs_.size();
  if (limbs_.size() < size) limbs_.resize(size);
  std::uint64_t carry = 0;
  for (std::size_t i = 0; i < size; ++i) limbs_[i] = fused(x.limbs_[i], factor, limbs_[i], carry);
  for (std::size_t i = size; carry != 0 && i < limbs_.size(); ++i) limbs_[i] = fused(0, 0, limbs_[i], carry);
  if (carry != 0) limbs_.push_back(carry);
  return *this;
}

index_t Natural::bit_length() const {
  if (zero()) return 0;
  return static_cast<index_t>(64 * limbs_.size()) - std::countl_zero(limbs_.back());
}

double Natural::log2() const {
  if (zero()) return -std::numeric_limits<double>::infinity();
  const int unused = std::countl_zero(limbs_.back());
  std::uint64_t top = limbs_.back() << unused;
  if (unused != 0 && limbs_.size() > 1) top |= limbs_[limbs_.size() - 2] >> (64 - unused);
  // the leading 64 bits as a number in [1/2, 1]
  return static_cast<double>(bit_length()) + std::log2(static_cast<double>(top) * 0x1p-64);
}

std::string Natural::text() const {
  constexpr std::uint64_t kBase = 10'000'000'000'000'000'000u;
  constexpr int kDigits = 19;
  std::string digits;
  std::vector<std::uint64_t> rest = limbs_;
  while (!rest.empty()) {
    Wide remainder = 0;
    for (std::size_t i = rest.size(); i-- > 0;) {
      remainder = remainder << 64 | rest[i];
      rest[i] = static_cast<std::uint64_t>(remainder / kBase);
      remainder %= kBase;
    }
    while (!rest.empty() && rest.back() == 0) rest.pop_back();
    auto part = static_cast<std::uint64_t>(remainder);
    for (int k = 0; k < kDigits && (part != 0 || !rest.empty()); ++k, part /= 10) {
      digits.push_back(static_cast<char>('0' + part % 10));
    }
  }
  std::reverse(digits.begin(), digits.end());
  return digits.empty() ? "0" : digits;
}

std::string Natural::bytes() const {
  std::string out;
  out.reserve(8 * limbs_.size());
  for (const std::uint64_t limb : limbs_) {
    for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<char>(limb >> shift & 0xff));
  }
  return out;
}

std::strong_ordering Natural::operator<=>(const Natural& other) const {
  if (limbs_.size() != other.limbs_.size()) return limbs_.size() <=> other.limbs_.size();
  for (std::size_t i = limbs_.size(); i-- > 0;) {
    if (limbs_[i] != other.limbs_[i]) return limbs_[i] <=> other.limbs_[i];
  }
  return std::strong_ordering::equal;
}

}  // namespace netassay
