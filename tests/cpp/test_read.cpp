/// Reading by position.

#include "netassay/io/read.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "scratch.hpp"

namespace {

using namespace netassay;
using check::Scratch;

std::vector<unsigned char> pattern(std::size_t n) {
  std::vector<unsigned char> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<unsigned char>(i * 2654435761u >> 13);
  return bytes;
}

void bytes_of_any_number_of_threads() {
  const std::vector<unsigned char> bytes = pattern((std::size_t{1} << 20) + 77);
  const Scratch file(bytes);
  for (const int threads : {1, 2, 3, 7}) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{262'144}, bytes.size() - 5}) {
      std::vector<unsigned char> out(size);
      read_at(file.number(), 5, out.data(), size, {threads, {}});
      CHECK(std::equal(out.begin(), out.end(), bytes.begin() + 5));
    }
  }
}

void file_that_ends() {
  const Scratch file(pattern(1'000'000));
  std::vector<unsigned char> out(1'000'000);
  for (const int threads : {1, 3}) {
    CHECK_THROWS(read_at(file.number(), 1, out.data(), out.size(), {threads, {}}, "f"), CorruptCheckpoint,
                 "f: the file ends at byte 1000000, expected it to reach byte 1000001: it is truncated");
  }
  if (ftruncate(file.number(), 300'000) != 0) std::abort();
  CHECK_THROWS(read_at(file.number(), 0, out.data(), out.size()), CorruptCheckpoint, "it is truncated");
}

void poll_of_a_read() {
  const Scratch file(pattern(std::size_t{4} << 20));
  std::vector<unsigned char> out(std::size_t{4} << 20);
  const auto stop = [] { throw std::runtime_error("stop"); };
  CHECK_THROWS(read_at(file.number(), 0, out.data(), out.size(), {1, stop}), std::runtime_error, "stop");
}

void what_the_system_says() {
  unsigned char byte = 0;
  CHECK_THROWS(read_at(-1, 0, &byte, 1, {}, "f"), FileError, "f: Bad file descriptor");
  CHECK_THROWS(read_at(-1, ~std::uint64_t{0}, &byte, 1), ValueError, "expected an end below 2^63");
  const int directory = open("/", O_RDONLY);
  CHECK_THROWS(file_bytes(directory, "f"), FileError, "f: Is a directory");
  close(directory);
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  CHECK_THROWS(file_bytes(ends[0], "f"), CorruptCheckpoint, "f: got a pipe or a device, expected a file");
  close(ends[0]);
  close(ends[1]);
}

}  // namespace

int main() {
  return check::run({
      {"bytes read do not depend on the number of threads", bytes_of_any_number_of_threads},
      {"a file that ends too soon is an error", file_that_ends},
      {"the poll stops a read", poll_of_a_read},
      {"errors of the system are told apart", what_the_system_says},
  });
}
