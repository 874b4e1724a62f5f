#include "stats/gather.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

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

// Units of neighbouring rows, written `step` apart.
template <class T, class W>
void copy_row(const T* in, index_t cols, index_t stride, W* out) {
  if (stride == 1) {
    for (index_t j = 0; j < cols; ++j) out[j] = static_cast<W>(widen(in[j]));
  } else {
    for (index_t j = 0; j < cols; ++j) out[j] = static_cast<W>(widen(in[j * stride]));
  }
}

using Four = float __attribute__((vector_size(16)));

// Four units of four rows as four rows of four units: the compiler would move them one by one.
void transpose(const float* in, index_t unit_stride, float* out, index_t step) {
  Four u[4];
  for (index_t j = 0; j < 4; ++j) std::memcpy(&u[j], in + j * unit_stride, sizeof u[j]);
  const Four low01 = __builtin_shufflevector(u[0], u[1], 0, 4, 1, 5);
  const Four low23 = __builtin_shufflevector(u[2], u[3], 0, 4, 1, 5);
  const Four high01 = __builtin_shufflevector(u[0], u[1], 2, 6, 3, 7);
  const Four high23 = __builtin_shufflevector(u[2], u[3], 2, 6, 3, 7);
  const Four rows[4] = {
      __builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
      __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
  for (index_t r = 0; r < 4; ++r) std::memcpy(out + r * step, &rows[r], sizeof rows[r]);
}

// Rows that step by `stride` while units step far (a channels-first map): small squares keep both sides in cache.
template <class T, class W>
void copy_transposed(const T* in, index_t rows, index_t stride, index_t cols, index_t unit_stride, W* out,
                     index_t step) {
  constexpr index_t square = 16;
  constexpr bool by_four = std::is_same_v<T, float> && std::is_same_v<W, float>;
  for (index_t r0 = 0; r0 < rows; r0 += square) {
    const index_t r1 = std::min(r0 + square, rows);
    for (index_t j0 = 0; j0 < cols; j0 += square) {
      const index_t j1 = std::min(j0 + square, cols);
      if constexpr (by_four) {
        if (stride == 1 && r1 - r0 == square && j1 - j0 == square) {
          for (index_t j = j0; j < j1; j += 4) {
            for (index_t r = r0; r < r1; r += 4) {
              transpose(in + j * unit_stride + r, unit_stride, out + r * step + j, step);
            }
          }
          continue;
        }
      }
      for (index_t j = j0; j < j1; ++j) {
        const T* from = in + j * unit_stride;
        for (index_t r = r0; r < r1; ++r) out[r * step + j] = static_cast<W>(widen(from[r * stride]));
      }
    }
  }
}

template <class T>
using Widened = decltype(widen(T{}));

}  // namespace

template <class T>
RowReader<T>::RowReader(const RowsView<const T>& view, const unsigned char* mask)
    : view_(view), all_(mask == nullptr), total_(view.rows()) {
  if (all_) return;
  for (index_t row = 0; row < view.rows(); ++row) {
    if (mask[row]) kept_.push_back(row);
  }
  total_ = static_cast<index_t>(kept_.size());
}

template <class T>
template <class W>
void RowReader<T>::copy(index_t row, index_t count, index_t col, index_t cols, W* out, index_t step) const {
  const index_t unit_stride = view_.units().stride;
  const T* base = view_.data() + col * unit_stride;
  row += next_;
  if (!all_) {
    for (index_t r = 0; r < count; ++r) {
      const index_t number = kept_[static_cast<std::size_t>(row + r)];
      copy_row(base + view_.offset(number), cols, unit_stride, out + r * step);
    }
    return;
  }
  const Axis inner = view_.axis(view_.axes() - 1);
  while (count > 0) {
    const index_t run = std::min(count, inner.extent - row % inner.extent);
    const T* in = base + view_.offset(row);
    if (unit_stride == 1) {
      for (index_t r = 0; r < run; ++r) copy_row(in + r * inner.stride, cols, unit_stride, out + r * step);
    } else {
      copy_transposed(in, run, inner.stride, cols, unit_stride, out, step);
    }
    row += run;
    count -= run;
    out += run * step;
  }
}

template <class T>
index_t RowReader<T>::drop_nonfinite(const Execution& execution) {
  const index_t d = width(), count = left(), chunks = (count + kChunk - 1) / kChunk;
  std::vector<unsigned char> finite(static_cast<std::size_t>(count));
  parallel_for(chunks, execution, [&](index_t chunk, int) {
    std::vector<Widened<T>> row(static_cast<std::size_t>(d));
    for (index_t r = chunk * kChunk; r < std::min((chunk + 1) * kChunk, count); ++r) {
      copy(r, 1, 0, d, row.data(), d);
      finite[static_cast<std::size_t>(r)] = all_finite(row.data(), d);
    }
  });
  std::vector<index_t> kept;
  for (index_t r = 0; r < count; ++r) {
    if (!finite[static_cast<std::size_t>(r)]) continue;
    kept.push_back(all_ ? next_ + r : kept_[static_cast<std::size_t>(next_ + r)]);
  }
  kept_ = std::move(kept);
  all_ = false;
  next_ = 0;
  total_ = static_cast<index_t>(kept_.size());
  return count - total_;
}

template <class T>
template <class W>
index_t RowReader<T>::read(W* out, index_t& nonfinite, const Execution& execution) {
  const index_t count = left(), d = width(), chunks = (count + kChunk - 1) / kChunk;
  std::vector<unsigned char> finite(static_cast<std::size_t>(count));
  parallel_for(chunks, execution, [&](index_t chunk, int) {
    const index_t begin = chunk * kChunk, end = std::min(begin + kChunk, count);
    copy(begin, end - begin, 0, d, out + begin * d, d);
    for (index_t r = begin; r < end; ++r) finite[static_cast<std::size_t>(r)] = all_finite(out + r * d, d);
  });
  skip(count);

  index_t written = std::find(finite.begin(), finite.end(), 0) - finite.begin();
  for (index_t r = written; r < count; ++r) {
    if (!finite[static_cast<std::size_t>(r)]) continue;
    std::memmove(out + written * d, out + r * d, static_cast<std::size_t>(d) * sizeof(W));
    ++written;
  }
  nonfinite += count - written;
  return written;
}

#define NETASSAY_COPY(T, W) template void RowReader<T>::copy<W>(index_t, index_t, index_t, index_t, W*, index_t) const;
#define NETASSAY_READER(T)     \
  template class RowReader<T>; \
  NETASSAY_COPY(T, float)      \
  NETASSAY_COPY(T, double)     \
  template index_t RowReader<T>::read<double>(double*, index_t&, const Execution&);
NETASSAY_READER(double)
NETASSAY_READER(float)
NETASSAY_READER(bf16)
NETASSAY_READER(f16)
template index_t RowReader<float>::read<float>(float*, index_t&, const Execution&);
template index_t RowReader<bf16>::read<float>(float*, index_t&, const Execution&);
template index_t RowReader<f16>::read<float>(float*, index_t&, const Execution&);
#undef NETASSAY_READER
#undef NETASSAY_COPY

}  // namespace netassay::stats
