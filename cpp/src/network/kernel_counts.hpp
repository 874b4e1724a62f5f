#pragma once
/// What the kernels count beside sums, one weight after the other. Everything has internal linkage, so that no unit's
/// code can end up in another's.

#include <cstddef>
#include <cstdint>

#include "network/kernel.hpp"

namespace netassay::network {
namespace {

/// What is counted beside sums: nothing, the weights themselves, or the keys that stand for them. A step of them at a
/// time: neighbours go to different tables.
struct Uncounted {
  const char* from(int, index_t) const { return nullptr; }
  template <index_t kStep>
  void step(const char*) const {}
  void one(const char*) const {}
};
template <class Key>
struct Counted {
  const Key* const* rows;
  std::uint32_t* counts;

  const Key* from(int r, index_t j) const { return rows[r] + j; }
  template <index_t kStep>
  void step(const Key* at) const {
#pragma GCC unroll 16
    for (index_t l = 0; l < kStep; ++l) count(at[l], l);
  }
  void one(const Key* at) const { count(*at, 0); }

  void count(std::size_t key, index_t l) const {
    ++counts[static_cast<std::size_t>(l % kTables) * kTable + key];
    __asm__ volatile("" : : : "memory");  // GCC would else keep each count in a register as well, in case it is read
  }
};

}  // namespace
}  // namespace netassay::network
