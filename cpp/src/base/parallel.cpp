#include "netassay/base/parallel.hpp"

#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>

namespace netassay {
namespace {

// After fork the child holds a copy of the parent's OpenMP pool without its threads: a second region would wait for
// them for ever. The flag is set once, in the child, before any of its code runs.
std::atomic<bool> forked{false};
const int fork_handler = pthread_atfork(nullptr, nullptr, [] { forked.store(true); });

int limit_from_environment() {
  const char* text = std::getenv("OMP_NUM_THREADS");
  const int value = text ? std::atoi(text) : 0;
  return value > 0 ? value : omp_get_num_procs();
}

}  // namespace

int thread_count(int requested) {
  (void)fork_handler;
  NETASSAY_REQUIRE(requested >= 0, ValueError, "threads: got ", requested, ", expected at least 1");
  if (forked.load()) {
    NETASSAY_REQUIRE(requested <= 1, ForkError, "threads: got ", requested,
                     " in a forked child, expected 1: threads do not survive fork; use spawn to have more");
    return 1;
  }
  return requested > 0 ? requested : std::max(1, std::min(omp_get_num_procs(), limit_from_environment()));
}

void parallel_for(index_t n, const Execution& execution, const std::function<void(index_t, int)>& task) {
  const int threads = static_cast<int>(std::min<index_t>(thread_count(execution.threads), n));
  if (threads <= 1) {
    for (index_t i = 0; i < n; ++i) {
      if (execution.poll) execution.poll();
      task(i, 0);
    }
    return;
  }
  std::exception_ptr first;
  std::atomic<bool> stop{false};
#pragma omp parallel num_threads(threads)
  {
    const int worker = omp_get_thread_num();
    const bool polls = execution.poll && worker == 0;
#pragma omp for schedule(monotonic : dynamic, 1)
    for (index_t i = 0; i < n; ++i) {
      if (stop.load(std::memory_order_relaxed)) continue;
      try {
        if (polls) execution.poll();
        task(i, worker);
      } catch (...) {
#pragma omp critical(netassay_first_exception)
        {
          if (!first) first = std::current_exception();
        }
        stop.store(true, std::memory_order_relaxed);
      }
    }
  }
  if (first) std::rethrow_exception(first);
}

}  // namespace netassay
