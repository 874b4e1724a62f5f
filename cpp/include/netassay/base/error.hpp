#pragma once
/// What the library throws. Every message reads "function: got ..., expected ...".

#include <sstream>
#include <stdexcept>
#include <string>

namespace netassay {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Sizes that do not fit together.
class ShapeError : public Error {
 public:
  using Error::Error;
};
/// A number format that is not taken.
class DTypeError : public Error {
 public:
  using Error::Error;
};
/// Axes that do not mean what the call needs.
class LayoutError : public Error {
 public:
  using Error::Error;
};
/// A value outside its domain: a negative threshold, an unknown name, a width of zero.
class ValueError : public Error {
 public:
  using Error::Error;
};
/// Fewer rows than the statistic needs.
class TooFewRows : public Error {
 public:
  using Error::Error;
};
/// NaN or infinity where none may be.
class NonFinite : public Error {
 public:
  using Error::Error;
};
/// A memory budget would be passed.
class LimitExceeded : public Error {
 public:
  using Error::Error;
};
/// Several threads asked for in a forked child, where a second OpenMP region would hang.
class ForkError : public Error {
 public:
  using Error::Error;
};
/// A file that contradicts itself, or ends before it should.
class CorruptCheckpoint : public Error {
 public:
  using Error::Error;
};
/// What the system answered when it was asked for a file; `code` is its errno.
class FileError : public Error {
 public:
  FileError(const std::string& message, int code) : Error(message), code_(code) {}
  int code() const { return code_; }

 private:
  int code_;
};

namespace detail {
template <class E, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw E(message.str());
}
}  // namespace detail
}  // namespace netassay

/// NETASSAY_REQUIRE(x.cols == d, ShapeError, "moments.update: x has d=", x.cols, ", state has d=", d)
#define NETASSAY_REQUIRE(condition, type, ...)                                 \
  do {                                                                         \
    if (!(condition)) ::netassay::detail::fail<::netassay::type>(__VA_ARGS__); \
  } while (false)
