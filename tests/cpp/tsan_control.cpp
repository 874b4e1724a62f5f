/// The control of the ThreadSanitizer preset: `race` plants a data race, which must be reported; `ordered` has none,
/// and nothing may be reported. A runtime of OpenMP whose barriers ThreadSanitizer cannot see reports the second one.

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "netassay/base/parallel.hpp"

namespace {

constexpr int kThreads = 3;
constexpr netassay::index_t kTasks = 3000;

/// Every thread adds to one number.
long race() {
  long sum = 0;
  std::atomic<int> here{0};
  netassay::parallel_for(kTasks, {kThreads}, [&](netassay::index_t task, int) {
    if (here.fetch_add(1, std::memory_order_relaxed) < kThreads) {
      while (here.load(std::memory_order_relaxed) < kThreads) {  // until all threads are in the loop
      }
    }
    sum += task;
  });
  return sum;
}

/// Threads write places of their own, which others read behind the barrier; then a reduction by the compiler.
long ordered() {
  std::vector<long> parts(kTasks), doubled(kTasks);
  netassay::parallel_for(kTasks, {kThreads},
                         [&](netassay::index_t task, int) { parts[static_cast<std::size_t>(task)] = task; });
  netassay::parallel_for(kTasks, {kThreads}, [&](netassay::index_t task, int) {
    doubled[static_cast<std::size_t>(task)] = 2 * parts[static_cast<std::size_t>(kTasks - 1 - task)];
  });
  long sum = 0;
#pragma omp parallel for reduction(+ : sum) num_threads(kThreads)
  for (netassay::index_t task = 0; task < kTasks; ++task) sum += doubled[static_cast<std::size_t>(task)];
  return sum;
}

}  // namespace

int main(int, char** arguments) {
  const bool planted = arguments[1] != nullptr && std::string_view(arguments[1]) == "race";
  const long sum = planted ? race() : ordered();
  if (!planted) CHECK_EQUAL(sum, kTasks * (kTasks - 1));
  std::printf("%s: %ld\n", planted ? "race" : "ordered", sum);
  return check::failures != 0;
}
