#include "stats/workspace.hpp"

#include <new>
#include <utility>

namespace netassay::stats {

constexpr std::align_val_t kAlignment{64};

struct WorkspaceCache {
  std::size_t bytes = 0;
  Workspace::Memory memory;
};

namespace {
thread_local WorkspaceCache cache;
}

void Workspace::Free::operator()(std::byte* p) const { ::operator delete[](p, kAlignment); }

Workspace::Workspace(std::size_t bytes) : bytes_(bytes) {
  if (cache.bytes >= bytes) {
    bytes_ = std::exchange(cache.bytes, 0);
    memory_ = std::move(cache.memory);
    return;
  }
  memory_.reset(static_cast<std::byte*>(::operator new[](bytes, kAlignment)));
}

Workspace::~Workspace() {
  if (bytes_ <= kKept && bytes_ > cache.bytes) {
    cache.bytes = bytes_;
    cache.memory = std::move(memory_);
  }
}

}  // namespace netassay::stats
