#pragma once
/// The only place that starts threads. Results never depend on how many there are: tasks own disjoint outputs.

#include <functional>

#include "netassay/base/view.hpp"

namespace netassay {

/// How a call may use the machine.
struct Execution {
  /// Threads at most; 0 means the least of the affinity mask and OMP_NUM_THREADS. More than one in a forked child
  /// is a ForkError, since an OpenMP region there never ends; 0 means one there.
  int threads = 0;
  /// Called now and then on the calling thread during long work;
  /// whatever it throws stops the work and comes out of the call.
  std::function<void()> poll = {};
};

/// The number of threads `requested` stands for here and now; throws ForkError, ValueError (negative).
int thread_count(int requested);

/// Calls task(i, worker) for i = 0 ... n - 1 in any order. Calls with the same worker, 0 <= worker < threads, never
/// overlap, and their i ascend. The first exception a task or the poll throws stops the rest and is rethrown here.
void parallel_for(index_t n, const Execution& execution, const std::function<void(index_t, int)>& task);

}  // namespace netassay
