/// libFuzzer target of the safetensors header: whatever is accepted must hold what the contract says.
///
/// Input = a whole file: length, header, data. The mutator works on the header's text (also number by number and entry
/// by entry, from boundary values), then repairs the length, and often the size of the data: otherwise nearly every
/// input would end at the first check. The oracle reads every byte an entry claims,
/// and computes sizes in 128 bits by itself.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "netassay/io/safetensors.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

using namespace netassay;

constexpr std::size_t kMostData = 256;

const std::vector<std::string> kSeeds{
    "{}",
    R"( {"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )",
    R"({"__metadata__":null,"a":["U8",[2,3],[0,6]],"b":{"dtype":{"BF16":null},"shape":[],"data_offsets":[6,8]}})",
    R"({"a":{"dtype":"U8","shape":[4294967295,4294967297],"data_offsets":[0,18446744073709551615]}})",
    R"({"a":{"dtype":"F32","shape":[3,4294967297,4294967295,4294967296],"data_offsets":[0,12]}})",
    R"({"a":{"dtype":"U8","shape":[9223372036854775808,2],"data_offsets":[0,0]}})",
    R"({"a":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})",
    R"({"a":{"dtype":"U8","shape":[18446744073709551616,0],"data_offsets":[0,0]}})",
    R"({"a":["U8",[0,18446744073709551615,2],[0,0]],"b":["U8",[4],[0,4]],"c":["U8",[0],[4,4]]})",
    R"({"a":["U8",[4],[0,4]],"b":["U8",[4],[4,8]],"c":["U8",[4],[8,12]]})",
    R"({"a":["F4",[2,3],[0,3]],"b":["F6_E2M3",[4],[3,6]]})",
    R"({"\u0061\ud83d\ude00":["U8",[1],[0,1]],"\"\\\n":["U8",[1],[1,2]]})",
    R"({"\ud800":["U8",[0],[0,0]]})",
    R"({"\ud800\u0041":["U8",[0],[0,0]]})",
    R"({"\udc00":["U8",[0],[0,0]]})",
    R"({"a":["U8",[0],[0,0]],"\u0061":["U8",[0],[0,0]]})",
    R"({"a":{"x":[[{"":[1e308,-0,1.5e-9,true,null,"\u12ab"]}]],"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
    "{\"a\":{\"x\":" + std::string(126, '[') + std::string(126, ']') +
        ",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
    "{\"\xc3\xa4\xf0\x9f\x98\x80\xed\x9f\xbf\":[\"U8\",[1],[0,1]]}",
    "{\"\xed\xa0\x80\":[\"U8\",[1],[0,1]]}",
};

const char* const kNumbers[] = {"0",
                                "1",
                                "2",
                                "4",
                                "12",
                                "4294967295",
                                "4294967296",
                                "4294967297",
                                "2147483648",
                                "9223372036854775807",
                                "9223372036854775808",
                                "18446744073709551615",
                                "18446744073709551616",
                                "2305843009213693952",
                                "6148914691236517205",
                                "1.0",
                                "1e0",
                                "-0",
                                "1e309"};

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "the oracle says: %s\n", what);
  std::abort();
}

// Digits of the text at random, as [begin, end); empty when there are none.
std::pair<std::size_t, std::size_t> some_number(const std::string& text, std::minstd_rand& random) {
  if (text.empty()) return {0, 0};
  std::size_t begin = text.find_first_of("0123456789", random() % text.size());
  if (begin == std::string::npos) return {0, 0};
  const std::size_t end = text.find_first_not_of("0123456789", begin);
  return {begin, end == std::string::npos ? text.size() : end};
}

void mutate_number(std::string& text, std::minstd_rand& random) {
  const auto [begin, end] = some_number(text, random);
  if (begin == end) return;
  std::string number = kNumbers[random() % std::size(kNumbers)];
  if (random() % 2 == 0 && end - begin < 19) {  // next to what it was
    const long long moved = std::stoll(text.substr(begin, end - begin)) + static_cast<long long>(random() % 9) - 4;
    number = std::to_string(std::max(0ll, moved));
  }
  text.replace(begin, end - begin, number);
}

// One string of the text becomes another of it, or of a seed.
void mutate_string(std::string& text, std::minstd_rand& random) {
  const std::string other = random() % 2 == 0 ? text : kSeeds[random() % kSeeds.size()];
  const auto pick = [&](const std::string& from) -> std::pair<std::size_t, std::size_t> {
    const std::size_t begin = from.empty() ? std::string::npos : from.find('"', random() % from.size());
    const std::size_t end = begin == std::string::npos ? begin : from.find('"', begin + 1);
    if (end == std::string::npos) return {0, 0};
    return {begin, end + 1 - begin};
  };
  const auto [to, to_size] = pick(text);
  const auto [from, from_size] = pick(other);
  text.replace(to, to_size, other.substr(from, from_size));
}

std::uint64_t length_of(const std::uint8_t* data, std::size_t size) {
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) length |= static_cast<std::uint64_t>(size > i ? data[i] : 0) << (8 * i);
  return length;
}

// The largest number of the text that data of an input can have.
std::size_t plausible_data(const std::string& text) {
  std::size_t most = 0;
  for (std::size_t at = 0; (at = text.find_first_of("0123456789", at)) != std::string::npos;) {
    const std::size_t end = std::min(text.find_first_not_of("0123456789", at), text.size());
    if (end - at <= 3) {
      const auto value = static_cast<std::size_t>(std::atoi(text.substr(at, end - at).c_str()));
      if (value <= kMostData) most = std::max(most, value);
    }
    at = end;
  }
  return most;
}

bool overflows(unsigned __int128 a, std::uint64_t b) { return a * b >> 64 != 0; }

unsigned bits_of(std::string_view tag) {
  if (tag == "F4") return 4;
  if (tag.substr(0, 3) == "F6_") return 6;
  if (tag == "BOOL" || tag == "U8" || tag == "I8" || tag.substr(0, 3) == "F8_") return 8;
  const std::string digits(tag.substr(tag.find_first_of("0123456789")));
  return static_cast<unsigned>(std::atoi(digits.c_str()));
}

void check_entry(const SafetensorsEntry& e, const std::vector<std::uint8_t>& data) {
  unsigned __int128 elements = 1;
  for (const std::uint64_t extent : e.shape) {
    if (overflows(elements, extent)) fail("the product of a shape passes 2^64");
    elements *= extent;
  }
  if (elements * bits_of(e.dtype) != static_cast<unsigned __int128>(e.end - e.begin) * 8) fail("the size is another");
  if (e.end < e.begin || e.end > data.size()) fail("a tensor outside of the data");
  std::uint64_t sum = 0;
  for (std::uint64_t i = e.begin; i < e.end; ++i) sum += data[i];
  volatile std::uint64_t used = sum;
  (void)used;
}

// Well-formed UTF-8, decoded here the slow way.
bool is_text(const std::string& s) {
  for (std::size_t i = 0; i < s.size();) {
    const auto byte = [&](std::size_t at) { return at < s.size() ? static_cast<unsigned char>(s[at]) : 0u; };
    const unsigned first = byte(i);
    const std::size_t more = first < 0x80 ? 0 : first >> 5 == 6 ? 1 : first >> 4 == 14 ? 2 : first >> 3 == 30 ? 3 : 9;
    if (more == 9) return false;
    unsigned point = more == 0 ? first : first & (0x3fu >> more);
    for (std::size_t k = 1; k <= more; ++k) {
      if (byte(i + k) >> 6 != 2) return false;
      point = point << 6 | (byte(i + k) & 0x3f);
    }
    constexpr unsigned least[] = {0, 0x80, 0x800, 0x10000};
    if (point < least[more] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return false;
    i += more + 1;
  }
  return true;
}

// Whether every escaped surrogate of an accepted text has its other half.
bool pairs_surrogates(const std::string& text) {
  for (std::size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] != '\\' || text[++i] != 'u') continue;  // passes what is escaped
    const auto unit = [&text](std::size_t at) { return std::strtoul(text.substr(at, 4).c_str(), nullptr, 16) >> 10; };
    if (unit(i + 1) == 0xdc00 >> 10) return false;
    if (unit(i + 1) != 0xd800 >> 10) continue;
    if (text.substr(i + 5, 2) != "\\u" || unit(i + 7) != 0xdc00 >> 10) return false;
    i += 10;
  }
  return true;
}

// Whether the numbers of an entry stand in the text as they were understood; escaped keys are not looked for.
bool stands(const SafetensorsEntry& e, const std::string& text) {
  std::string bare;
  for (const char c : text) {
    if (c == '\\') return true;
    if (c > ' ' || c < 0) bare += c;
  }
  std::string shape = "[";
  for (const std::uint64_t extent : e.shape) shape += (shape.size() > 1 ? "," : "") + std::to_string(extent);
  shape += "]";
  const std::string offsets = "[" + std::to_string(e.begin) + "," + std::to_string(e.end) + "]";
  if (bare.find("," + shape + "," + offsets) != std::string::npos) return true;
  return bare.find("\"shape\":" + shape) != std::string::npos &&
         bare.find("\"data_offsets\":" + offsets) != std::string::npos;
}

void check(const SafetensorsHeader& header, const std::string& text, const std::vector<std::uint8_t>& data) {
  if (!pairs_surrogates(text)) fail("half a surrogate pair");
  std::set<std::string> names;
  std::uint64_t end = 0;
  for (index_t i = 0; i < header.size(); ++i) {
    const SafetensorsEntry e = header.entry(i);
    if (e.begin != end) fail("a hole or an overlap");
    end = e.end;
    check_entry(e, data);
    if (!stands(e, text)) fail("numbers that the text does not have");
    if (!is_text(e.name)) fail("a name that is no text");
    if (!names.insert(e.name).second) fail("a name twice");
    if (header.find(e.name) != i) fail("a name that is not found");
  }
  if (end != data.size()) fail("data that belong to none");
  for (const auto& [key, value] : header.metadata()) {
    if (!is_text(key) || !is_text(value)) fail("metadata that are no text");
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  std::minstd_rand random(seed);
  random.discard(2);
  if (most < 8 + kMostData || random() % 64 == 0)
    return LLVMFuzzerMutate(data, size, most);  // a length that is wrong, too
  const std::size_t length =
      size < 8 ? 0 : static_cast<std::size_t>(std::min<std::uint64_t>(length_of(data, size), size - 8));
  std::string text(reinterpret_cast<const char*>(data) + std::min<std::size_t>(size, 8), length);
  if (text.empty() || random() % 128 == 0) text = kSeeds[random() % kSeeds.size()];
  const std::size_t room = most - 8 - kMostData;
  switch (random() % 4) {
    case 0:
      mutate_number(text, random);
      break;
    case 1:
      mutate_string(text, random);
      break;
    default: {
      const std::size_t before = std::min(text.size(), room);
      text.resize(room);
      text.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(text.data()), before, room));
    }
  }
  text.resize(std::min(text.size(), room));
  const std::size_t bytes = random() % 8 == 0 ? random() % kMostData : plausible_data(text);
  for (std::size_t i = 0; i < 8; ++i)
    data[i] = static_cast<std::uint8_t>(static_cast<std::uint64_t>(text.size()) >> (8 * i));
  std::memcpy(data + 8, text.data(), text.size());
  std::memset(data + 8 + text.size(), 1, bytes);
  return 8 + text.size() + bytes;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  if (size < 8) return 0;
  try {
    const std::uint64_t length = SafetensorsHeader::length(input, size);
    if (length > size - 8) fail("a header longer than the file");
    const std::vector<std::uint8_t> data(input + 8 + length, input + size);
    std::string text(reinterpret_cast<const char*>(input) + 8, length);
    text.shrink_to_fit();
    check(SafetensorsHeader(text, data.size()), text, data);
  } catch (const CorruptCheckpoint&) {
  }
  return 0;
}
