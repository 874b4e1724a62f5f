#include "netassay/io/read.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "netassay/io/safetensors.hpp"

namespace netassay {
namespace {

// Small enough that a block is still in a core's cache when it has been copied.
constexpr std::uint64_t kBlock = 256 * 1024;

[[noreturn]] void fail_as_system(const std::string& context, int code) {
  throw FileError(context + ": " + std::strerror(code), code);
}

// The same words whichever block met the end first.
[[noreturn]] void fail_truncated(int file, std::uint64_t end, const std::string& context) {
  detail::fail<CorruptCheckpoint>(context, ": the file ends at byte ", file_bytes(file, context),
                                  ", expected it to reach byte ", end, ": it is truncated");
}

// Bytes [offset, offset + bytes) of a read that goes on to `end`.
void read_block(int file, std::uint64_t offset, unsigned char* out, std::uint64_t bytes, std::uint64_t end,
                const std::string& context) {
  while (bytes > 0) {
    const ssize_t got = pread(file, out, bytes, static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      fail_as_system(context, errno);
    }
    if (got == 0) fail_truncated(file, end, context);
    out += got;
    offset += static_cast<std::uint64_t>(got);
    bytes -= static_cast<std::uint64_t>(got);
  }
}

}  // namespace

std::uint64_t file_bytes(int file, const std::string& context) {
  struct stat status{};
  if (fstat(file, &status) != 0) fail_as_system(context, errno);
  if (S_ISDIR(status.st_mode)) fail_as_system(context, EISDIR);
  NETASSAY_REQUIRE(S_ISREG(status.st_mode), CorruptCheckpoint, context, ": got a pipe or a device, expected a file");
  return static_cast<std::uint64_t>(status.st_size);
}

void read_at(int file, std::uint64_t offset, unsigned char* out, std::uint64_t bytes, const Execution& execution,
             const std::string& context) {
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  NETASSAY_REQUIRE(offset <= most && bytes <= most - offset, ValueError, context, ": got bytes ", offset, " to ",
                   offset, " + ", bytes, ", expected an end below 2^63");
  const auto blocks = static_cast<index_t>((bytes + kBlock - 1) / kBlock);
  parallel_for(blocks, execution, [&](index_t block, int) {
    const std::uint64_t begin = static_cast<std::uint64_t>(block) * kBlock;
    read_block(file, offset + begin, out + begin, std::min(kBlock, bytes - begin), offset + bytes, context);
  });
}

SafetensorsHeader read_safetensors_header(int file, std::uint64_t most, const std::string& context) {
  const std::uint64_t size = file_bytes(file, context);
  NETASSAY_REQUIRE(size >= 8, CorruptCheckpoint, context, ": got ", size,
                   " bytes, expected at least the 8 of a safetensors file");
  unsigned char first8[8];
  read_block(file, 0, first8, 8, 8, context);
  std::string text(SafetensorsHeader::length(first8, size, most, context), '\0');
  read_block(file, 8, reinterpret_cast<unsigned char*>(text.data()), text.size(), 8 + text.size(), context);
  const std::uint64_t data = size - 8 - text.size();
  return {std::move(text), data, context};
}

}  // namespace netassay
