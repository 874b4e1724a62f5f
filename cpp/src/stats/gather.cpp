#include "stats/gather.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

namespace netassay::stats {
namespace {

// Rows a task copies and checks: small enough that the check finds them in cache.
constexpr index_t kChunk = 64;

// An exponent of all ones is a NaN or an infinity; a reduction over integers is one the compiler may vectorise.
bool all_finite(const float* x, index_t n) {
  std::uint32_t largest = 0;
  for (index_t j = 0; j < n; ++j) largest = std::max(largest, std::bit_cast<std::uint32_t>(x[j]) & 0x7fffffffu);
  return largest < 0x7f800000u;
}

bool all_finite(const double* x, index_t n) {
  constexpr std::uint64_t exponent = 0x7ff0000000000000u;
  std::uint64_t special = 0;
  for (index_t j = 0; j < n; ++j) special |= (std::bit_cast<std::uint64_t>(x[j]) & exponent) == exponent;
  return special == 0;
}

template <class T, class W>
void copy_row(const T* in, Axis units, W* out) {
  if (units.stride == 1) {
    for (index_t j = 0; j < units.extent; ++j) out[j] = static_cast<W>(widen(in[j]));
  } else {
    for (index_t j = 0; j < units.extent; ++j) out[j] = static_cast<W>(widen(in[j * units.stride]));
  }
}

// Rows that step by `stride` while units step far (a channels-first map): small squares keep both sides in cache.
template <class T, class W>
void copy_transposed(const T* in, index_t rows, index_t stride, Axis units, W* out) {
  constexpr index_t square = 16;
  for (index_t j0 = 0; j0 < units.extent; j0 += square) {
    const index_t j1 = std::min(j0 + square, units.extent);
    for (index_t r0 = 0; r0 < rows; r0 += square) {
      const index_t r1 = std::min(r0 + square, rows);
      for (index_t j = j0; j < j1; ++j) {
        const T* from = in + j * units.stride;
        for (index_t r = r0; r < r1; ++r) out[r * units.extent + j] = static_cast<W>(widen(from[r * stride]));
      }
    }
  }
}

}  // namespace

template <class T>
RowReader<T>::RowReader(const RowsView<const T>& view, const unsigned char* mask)
    : view_(view), total_(view.rows()) {
  if (!mask) return;
  for (index_t row = 0; row < view.rows(); ++row) {
    if (mask[row]) kept_.push_back(row);
  }
  total_ = static_cast<index_t>(kept_.size());
  if (total_ == view.rows()) kept_.clear();
}

template <class T>
template <class W>
void RowReader<T>::copy(index_t first, index_t count, W* out) const {
  const Axis units = view_.units();
  if (!kept_.empty()) {
    for (index_t r = 0; r < count; ++r) {
      const index_t row = kept_[static_cast<std::size_t>(first + r)];
      copy_row(view_.data() + view_.offset(row), units, out + r * units.extent);
    }
    return;
  }
  const Axis inner = view_.axis(view_.axes() - 1);
  while (count > 0) {
    const index_t run = std::min(count, inner.extent - first % inner.extent);
    const T* in = view_.data() + view_.offset(first);
    if (units.stride == 1) {
      for (index_t r = 0; r < run; ++r) copy_row(in + r * inner.stride, units, out + r * units.extent);
    } else {
      copy_transposed(in, run, inner.stride, units, out);
    }
    first += run;
    count -= run;
    out += run * units.extent;
  }
}

template <class T>
template <class W>
index_t RowReader<T>::read(index_t capacity, W* out, index_t& nonfinite, const Execution& execution) {
  const index_t count = std::min(capacity, left());
  const index_t d = view_.width();
  const index_t chunks = (count + kChunk - 1) / kChunk;
  std::vector<unsigned char> finite(static_cast<std::size_t>(count));
  parallel_for(chunks, execution, [&](index_t chunk) {
    const index_t begin = chunk * kChunk, end = std::min(begin + kChunk, count);
    copy(next_ + begin, end - begin, out + begin * d);
    for (index_t r = begin; r < end; ++r) finite[static_cast<std::size_t>(r)] = all_finite(out + r * d, d);
  });
  next_ += count;

  auto bad = std::find(finite.begin(), finite.end(), 0);
  index_t written = bad - finite.begin();
  for (index_t r = written; r < count; ++r) {
    if (!finite[static_cast<std::size_t>(r)]) continue;
    std::memmove(out + written * d, out + r * d, static_cast<std::size_t>(d) * sizeof(W));
    ++written;
  }
  nonfinite += count - written;
  return written;
}

template class RowReader<double>;
template class RowReader<float>;
template class RowReader<bf16>;
template class RowReader<f16>;
#define NETASSAY_READ(T, W) \
  template index_t RowReader<T>::read<W>(index_t, W*, index_t&, const Execution&);
NETASSAY_READ(double, double)
NETASSAY_READ(float, double)
NETASSAY_READ(bf16, double)
NETASSAY_READ(f16, double)
NETASSAY_READ(float, float)
NETASSAY_READ(bf16, float)
NETASSAY_READ(f16, float)
#undef NETASSAY_READ

}  // namespace netassay::stats
