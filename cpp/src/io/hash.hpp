#pragma once
/// A hash of names that a hostile file cannot aim at.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>

namespace netassay::io {

// SipHash-1-3 (Aumasson and Bernstein, 2012) under a key nobody can guess: no header makes all names collide.
class NameHash {
 public:
  std::uint64_t operator()(std::string_view text) const {
    std::uint64_t v0 = key_[0] ^ 0x736f6d6570736575, v1 = key_[1] ^ 0x646f72616e646f6d;
    std::uint64_t v2 = key_[0] ^ 0x6c7967656e657261, v3 = key_[1] ^ 0x7465646279746573;
    const auto round = [&] {
      v0 += v1, v1 = std::rotl(v1, 13) ^ v0, v0 = std::rotl(v0, 32);
      v2 += v3, v3 = std::rotl(v3, 16) ^ v2;
      v0 += v3, v3 = std::rotl(v3, 21) ^ v0;
      v2 += v1, v1 = std::rotl(v1, 17) ^ v2, v2 = std::rotl(v2, 32);
    };
    const auto take = [&](std::uint64_t word) {
      v3 ^= word;
      round();
      v0 ^= word;
    };
    std::size_t at = 0;
    for (; at + 8 <= text.size(); at += 8) {
      std::uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      take(word);
    }
    std::uint64_t last = static_cast<std::uint64_t>(text.size()) << 56;
    for (std::size_t i = 0; at + i < text.size(); ++i) {
      last |= static_cast<std::uint64_t>(static_cast<unsigned char>(text[at + i])) << (8 * i);
    }
    take(last);
    v2 ^= 0xff;
    round(), round(), round();
    return v0 ^ v1 ^ v2 ^ v3;
  }

 private:
  static std::uint64_t draw() {
    std::random_device device;
    return static_cast<std::uint64_t>(device()) << 32 | device();
  }
  std::array<std::uint64_t, 2> key_{draw(), draw()};
};

}  // namespace netassay::io
