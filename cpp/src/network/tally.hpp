#pragma once
/// The counts of one worker: tables of zeros, lent to one call after the other, since to clear 1 MiB would cost more
/// than a small array does.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "network/kernel.hpp"

namespace netassay::network {

class Tally {
 public:
  using Table = std::array<std::uint32_t, kTables * kTable>;

  Tally() : table_(borrowed()) {
    if (!table_) table_ = std::make_unique<Table>();
  }
  Tally(Tally&&) = default;
  ~Tally() {
    if (!table_) return;
    if (!clean_) table_->fill(0);
    for (std::atomic<Table*>& place : shelf()) {
      Table* none = nullptr;
      if (place.compare_exchange_strong(none, table_.get())) {
        table_.release();
        return;
      }
    }
  }

  /// Where values may be counted; take() empties it again.
  std::uint32_t* counts() {
    clean_ = false;
    return table_->data();
  }

  /// Adds the counts of neighbouring keys to `sum`, which must hold them; here they are forgotten.
  template <std::size_t kKeys>
  void take(std::size_t first, std::array<std::uint32_t, kKeys>& sum) {
    for (std::size_t t = 0; t < table_->size(); t += kTable) {
      std::uint32_t* const at = table_->data() + t + first;
      for (std::size_t k = 0; k < kKeys; ++k) sum[k] += at[k];
      std::fill_n(at, kKeys, 0u);
    }
  }
  /// Promises that every key was taken.
  void cleared() { clean_ = true; }

 private:
  /// Atomic, so that a child of fork never waits for a thread it has not.
  static std::array<std::atomic<Table*>, 64>& shelf() {
    static std::array<std::atomic<Table*>, 64> places{};
    return places;
  }
  static std::unique_ptr<Table> borrowed() {
    for (std::atomic<Table*>& place : shelf()) {
      if (place.load(std::memory_order_relaxed) == nullptr) continue;
      if (Table* table = place.exchange(nullptr)) return std::unique_ptr<Table>(table);
    }
    return nullptr;
  }

  std::unique_ptr<Table> table_;
  bool clean_ = true;
};

}  // namespace netassay::network
