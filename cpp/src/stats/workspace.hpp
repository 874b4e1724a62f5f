#pragma once
/// Scratch memory that is asked for again and again with the same size: handed out aligned, kept by the thread that
/// returns it, so that a loop over batches pays for page faults once. At most kKept bytes are kept.

#include <cstddef>
#include <memory>

namespace netassay::stats {

class Workspace {
 public:
  static constexpr std::size_t kKept = std::size_t{96} << 20;

  explicit Workspace(std::size_t bytes);
  ~Workspace();
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  std::byte* data() { return memory_.get(); }

 private:
  struct Free {
    void operator()(std::byte* p) const;
  };
  friend struct WorkspaceCache;
  using Memory = std::unique_ptr<std::byte[], Free>;
  std::size_t bytes_;
  Memory memory_;
};

}  // namespace netassay::stats
