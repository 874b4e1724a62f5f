#pragma once
/// A file that is gone when its owner is.

#include <cstdio>
#include <cstdlib>
#include <vector>

namespace check {

class Scratch {
 public:
  explicit Scratch(const std::vector<unsigned char>& bytes) : file_(std::tmpfile()) {
    if (file_ == nullptr) std::abort();
    for (const unsigned char byte : bytes) std::fputc(byte, file_);
    std::fflush(file_);
  }
  ~Scratch() { std::fclose(file_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  int number() const { return fileno(file_); }

 private:
  std::FILE* file_;
};

}  // namespace check
