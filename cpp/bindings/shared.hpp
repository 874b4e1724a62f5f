#pragma once
/// States that several Python threads may use at once.

#include <pybind11/pybind11.h>

#include <functional>
#include <memory>
#include <mutex>
#include <utility>

namespace netassay::bindings {

namespace py = pybind11;

/// A state and its mutex, which is taken after the GIL is released: a thread that waits for it holds up no other.
template <class State>
struct Shared {
  Shared() = default;
  explicit Shared(State s) : state(std::move(s)) {}

  State state;  // what never changes of it (a width, options) may be read without the mutex
  std::mutex mutex;

  /// use(state), a function or a member of State; what it returns is a value.
  template <class Use>
  auto locked(Use&& use) {
    const py::gil_scoped_release free;
    const std::lock_guard lock(mutex);
    return std::invoke(std::forward<Use>(use), state);
  }

  std::unique_ptr<Shared> copy() {
    return std::make_unique<Shared>(locked([](State& s) { return s; }));
  }
};

/// use(state, other) with both locked, in no order that two threads could wait for each other in. They may be the same
/// one. The caller has released the GIL.
template <class State, class Use>
void locked_both(Shared<State>& one, Shared<State>& other, Use&& use) {
  std::unique_lock mine(one.mutex, std::defer_lock), theirs(other.mutex, std::defer_lock);
  if (&one == &other) {
    mine.lock();
  } else {
    std::lock(mine, theirs);
  }
  use(one.state, other.state);
}

}  // namespace netassay::bindings
