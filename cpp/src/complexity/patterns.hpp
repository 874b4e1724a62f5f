#pragma once
/// Which numbers of a sample are on, as bits.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "complexity/batch.hpp"

namespace netassay::complexity {

/// One sample's bits become its words of patterns; a line has room for kRun numbers.
template <class T>
void pack(const Batch<T>& batch, index_t n, const CountKernel<Bits<T>>& kernel, const Above<Bits<T>>& above,
          Bits<T>* line, std::uint64_t* patterns) {
  using U = Bits<T>;
  const index_t bits = batch.units * batch.positions, words = ceil_div(bits, 64);
  std::uint64_t* const to = patterns + n * words;
  const U* const x = batch.data + batch.samples[size(n)];
  const auto put = [&](const U* from, index_t stride, index_t at, index_t length) {
    unsigned char packed[kRun / 8 + 8] = {};
    kernel.signs(gathered(from, stride, length, line), length, above, packed);
    for (index_t k = 0; k < length; k += 64, at += 64) {
      std::uint64_t word;
      std::memcpy(&word, packed + k / 8, sizeof word);
      if (length - k < 64) word &= (std::uint64_t{1} << (length - k)) - 1;
      to[at / 64] |= word << (at % 64);
      if (at % 64 != 0 && (word >> (64 - at % 64)) != 0) to[at / 64 + 1] |= word >> (64 - at % 64);
    }
  };
  if (batch.positions == 1) {
    for (index_t c = 0; c < batch.units; c += kRun) {
      put(x + c * batch.unit_stride, batch.unit_stride, c, std::min(kRun, batch.units - c));
    }
    return;
  }
  for (index_t c = 0; c < batch.units; ++c) {
    for (const Segment& s : batch.segments.all) {
      put(x + c * batch.unit_stride + s.offset, batch.segments.stride, c * batch.positions + s.position, s.length);
    }
  }
}

}  // namespace netassay::complexity
