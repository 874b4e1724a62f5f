/// The header of a safetensors file.

#include "netassay/io/safetensors.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "check.hpp"
#include "scratch.hpp"

namespace {

using namespace netassay;

SafetensorsHeader parse(const std::string& text, std::uint64_t data_bytes = 0) { return {text, data_bytes, "f"}; }

// {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

// A valid entry of four bytes with one more key.
std::string extra(const std::string& value) {
  return R"({"a":{"x":)" + value + R"(,"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
}

std::string repeated(const std::string& part, int times) {
  std::string out;
  for (int i = 0; i < times; ++i) out += part;
  return out;
}

const std::string kFour = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";

void entry_as_written() {
  const SafetensorsHeader h =
      parse(R"({"w.q":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},"b":["F64",[],[0,8]]})", 20);
  CHECK_EQUAL(h.size(), index_t{2});
  const SafetensorsEntry b = h.entry(0), w = h.entry(1);
  CHECK_EQUAL(b.name, "b");
  CHECK_EQUAL(b.dtype, "F64");
  CHECK(b.shape.empty());
  CHECK_EQUAL(b.end, 8u);
  CHECK_EQUAL(w.name, "w.q");
  CHECK_EQUAL(w.dtype, "BF16");
  CHECK((w.shape == std::vector<std::uint64_t>{2, 3}));
  CHECK_EQUAL(w.begin, 8u);
  CHECK_EQUAL(w.end, 20u);
  CHECK_EQUAL(h.find("w.q"), index_t{1});
  CHECK_EQUAL(h.find("w"), index_t{-1});
  CHECK_EQUAL(parse("{}").find(""), index_t{-1});
}

void accepted() {
  const std::string nested = extra(repeated("[", 125) + repeated("]", 125));
  const std::vector<std::pair<std::string, std::uint64_t>> texts{
      {"{}", 0},
      {" \t\r\n{ } \n", 0},
      {R"({"__metadata__":null})", 0},
      {R"({"__metadata__":{}})", 0},
      {R"({"__metadata__":{"k":"v","k":"w"}})", 0},
      {R"({"\u005f_metadata__":{"k":"v"}})", 0},
      {R"({"":)" + kFour + "}", 4},
      {R"({"a":["F32",[1],[0,4]]})", 4},
      {R"({"a":{"dtype":{"F32":null},"shape":[1],"data_offsets":[0,4]}})", 4},
      {R"({"a":{"d\u0074ype":"F3\u0032","shape":[1],"data_offsets":[0,4]}})", 4},
      {one("U8", "[0]", "[0,0]"), 0},
      {one("F32", "[0,18446744073709551615,2]", "[0,0]"), 0},
      {one("F4", "[3,2]", "[0,3]"), 3},
      {one("F6_E2M3", "[4]", "[0,3]"), 3},
      {extra("1"), 4},
      {extra(R"({"":[-0,1.5e-7,0e99999999999,1e-99999999999,true,null,"\ud83d\ude00\/"]})"), 4},
      {extra("1.7976931348623157e308"), 4},
      {extra("184467440737095516150.5"), 4},
      {nested, 4},
      {R"({"a":{"x":1,"x":2,"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4},
      {R"({"b":["U8",[1],[0,1]],"a":["U8",[0],[1,1]],"c":["U8",[0],[0,0]]})", 1},
  };
  for (const auto& [text, data] : texts) {
    try {
      parse(text, data);
    } catch (const Error& e) {
      check::fail(__FILE__, __LINE__, "refused ", text, ": ", e.what());
    }
  }
}

struct Refused {
  std::string text;
  std::uint64_t data;
  const char* why;
};

void refused(const std::vector<Refused>& cases) {
  for (const auto& [text, data, why] : cases) CHECK_THROWS(parse(text, data), CorruptCheckpoint, why);
}

void layout() {
  refused({
      {one("F32", "[1]", "[0,4]"), 5, "f: got 5 bytes of data, expected the 4 that its tensors take"},
      {one("F32", "[1]", "[0,4]"), 3, "f: tensor 'a': ends at byte 4 of 3 bytes of data"},
      {one("F32", "[1]", "[1,5]"), 5, "tensor 'a': begins at byte 1 of the data, expected 0"},
      {one("F32", "[2]", "[0,4]"), 4, "tensor 'a': got offsets [0, 4], expected 8 bytes for 2 elements of F32"},
      {one("F32", "[1]", "[4,0]"), 4, "tensor 'a': got offsets [4, 0], expected 4"},
      {R"({"a":["U8",[2],[0,2]],"b":["U8",[2],[1,3]]})", 3,
       "tensor 'b': begins at byte 1 of the data, expected 2, where"},
      {R"({"a":["U8",[2],[0,2]],"b":["U8",[2],[1,3]]})", 3, "they overlap"},
      {R"({"a":["U8",[2],[0,2]],"b":["U8",[2],[3,5]]})", 5, "there is a hole"},
      {R"({"a":["U8",[2],[0,2]],"b":["U8",[0],[1,1]]})", 2, "tensor 'b': begins at byte 1"},
      {R"({"a":["U8",[2],[0,2]],"b":["U8",[0],[3,3]]})", 3, "tensor 'b': begins at byte 3"},
      {"{}", 1, "got 1 bytes of data, expected the 0"},
      {one("F4", "[7]", "[0,4]"), 4, "tensor 'a': got 7 elements of 4 bits (F4), expected whole bytes"},
  });
  CHECK_THROWS(parse("{}", std::uint64_t{1} << 63), ValueError, "expected fewer than 2^63");
}

void products_that_wrap() {
  const char* passes = "tensor 'a': the product of its shape passes 2^64";
  refused({
      {one("U8", "[4294967295,4294967297]", "[0,18446744073709551615]"), 4,
       "tensor 'a': its 18446744073709551615 elements"},
      {one("U8", "[4294967296,4294967296]", "[0,0]"), 0, passes},
      {one("U8", "[9223372036854775808,2]", "[0,0]"), 0, passes},
      {one("U8", "[3,4294967297,4294967295,4294967296]", "[0,12]"), 12, passes},
      {one("U8", "[18446744073709551615,2,0]", "[0,0]"), 0, passes},
      {one("U16", "[9223372036854775808]", "[0,0]"), 0, "elements of 16 bits pass 2^64 bits"},
      {one("F64", "[288230376151711744]", "[0,2305843009213693952]"), 0, "elements of 64 bits pass 2^64 bits"},
      {one("U8", "[18446744073709551616,0]", "[0,0]"), 0, "got 18446744073709551616, expected an extent"},
      {one("U8", "[0]", "[18446744073709551616,18446744073709551616]"), 0, "expected an offset"},
      {one("U8", "[0]", "[18446744073709551615,18446744073709551615]"), 0, "ends at byte 18446744073709551615 of 0"},
  });
}

void numbers_that_are_no_counts() {
  for (const char* number : {"1.0", "1e0", "-0", "-1", "1E2", "0.0", "-1.5"}) {
    const std::string part = std::string("got ") + number + ", expected an extent";
    CHECK_THROWS(parse(one("U8", "[" + std::string(number) + "]", "[0,1]"), 1), CorruptCheckpoint, part);
    CHECK_THROWS(parse(one("U8", "[1]", "[0," + std::string(number) + "]"), 1), CorruptCheckpoint,
                 "expected an offset");
  }
  refused({
      {one("U8", "[01]", "[0,1]"), 1, "expected no digit after a leading zero"},
      {one("U8", "[+1]", "[0,1]"), 1, "got '+', expected an extent"},
      {one("U8", "[\"1\"]", "[0,1]"), 1, "expected an extent"},
      {one("U8", "[true]", "[0,1]"), 1, "expected an extent"},
      {one("U8", "[1,]", "[0,1]"), 1, "expected an extent"},
      {extra("-"), 4, "expected a value"},
      {extra("1."), 4, "expected a digit after the point"},
      {extra("1e"), 4, "expected a digit of the exponent"},
      {extra(".5"), 4, "expected a value"},
      {extra("1e309"), 4, "beyond the range of a double"},
      {extra("1.7976931348623158e308"), 4, "beyond the range of a double"},
      {extra("1e99999999999"), 4, "beyond the range of a double"},
      {extra("1" + repeated("0", 309)), 4, "beyond the range of a double"},
  });
}

void shape_of_an_entry() {
  refused({
      {R"({"a":1})", 0, "f: tensor 'a': header byte 5: got '1', expected an entry"},
      {R"({"a":null})", 0, "expected an entry"},
      {R"({"a":{}})", 0, "tensor 'a': got no dtype"},
      {R"({"a":{"dtype":"U8","data_offsets":[0,0]}})", 0, "got no shape"},
      {R"({"a":{"dtype":"U8","shape":[]}})", 0, "got no data_offsets"},
      {R"({"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0, "dtype occurs twice"},
      {R"({"a":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}})", 0, "shape occurs twice"},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})", 0, "data_offsets occurs twice"},
      {R"({"a":["U8",[0]]})", 0, "expected ',' and two offsets"},
      {R"({"a":["U8",[0],[0,0],1]})", 0, "expected ']' after dtype"},
      {R"({"a":{"dtype":{"U8":1},"shape":[0],"data_offsets":[0,0]}})", 0, "expected null"},
      {R"({"a":{"dtype":{"U8":null,"U8":null},"shape":[0],"data_offsets":[0,0]}})", 0, "expected '}' after one dtype"},
      {R"({"a":{"dtype":{},"shape":[0],"data_offsets":[0,0]}})", 0, "expected a dtype"},
      {one("f32", "[1]", "[0,4]"), 4, "tensor 'a': got dtype 'f32', expected one of BOOL, F4,"},
      {one("U8", "null", "[0,1]"), 1, "expected a shape"},
      {one("U8", "[1]", "[0]"), 1, "expected ',' and a second offset"},
      {one("U8", "[1]", "[0,1,1]"), 1, "expected ']' after two offsets"},
      {one("U8", "[1]", "{}"), 1, "expected two offsets"},
      {R"({"a":)" + kFour + R"(,"a":)" + kFour + "}", 4, "tensor 'a': occurs twice, at header bytes 1 and"},
      {R"({"ab":["U8",[0],[0,0]],"\u0061b":["U8",[0],[0,0]]})", 0, "occurs twice"},
  });
}

void metadata_of_texts() {
  refused({
      {R"({"__metadata__":[]})", 0, "expected an object of texts, or null"},
      {R"({"__metadata__":{"k":1}})", 0, "header byte 21: got '1', expected a text"},
      {R"({"__metadata__":{"k":null}})", 0, "expected a text"},
      {R"({"__metadata__":null,"__metadata__":null})", 0, "__metadata__ occurs twice"},
  });
  const auto pairs = parse(R"({"__metadata__":{"k\n":"\u00e4\ud83d\ude00","k":""}})").metadata();
  CHECK_EQUAL(pairs.size(), std::size_t{2});
  CHECK_EQUAL(pairs[0].first, "k\n");
  CHECK_EQUAL(pairs[0].second, "\xc3\xa4\xf0\x9f\x98\x80");
}

void json() {
  refused({
      {"", 0, "f: the header ends at byte 0, expected '{' of the header"},
      {"  ", 0, "expected '{'"},
      {"[]", 0, "header byte 0: got '[', expected '{'"},
      {"{", 0, "expected a name"},
      {R"({"a")", 0, "expected ':'"},
      {R"({"a)", 0, "ends inside the string of byte 1"},
      {"{}x", 0, "header byte 2: got 'x', expected the end of the header"},
      {std::string("{}\0", 3), 0, "got a byte of value 0, expected the end"},
      {R"({"a":)" + kFour + ",}", 4, "expected a name"},
      {"{1:2}", 0, "expected a name"},
      {"\xef\xbb\xbf{}", 0, "got a byte of value 239, expected '{'"},
      {"{\"a\x01\":1}", 0, "got a byte of value 1"},
      {R"({"a\v":1})", 0, "expected an escape"},
      {R"({"\ud800":1})", 0, "header byte 2: got a lone surrogate"},
      {R"({"\ud800\ud800":1})", 0, "lone surrogate"},
      {R"({"\ud800\u0041":1})", 0, "lone surrogate"},
      {R"({"\udc00":1})", 0, "lone surrogate"},
      {R"({"\u00g0":1})", 0, "expected four hexadecimal digits"},
      {R"({"\u00)", 0, "expected four hexadecimal digits"},
      {extra("tru"), 4, "expected a value"},
      {extra("NaN"), 4, "expected a value"},
      {extra("[1,]"), 4, "expected a value"},
      {extra("[1 2]"), 4, "expected ',' or ']'"},
      {extra(R"({"x":1,})"), 4, "expected a key"},
      {extra(R"({"x"})"), 4, "expected ':' after a key"},
      {extra("[}"), 4, "expected a value"},
      {extra(repeated("[", 126) + repeated("]", 126)), 4, "more than 127 containers"},
      {extra(repeated("[", 1'000'000)), 4, "more than 127 containers"},
      {extra(repeated("{\"\":", 1'000'000)), 4, "more than 127 containers"},
  });
}

void utf8() {
  const char* bad[] = {"\x80",
                       "\xbf",
                       "\xc0\x80",
                       "\xc1\xbf",
                       "\xc2",
                       "\xe0\x9f\xbf",
                       "\xe2\x82",
                       "\xed\xa0\x80",
                       "\xf0\x8f\xbf\xbf",
                       "\xf4\x90\x80\x80",
                       "\xf5\x80\x80\x80",
                       "\xff",
                       "\xc3(",
                       "\xf0\x9f\x98"};
  for (const char* bytes : bad) {
    CHECK_THROWS(parse("{\"12345678" + std::string(bytes) + "\":1}"), CorruptCheckpoint,
                 "header byte 10: got no UTF-8");
  }
  for (const char* bytes :
       {"\x7f", "\xc2\x80", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    const std::string name = "1234567" + std::string(bytes);
    CHECK_EQUAL(parse("{\"" + name + "\":" + kFour + "}", 4).entry(0).name, name);
  }
}

void messages() {
  CHECK_THROWS(parse("{\"" + repeated("\xc3\xa4", 1000) + "\":1}"), CorruptCheckpoint,
               repeated("\xc3\xa4", 48) + "...'");
  CHECK_THROWS(parse("{\"\xc2\x9b\x7f\":1}"), CorruptCheckpoint, "tensor '\\u009b\\u007f'");
}

std::string numbered(const char* stem, index_t i) { return std::string(stem).append(std::to_string(i)); }

void any_order() {
  // shuffled entries, with empty ones between them, come out as the data lies; every name is found where it is
  std::vector<index_t> order(1000);
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<index_t>(i * 367 % order.size());
  std::string text = "{";
  for (const index_t i : order) {
    const std::string begin = std::to_string(3 * i), end = std::to_string(3 * i + 3);
    text += "\"t" + std::to_string(i) + "\":[\"U8\",[3],[" + begin + "," + end + "]],";
    text += "\"e" + std::to_string(i) + "\":[\"U8\",[0],[" + begin + "," + begin + "]],";
  }
  text.back() = '}';
  const SafetensorsHeader h = parse(text, 3000);
  CHECK_EQUAL(h.size(), index_t{2000});
  for (index_t i = 0; i < 1000; ++i) {
    CHECK_EQUAL(h.entry(2 * i).name, numbered("e", i));
    CHECK_EQUAL(h.entry(2 * i + 1).name, numbered("t", i));
    CHECK_EQUAL(h.find(numbered("e", i)), 2 * i);
    CHECK_EQUAL(h.find(numbered("t", i)), 2 * i + 1);
  }
  CHECK_EQUAL(h.find("t1000"), index_t{-1});
}

void long_tensors() {
  // offsets beyond 2^32, out of order
  CHECK_THROWS(
      parse(R"({"b":["U8",[4294967297],[4294967296,8589934593]],"a":["U8",[4294967295],[0,4294967295]]})", 8589934593),
      CorruptCheckpoint, "tensor 'b': begins at byte 4294967296 of the data, expected 4294967295");
  const SafetensorsHeader h =
      parse(R"({"b":["U8",[4294967297],[4294967295,8589934592]],"a":["U8",[4294967295],[0,4294967295]],)"
            R"("c":["U8",[1],[8589934592,8589934593]]})",
            8589934593);
  CHECK_EQUAL(h.entry(2).name, "c");
}

void header_length() {
  const auto length = [](std::uint64_t n, std::uint64_t file_bytes) {
    unsigned char first8[8];
    for (int i = 0; i < 8; ++i) first8[i] = static_cast<unsigned char>(n >> (8 * i));
    return SafetensorsHeader::length(first8, file_bytes);
  };
  CHECK_EQUAL(length(2, 10), 2u);
  CHECK_EQUAL(length(100'000'000, std::uint64_t{1} << 40), 100'000'000u);
  CHECK_THROWS(length(100'000'001, std::uint64_t{1} << 40), CorruptCheckpoint, "expected at most 100000000");
  for (const std::uint64_t n :
       {std::uint64_t{3}, (std::uint64_t{1} << 32) + 1, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    CHECK_THROWS(length(n, 10), CorruptCheckpoint, "expected at most 2: truncated");
  }
}

void header_of_a_file() {
  const std::string text = R"({"a":)" + kFour + "} ";
  std::vector<unsigned char> bytes(8, 0);
  bytes[0] = static_cast<unsigned char>(text.size());
  bytes.insert(bytes.end(), text.begin(), text.end());
  const std::size_t data = bytes.size();
  bytes.insert(bytes.end(), 4, 7);
  const check::Scratch whole(bytes);
  const SafetensorsHeader h = read_safetensors_header(whole.number());
  CHECK_EQUAL(h.data_begin(), data);
  CHECK_EQUAL(h.data_bytes(), 4u);
  CHECK_EQUAL(h.entry(0).name, "a");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const check::Scratch part({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
    CHECK_THROWS(read_safetensors_header(part.number(), 1000, "f"), CorruptCheckpoint, "f: ");
  }
}

}  // namespace

int main() {
  return check::run({
      {"entries come out as the header says them, and are found by name", entry_as_written},
      {"what the package accepts is accepted", accepted},
      {"holes, overlaps, trailing bytes and sizes that disagree are refused", layout},
      {"products that wrap are refused", products_that_wrap},
      {"a number that is no count is refused as an extent and as an offset", numbers_that_are_no_counts},
      {"an entry that is none is refused", shape_of_an_entry},
      {"metadata are texts", metadata_of_texts},
      {"what is no JSON is refused, and nesting costs no stack", json},
      {"what is no UTF-8 is refused", utf8},
      {"messages are short and printable", messages},
      {"entries in any order come out in storage order", any_order},
      {"offsets beyond 2^32 are kept", long_tensors},
      {"a length beyond the file or the limit is refused", header_length},
      {"the header of a file is read, and no part of the file is taken for the whole", header_of_a_file},
  });
}
