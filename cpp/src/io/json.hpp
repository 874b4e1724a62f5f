#pragma once
/// A cursor over a JSON text: forwards only, no recursion, nothing kept. What a safetensors header needs of JSON.
///
/// It takes what the format's own implementation takes: RFC 8259 in UTF-8, at most 127 containers inside each other, no
/// lone surrogate, no number beyond the range of a double. Every refusal is a CorruptCheckpoint that names the byte.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "netassay/base/error.hpp"

namespace netassay::io {

/// A string as it stands between its quotes, known to be well formed.
struct JsonString {
  std::string_view raw;
  bool escaped = false;

  /// The characters it stands for, in UTF-8.
  std::string text() const;
  bool is(std::string_view expected) const {
    if (!escaped) return raw == expected;
    return raw.size() <= 6 * expected.size() && text() == expected;  // \u0041: six bytes for one, at most
  }
  /// For messages: one line of printable characters, at most 96 bytes and an ellipsis.
  std::string shown() const;
};

/// Position of the first byte that is no UTF-8 (overlong forms and surrogates are none), or npos.
std::size_t first_bad_utf8(std::string_view text);

class JsonCursor {
 public:
  static constexpr int kMaxDepth = 127;

  /// `text` is UTF-8; it and `context`, which begins every message, outlive the cursor.
  JsonCursor(std::string_view text, std::string_view context, std::size_t at = 0)
      : text_(text), context_(context), at_(at) {}

  /// The byte that comes next, white space left out.
  std::size_t position() {
    skip_space();
    return at_;
  }
  /// What messages name beside the byte: a tensor, or nothing.
  void within(const JsonString& tensor) { tensor_ = tensor; }
  void within_nothing() { tensor_ = {}; }

  /// Whether `c` comes next; if so, passes it.
  bool take(char c) {
    skip_space();
    if (here() != c || at_ == text_.size()) return false;
    ++at_;
    return true;
  }
  bool comes(char c) {
    skip_space();
    return at_ < text_.size() && here() == c;
  }
  void expect(char c, const char* what) {
    if (!take(c)) fail_at(what);
  }
  void expect_end();

  JsonString string(const char* what) {
    expect('"', what);
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\\' &&
           static_cast<unsigned char>(text_[at_]) >= 0x20)
      ++at_;
    if (here() == '"') return {text_.substr(begin, at_++ - begin), false};
    return rest_of_string(begin);
  }
  /// An integer of [0, 2^64), written as one.
  std::uint64_t count(const char* what) {
    skip_space();
    const std::size_t begin = at_;
    std::uint64_t value = 0;
    for (; at_ - begin < 19 && digit(); ++at_) value = value * 10 + static_cast<std::uint64_t>(here() - '0');
    const bool plain = here() != '.' && (here() | 0x20) != 'e' && !digit();
    if (at_ > begin && plain && (text_[begin] != '0' || at_ == begin + 1)) return value;
    at_ = begin;
    return other_count(what);
  }
  bool take_null();
  /// Passes any value that stands `depth` containers deep.
  void skip_value(int depth);

  /// Throws: "context: [tensor 'a': ]reason".
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    detail::fail<CorruptCheckpoint>(context_, ": ", subject(), parts...);
  }
  /// The same for what stands here and was not expected.
  [[noreturn]] void fail_at(const char* expected) const;

 private:
  char here() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool digit() const { return here() >= '0' && here() <= '9'; }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  JsonString rest_of_string(std::size_t begin);
  std::uint64_t other_count(const char* what);
  std::string subject() const;
  void escape();
  unsigned four_hex_digits();
  void literal(const char* word);
  bool number(std::uint64_t& integer);
  bool digits(std::uint64_t& significand, std::int64_t& exponent, std::int64_t step);

  std::string_view text_, context_;
  std::size_t at_;
  JsonString tensor_;
};

}  // namespace netassay::io
