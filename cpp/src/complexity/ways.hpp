#pragma once
/// The ways in which a batch is counted, one file each.

#include <memory>

#include "complexity/count.hpp"

namespace netassay::complexity {

/// runs.cpp: positions side by side in memory.
template <class T>
std::unique_ptr<Counting> by_runs(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                  int threads);
/// columns.cpp: units side by side in memory, or no positions.
template <class T>
std::unique_ptr<Counting> by_columns(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                     int threads);
/// pooled.cpp: which place of a window holds the largest number.
template <class T>
std::unique_ptr<Counting> by_windows(const ActivationsView<const T>& a, const SwitchingOptions& options, bool positions,
                                     int threads);

}  // namespace netassay::complexity
