#pragma once
/// Memory that ends at a page nobody may touch: AddressSanitizer sees neither tile stores nor masked vector stores.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "check.hpp"
#include "netassay/base/cpu.hpp"
#include "netassay/base/view.hpp"

namespace guard {

using netassay::index_t;

inline const char* here = "";  // the kernel under test, for messages

/// The kernels of one instruction set.
template <class Tables>
struct Named {
  const char* name;
  netassay::Isa level;
  const Tables* tables;
};

/// Calls body(tables) for the kernels of every instruction set that may be used here.
template <class Tables, class Body>
void each_kernel(const std::vector<Named<Tables>>& all, Body body) {
  for (const Named<Tables>& kernel : all) {
    if (kernel.level > netassay::isa()) continue;
    here = kernel.name;
    body(*kernel.tables);
  }
}

/// Prints which kernels each_kernel leaves out.
template <class Tables>
void report_skipped(const std::vector<Named<Tables>>& all) {
  for (const Named<Tables>& kernel : all) {
    if (kernel.level <= netassay::isa()) continue;
    std::printf("skipped  %s: the processor, the system or NETASSAY_ISA ends at %s\n", kernel.name,
                netassay::isa_name(netassay::isa()));
  }
}

/// `count` values whose last byte lies before a PROT_NONE page. Before the first are fewer than a page of bytes, which
/// the destructor finds as they were, and another such page. The values start as NaN, or as bytes that nobody wrote.
template <class T>
class Guarded {
 public:
  explicit Guarded(index_t count) : count_(count) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    const std::size_t room = (bytes + page - 1) / page * page;
    mapped_ = room + 2 * page;
    void* const map = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    map_ = static_cast<unsigned char*>(map);
    slack_ = map_ + page;
    data_ = slack_ + (room - bytes);
    std::memset(slack_, kUnwritten, room);
    if (mprotect(map_, page, PROT_NONE) != 0 || mprotect(slack_ + room, page, PROT_NONE) != 0) std::abort();
  }
  Guarded(index_t count, T value) : Guarded(count) { std::fill_n(data(), count, value); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() {
    const bool intact = std::all_of(slack_, data_, [](unsigned char byte) { return byte == kUnwritten; });
    if (!intact) check::fail(__FILE__, __LINE__, "bytes before a buffer were written");
    munmap(map_, mapped_);
  }

  T* data() { return reinterpret_cast<T*>(data_); }
  T& operator[](index_t k) { return data()[k]; }
  index_t size() const { return count_; }

 private:
  static constexpr unsigned char kUnwritten = 0xff;  // floats and doubles of such bytes are NaN
  index_t count_;
  std::size_t mapped_;
  unsigned char *map_, *slack_, *data_;
};

template <class... Parts>
void expect(bool condition, const Parts&... what) {
  if (!condition) check::fail(__FILE__, __LINE__, here, ": ", what...);
}

/// Says which kernel touched a guard page, and ends the program.
inline void report_faults() {
  std::signal(SIGSEGV, [](int) {
    const char text[] = "touched a guard page: ";
    (void)!write(1, text, sizeof(text) - 1);
    (void)!write(1, here, std::strlen(here));
    _exit(1);
  });
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a crash says which claim it was in
}

}  // namespace guard
