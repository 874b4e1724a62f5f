/// Number formats, views and threads.

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "netassay/base/parallel.hpp"
#include "netassay/base/scalar.hpp"
#include "netassay/base/view.hpp"

namespace {

using namespace netassay;

// A binary floating-point number read off its fields, as the standard writes it: (-1)^s 2^(e - bias) 1.f, or
// (-1)^s 2^(1 - bias) 0.f when e = 0; all ones in e is an infinity (f = 0) or a NaN.
double decoded(unsigned bits, int exponent_bits, int fraction_bits) {
  const int e = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const unsigned f = bits & ((1u << fraction_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = bits >> (exponent_bits + fraction_bits) ? -1.0 : 1.0;
  if (e == (1 << exponent_bits) - 1) return sign * (f ? std::nan("") : INFINITY);
  const double significand = std::ldexp(f, -fraction_bits) + (e ? 1.0 : 0.0);
  return sign * std::ldexp(significand, (e ? e : 1) - bias);
}

template <class T>
void check_every_pattern(int exponent_bits, int fraction_bits) {
  int wrong = 0;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const float got = widen(T{static_cast<std::uint16_t>(bits)});
    const double expected = decoded(bits, exponent_bits, fraction_bits);
    const bool nan = std::isnan(expected);
    const bool same = nan ? std::isnan(got) : static_cast<double>(got) == expected;
    const bool same_sign = std::signbit(got) == ((bits & 0x8000u) != 0);
    wrong += !(same && same_sign);
  }
  CHECK_EQUAL(wrong, 0);
}

void bf16_patterns() { check_every_pattern<bf16>(8, 7); }
void f16_patterns() { check_every_pattern<f16>(5, 10); }

void lexicographic_rows() {
  // (N, C, H, W) = (3, 2, 4, 5), every second image of a larger batch, lines upside down, units in axis 1
  std::vector<float> memory(6 * 2 * 4 * 5);
  const Axis rows[] = {{3, 80}, {4, -5}, {5, 1}};
  const RowsView<const float> view(memory.data() + 15, rows, 3, {2, 20});
  CHECK_EQUAL(view.rows(), index_t{60});
  CHECK_EQUAL(view.width(), index_t{2});
  index_t row = 0;
  for (index_t n = 0; n < 3; ++n) {
    for (index_t h = 0; h < 4; ++h) {
      for (index_t w = 0; w < 5; ++w) CHECK_EQUAL(view.offset(row++), n * 80 - h * 5 + w);
    }
  }
}

void joined_axes() {
  std::vector<float> memory(2 * 3 * 4 * 5);
  const Axis contiguous[] = {{2, 60}, {3, 20}, {4, 5}};
  CHECK_EQUAL(RowsView<const float>(memory.data(), contiguous, 3, {5, 1}).axes(), 1);
  const Axis with_units[] = {{1, 7}, {4, 5}, {1, 99}};
  CHECK_EQUAL(RowsView<const float>(memory.data(), with_units, 3, {5, 1}).axes(), 1);
  const RowsView<const float> one(memory.data(), nullptr, 0, {5, 1});
  CHECK_EQUAL(one.rows(), index_t{1});
  const Axis empty[] = {{2, 60}, {0, 20}};
  CHECK_EQUAL(RowsView<const float>(memory.data(), empty, 2, {5, 1}).rows(), index_t{0});
}

void too_many_axes() {
  const std::vector<Axis> nine(9, Axis{1, 1});
  const float x = 0;
  CHECK_THROWS(RowsView<const float>(&x, nine.data(), 9, {1, 1}), ShapeError, "rows: got 10 axes, expected at most 9");
}

void every_task_once() {
  for (const int threads : {1, 2, 3, 7}) {
    for (const index_t n : {0, 1, 2, 3, 97}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(n));
      parallel_for(n, {threads, {}}, [&](index_t i, int) { ++runs[static_cast<std::size_t>(i)]; });
      for (const auto& count : runs) CHECK_EQUAL(count.load(), 1);
    }
  }
}

/// The first tasks take the longest, so that a worker that has done the last ones is free to help with them.
void ascending_tasks() {
  for (const int threads : {1, 2, 3, 7}) {
    std::vector<index_t> last(static_cast<std::size_t>(threads), -1);
    std::atomic<int> descended{0};
    parallel_for(60, {threads, {}}, [&](index_t i, int worker) {
      if (i < 30) usleep(200);
      index_t& before = last[static_cast<std::size_t>(worker)];
      if (i <= before) ++descended;
      before = i;
    });
    CHECK_EQUAL(descended.load(), 0);
  }
}

void exception_of_a_task() {
  for (const int threads : {1, 2, 7}) {
    const auto run = [&] {
      parallel_for(64, {threads, {}}, [](index_t i, int) {
        if (i == 13) throw std::out_of_range("task 13");
      });
    };
    CHECK_THROWS(run(), std::out_of_range, "task 13");
  }
}

void exception_of_the_poll() {
  for (const int threads : {1, 2}) {
    std::atomic<int> tasks{0};
    const auto run = [&] {
      int polls = 0;
      const auto poll = [&] {
        if (++polls == 3) throw std::runtime_error("stop");
      };
      parallel_for(10'000, {threads, poll}, [&](index_t, int) {
        ++tasks;
        usleep(20);
      });
    };
    CHECK_THROWS(run(), std::runtime_error, "stop");
    CHECK(tasks.load() < 10'000);
  }
}

void thread_counts() {
  CHECK(thread_count(0) >= 1);
  CHECK_EQUAL(thread_count(5), 5);
  CHECK_THROWS(thread_count(-1), ValueError, "threads: got -1, expected at least 1");
}

void forked_child() {
  parallel_for(8, {2, {}}, [](index_t, int) {});  // the parent's pool exists
  const pid_t child = fork();
  if (child == 0) {
    alarm(8);
    int status = thread_count(0) == 1 ? 0 : 1;
    parallel_for(8, {}, [](index_t, int) {});
    try {
      parallel_for(8, {2, {}}, [](index_t, int) {});
      status |= 2;
    } catch (const ForkError& e) {
      if (!check::contains(e.what(), "threads: got 2 in a forked child, expected 1")) status |= 4;
    }
    _exit(status);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK_EQUAL(WEXITSTATUS(status), 0);
}

}  // namespace

int main() {
  return check::run({
      {"every bfloat16 pattern widens to the number its fields say", bf16_patterns},
      {"every half pattern widens to the number its fields say", f16_patterns},
      {"rows are index tuples in lexicographic order, whatever the strides", lexicographic_rows},
      {"axes that step evenly are joined", joined_axes},
      {"more axes than a view holds are refused", too_many_axes},
      {"every task runs once, for any number of threads", every_task_once},
      {"the tasks of a worker ascend", ascending_tasks},
      {"the exception of a task comes out of the call", exception_of_a_task},
      {"the exception of the poll stops the work and comes out of the call", exception_of_the_poll},
      {"thread counts are checked", thread_counts},
      {"a forked child runs one thread, and more are refused", forked_child},
  });
}
