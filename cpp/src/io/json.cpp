#include "io/json.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace netassay::io {
namespace {

unsigned byte(char c) { return static_cast<unsigned char>(c); }

void append_utf8(std::string& out, unsigned point) {
  const auto put = [&out](unsigned value) { out.push_back(static_cast<char>(value)); };
  if (point < 0x80) return put(point);
  if (point < 0x800) {
    put(0xc0 | point >> 6);
  } else {
    if (point < 0x10000) {
      put(0xe0 | point >> 12);
    } else {
      put(0xf0 | point >> 18);
      put(0x80 | (point >> 12 & 0x3f));
    }
    put(0x80 | (point >> 6 & 0x3f));
  }
  put(0x80 | (point & 0x3f));
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const int letter = c | 0x20;
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

unsigned hex4(const char* p) {
  unsigned value = 0;
  for (int i = 0; i < 4; ++i) value = value << 4 | static_cast<unsigned>(hex(p[i]));
  return value;
}

// Powers of ten as the nearest doubles.
double power_of_ten(std::int64_t exponent) {
  static const std::array<double, 309> powers = [] {
    std::array<double, 309> table{};
    for (std::size_t i = 0; i < table.size(); ++i) {
      const std::string text = "1e" + std::to_string(i);
      std::from_chars(text.data(), text.data() + text.size(), table[i]);
    }
    return table;
  }();
  return powers[static_cast<std::size_t>(exponent)];
}

// Whether significand * 10^exponent is a double, as the format's implementation computes it: one rounded product, which
// for a few numbers next to the largest double says no where correct rounding would say yes.
bool in_range(std::uint64_t significand, std::int64_t exponent) {
  if (significand == 0 || exponent <= 0) return true;
  return exponent <= 308 && std::isfinite(static_cast<double>(significand) * power_of_ten(exponent));
}

// Length of the well-formed sequence that begins a text of a non-ASCII character, or 0.
// Table 3-7 of the Unicode standard.
std::size_t utf8_sequence(std::string_view text) {
  const unsigned first = byte(text[0]);
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(text[1]) < low || byte(text[1]) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte(text[i]) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

std::size_t first_bad_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::uint64_t eight = 0;
    if (text.size() - at >= 8) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        continue;
      }
    }
    if (byte(text[at]) < 0x80) {
      ++at;
    } else if (const std::size_t length = utf8_sequence(text.substr(at))) {
      at += length;
    } else {
      return at;
    }
  }
  return std::string_view::npos;
}

std::string JsonString::text() const {
  std::string out;
  out.reserve(raw.size());
  for (std::size_t i = 0; i < raw.size(); ++i) {
    if (raw[i] != '\\') {
      out.push_back(raw[i]);
      continue;
    }
    const char c = raw[++i];
    if (c != 'u') {
      const std::size_t which = std::string_view("bfnrt").find(c);
      out.push_back(which == std::string_view::npos ? c : "\b\f\n\r\t"[which]);
      continue;
    }
    unsigned point = hex4(raw.data() + i + 1);
    i += 4;
    if (point >= 0xd800 && point < 0xdc00) {  // the other half follows: the cursor has seen to that
      point = 0x10000 + ((point - 0xd800) << 10) + (hex4(raw.data() + i + 3) - 0xdc00);
      i += 6;
    }
    append_utf8(out, point);
  }
  return out;
}

std::string JsonString::shown() const {
  constexpr std::size_t most = 96;
  std::size_t cut = std::min(most, raw.size());
  while (cut > 0 && cut < raw.size() && (byte(raw[cut]) & 0xc0) == 0x80) --cut;  // no character is cut in two
  const std::string_view part = raw.substr(0, cut);
  std::string out;
  for (std::size_t i = 0; i < part.size(); ++i) {
    // DEL and the C1 controls may stand in a JSON string, and mean something to a terminal.
    const bool c1 = byte(part[i]) == 0xc2 && i + 1 < part.size() && byte(part[i + 1]) < 0xa0;
    if (part[i] == 0x7f || c1) {
      const unsigned point = c1 ? byte(part[++i]) : 0x7f;
      out += "\\u00";
      out += "0123456789abcdef"[point >> 4];
      out += "0123456789abcdef"[point & 15];
    } else {
      out += part[i];
    }
  }
  return part.size() < raw.size() ? out + "..." : out;
}

std::string JsonCursor::subject() const {
  return tensor_.raw.data() ? "tensor '" + tensor_.shown() + "': " : std::string();
}

void JsonCursor::fail_at(const char* expected) const {
  if (at_ >= text_.size()) fail("the header ends at byte ", at_, ", expected ", expected);
  const unsigned c = byte(text_[at_]);
  if (c > 0x20 && c < 0x7f) fail("header byte ", at_, ": got '", text_[at_], "', expected ", expected);
  fail("header byte ", at_, ": got a byte of value ", c, ", expected ", expected);
}

void JsonCursor::expect_end() {
  skip_space();
  if (at_ != text_.size()) fail_at("the end of the header");
}

JsonString JsonCursor::rest_of_string(std::size_t begin) {
  bool escaped = false;
  for (;;) {
    if (at_ >= text_.size()) fail("the header ends inside the string of byte ", begin - 1);
    const char c = text_[at_];
    if (c == '"') break;
    if (byte(c) < 0x20) fail_at("a character of a string (controls must be escaped)");
    ++at_;
    if (c != '\\') continue;
    escaped = true;
    escape();
  }
  return {text_.substr(begin, at_++ - begin), escaped};
}

void JsonCursor::escape() {
  const char c = here();
  if (c != 'u') {
    if (at_ >= text_.size() || std::memchr("\"\\/bfnrt", c, 8) == nullptr) fail_at("an escape of JSON");
    ++at_;
    return;
  }
  const std::size_t begin = at_ - 1;
  const unsigned first = four_hex_digits();
  if (first < 0xd800 || first >= 0xe000) return;
  if (first < 0xdc00 && text_.substr(at_, 2) == "\\u") {
    ++at_;
    const unsigned second = four_hex_digits();
    if (second >= 0xdc00 && second < 0xe000) return;
  }
  fail("header byte ", begin, ": got a lone surrogate, expected a pair");
}

unsigned JsonCursor::four_hex_digits() {
  ++at_;  // the u
  for (std::size_t i = 0; i < 4; ++i, ++at_) {
    if (at_ >= text_.size() || hex(text_[at_]) < 0) fail_at("four hexadecimal digits");
  }
  return hex4(text_.data() + at_ - 4);
}

void JsonCursor::literal(const char* word) {
  const std::size_t length = std::strlen(word);
  if (text_.substr(at_, length) != word) fail_at("a value");
  at_ += length;
}

bool JsonCursor::take_null() {
  if (!comes('n')) return false;
  literal("null");
  return true;
}

// Reads digits into the significand while it fits, `step` added to the exponent for each; one that does not fit is
// dropped, which costs a power of ten. Whether there was any.
bool JsonCursor::digits(std::uint64_t& significand, std::int64_t& exponent, std::int64_t step) {
  constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  const std::size_t begin = at_;
  bool full = false;
  for (; digit(); ++at_) {
    const auto value = static_cast<std::uint64_t>(here() - '0');
    full = full || significand > (most - value) / 10;
    if (full) {
      exponent += step + 1;
    } else {
      significand = significand * 10 + value;
      exponent += step;
    }
  }
  return at_ > begin;
}

// Passes a number; whether it is an integer of [0, 2^64), written as one.
bool JsonCursor::number(std::uint64_t& integer) {
  const std::size_t begin = at_;
  const bool negative = here() == '-';
  if (negative) ++at_;
  integer = 0;
  std::int64_t exponent = 0;
  if (here() == '0') {
    ++at_;
    if (digit()) fail_at("no digit after a leading zero");
  } else if (!digits(integer, exponent, 0)) {
    fail_at("a value");
  }
  bool whole = !negative && exponent == 0;
  if (here() == '.') {
    ++at_;
    whole = false;
    if (!digits(integer, exponent, -1)) fail_at("a digit after the point");
  }
  if (here() == 'e' || here() == 'E') {
    ++at_;
    whole = false;
    const bool down = here() == '-';
    if (down || here() == '+') ++at_;
    std::uint64_t power = 0;
    std::int64_t beyond = 0;
    if (!digits(power, beyond, 0)) fail_at("a digit of the exponent");
    const auto shift = static_cast<std::int64_t>(beyond || power > 0x7fffffffu ? 0x7fffffffu : power);
    exponent += down ? -shift : shift;
  }
  if (!in_range(integer, exponent)) fail("header byte ", begin, ": got a number beyond the range of a double");
  return whole;
}

std::uint64_t JsonCursor::other_count(const char* what) {
  const std::size_t begin = at_;
  std::uint64_t value = 0;
  if (here() != '-' && !digit()) fail_at(what);
  if (!number(value)) {
    const std::string_view shown = text_.substr(begin, std::min<std::size_t>(at_ - begin, 40));
    fail("header byte ", begin, ": got ", shown, ", expected ", what);
  }
  return value;
}

void JsonCursor::skip_value(int depth) {
  std::array<bool, kMaxDepth + 1> object{};  // what each open container is
  const int floor = depth;
  const auto key = [this] {
    string("a key");
    expect(':', "':' after a key");
  };
  for (;;) {
    skip_space();
    const char c = here();
    if (c == '{' || c == '[') {
      if (depth == kMaxDepth) fail("header byte ", at_, ": got more than ", kMaxDepth, " containers inside each other");
      ++at_;
      object[static_cast<std::size_t>(++depth)] = c == '{';
      if (!take(c == '{' ? '}' : ']')) {
        if (c == '{') key();
        continue;
      }
      --depth;
    } else if (c == '"') {
      string("a string");
    } else if (c == 't' || c == 'f' || c == 'n') {
      literal(c == 't' ? "true" : c == 'f' ? "false" : "null");
    } else {
      std::uint64_t ignored = 0;
      number(ignored);
    }
    for (;; --depth) {  // a value has ended, and with it perhaps its container
      if (depth == floor) return;
      const bool in_object = object[static_cast<std::size_t>(depth)];
      if (take(',')) {
        if (in_object) key();
        break;
      }
      expect(in_object ? '}' : ']', in_object ? "',' or '}'" : "',' or ']'");
    }
  }
}

}  // namespace netassay::io
