#pragma once
/// Bytes of an open file, read by position into memory the caller has.
///
/// Positional reads, not a map: a file that somebody shortens meanwhile is an error here, and would be SIGBUS there.

#include <cstdint>
#include <string>

#include "netassay/base/parallel.hpp"

namespace netassay {

/// Bytes of the regular file; CorruptCheckpoint for a directory, a pipe or a device.
std::uint64_t file_bytes(int file, const std::string& context = "read");

/// Reads `bytes` bytes from `offset` on into `out`, in blocks of 256 KiB that threads share; the file's own position
/// neither counts nor moves.
/// Raises CorruptCheckpoint when the file ends sooner, naming where; FileError as the system gives it; whatever the
/// poll throws. `out` then holds some of the bytes.
void read_at(int file, std::uint64_t offset, unsigned char* out, std::uint64_t bytes, const Execution& execution = {},
             const std::string& context = "read");

}  // namespace netassay
