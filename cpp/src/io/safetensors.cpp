#include "netassay/io/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <numeric>
#include <tuple>

#include "io/fields.hpp"
#include "io/hash.hpp"
#include "io/json.hpp"

namespace netassay {

using io::Fields;
using io::JsonCursor;
using io::JsonString;

namespace {

// A place in the table of names: where the name stands, and above it 5 bits of its hash that spare most comparisons.
constexpr std::uint32_t kAt = (1u << 27) - 1;
static_assert(SafetensorsHeader::kMaxBytes <= kAt);

std::uint64_t hash_of(std::string_view name) {
  static const io::NameHash hash;
  return hash(name);
}

// Where the search for a hash begins among `places`, and its bits beside the position.
std::size_t home(std::uint64_t hash, std::size_t places) {
  return static_cast<std::size_t>(((hash & 0xffffffffu) * places) >> 32);
}
std::uint32_t fragment(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32) & ~kAt; }

Fields fields_at(const std::string& text, std::size_t at) {
  JsonCursor cursor(text, "", at);
  cursor.string("a name");
  cursor.expect(':', "':'");
  return io::read_fields(cursor);
}

JsonString name_at(const std::string& text, std::size_t at) { return JsonCursor(text, "", at).string("a name"); }

std::vector<std::pair<std::string, std::string>> read_metadata(JsonCursor& cursor, bool keep) {
  std::vector<std::pair<std::string, std::string>> pairs;
  if (cursor.take_null()) return pairs;
  cursor.expect('{', "an object of texts, or null, as __metadata__");
  if (cursor.take('}')) return pairs;
  do {
    const JsonString key = cursor.string("a key of __metadata__");
    cursor.expect(':', "':' after a key");
    const JsonString value = cursor.string("a text as a value of __metadata__");
    if (keep) pairs.emplace_back(key.text(), value.text());
  } while (cursor.take(','));
  cursor.expect('}', "',' or '}' of __metadata__");
  return pairs;
}

}  // namespace

std::uint64_t SafetensorsHeader::length(const unsigned char* first8, std::uint64_t file_bytes, std::uint64_t most,
                                        const std::string& context) {
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | first8[i];
  most = std::min({most, kMaxBytes, file_bytes - std::min<std::uint64_t>(file_bytes, 8)});
  NETASSAY_REQUIRE(length <= most, CorruptCheckpoint, context, ": got a header length of ", length,
                   ", expected at most ", most, ": truncated, or no safetensors file");
  return length;
}

SafetensorsHeader::SafetensorsHeader(std::string text, std::uint64_t data_bytes, const std::string& context)
    : text_(std::move(text)), data_bytes_(data_bytes) {
  NETASSAY_REQUIRE(text_.size() <= kMaxBytes, CorruptCheckpoint, context, ": got a header of ", text_.size(),
                   " bytes, expected at most ", kMaxBytes);
  NETASSAY_REQUIRE(data_bytes >> 63 == 0, ValueError, context, ": got ", data_bytes,
                   " bytes of data, expected fewer than 2^63");
  const std::size_t bad = io::first_bad_utf8(text_);
  NETASSAY_REQUIRE(bad == std::string::npos, CorruptCheckpoint, context, ": header byte ", bad, ": got no UTF-8");
  read_entries(context);
  index_names(context);  // while the entries are in the order of the text, which is much faster
  sort_slots();
  check_layout(context);
}

void SafetensorsHeader::read_entries(const std::string& context) {
  constexpr std::size_t shortest = 19;          // "":["U8",[],[0,1]],
  slots_.reserve(text_.size() / shortest + 1);  // at once: growing would hold the slots twice
  JsonCursor cursor(text_, context);
  cursor.expect('{', "'{' of the header");
  if (!cursor.take('}')) {
    do {
      const std::size_t at = cursor.position();
      const JsonString name = cursor.string("a name");
      cursor.expect(':', "':' after a name");
      if (name.is("__metadata__")) {
        if (metadata_at_ != 0) cursor.fail("__metadata__ occurs twice, again at header byte ", at);
        metadata_at_ = static_cast<std::uint32_t>(cursor.position());
        read_metadata(cursor, false);
        continue;
      }
      cursor.within(name);
      const Fields fields = io::read_fields(cursor);
      io::check_fields(cursor, fields, data_bytes_);
      cursor.within({});
      const auto bytes = std::min<std::uint64_t>(fields.end - fields.begin, kLong);
      slots_.push_back({fields.begin, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes)});
    } while (cursor.take(','));
    cursor.expect('}', "',' or '}' of the header");
  }
  cursor.expect_end();
  if (slots_.size() < slots_.capacity() / 8) slots_.shrink_to_fit();
}

// Into storage order, stably and in a time that no order of the entries makes longer: by one byte of the key at a time.
void SafetensorsHeader::sort_slots() {
  const auto key = [](const Slot& slot) { return slot.begin * 2 + (slot.bytes != 0); };  // begin is below 2^63
  const auto before = [&](const Slot& a, const Slot& b) { return key(a) < key(b); };
  if (std::is_sorted(slots_.begin(), slots_.end(), before)) return;
  std::vector<Slot> other(slots_.size());
  for (int shift = 0; shift <= static_cast<int>(std::bit_width(data_bytes_)); shift += 8) {
    std::array<std::size_t, 257> first{};
    for (const Slot& slot : slots_) ++first[(key(slot) >> shift & 0xff) + 1];
    std::partial_sum(first.begin(), first.end(), first.begin());
    for (const Slot& slot : slots_) other[first[key(slot) >> shift & 0xff]++] = slot;
    slots_.swap(other);
  }
}

// The tensors in storage order follow each other from the first byte of the data to the last.
void SafetensorsHeader::check_layout(const std::string& context) {
  std::uint64_t end = 0;
  for (const Slot& slot : slots_) {
    NETASSAY_REQUIRE(slot.begin == end, CorruptCheckpoint, context, ": tensor '", name_at(text_, slot.at).shown(),
                     "': begins at byte ", slot.begin, " of the data, expected ", end,
                     ", where the one before it ends: ", slot.begin < end ? "they overlap" : "there is a hole");
    end = slot.bytes < kLong ? slot.begin + slot.bytes : fields_at(text_, slot.at).end;
  }
  NETASSAY_REQUIRE(end == data_bytes_, CorruptCheckpoint, context, ": got ", data_bytes_,
                   " bytes of data, expected the ", end, " that its tensors take");
}

// In blocks, so that the places of the table are on their way into the cache when they are needed.
void SafetensorsHeader::index_names(const std::string& context) {
  names_.assign(slots_.size() * 2 + 1, 0);
  constexpr std::size_t kBlock = 32;
  std::array<std::uint64_t, kBlock> hashes;
  for (std::size_t first = 0; first < slots_.size(); first += kBlock) {
    const std::size_t count = std::min(kBlock, slots_.size() - first);
    for (std::size_t i = 0; i < count; ++i) {
      const JsonString name = name_at(text_, slots_[first + i].at);
      hashes[i] = name.escaped ? hash_of(name.text()) : hash_of(name.raw);
      __builtin_prefetch(&names_[home(hashes[i], names_.size())], 1);
    }
    for (std::size_t i = 0; i < count; ++i) index_name(slots_[first + i].at, hashes[i], context);
  }
}

void SafetensorsHeader::index_name(std::uint32_t at, std::uint64_t hash, const std::string& context) {
  std::size_t place = home(hash, names_.size());
  for (; names_[place] != 0; place = place + 1 < names_.size() ? place + 1 : 0) {
    if ((names_[place] & ~kAt) != fragment(hash)) continue;
    const JsonString name = name_at(text_, at);
    NETASSAY_REQUIRE(!name_at(text_, names_[place] & kAt).is(name.text()), CorruptCheckpoint, context, ": tensor '",
                     name.shown(), "': occurs twice, at header bytes ", names_[place] & kAt, " and ", at);
  }
  names_[place] = fragment(hash) | at;
}

index_t SafetensorsHeader::find(std::string_view name) const {
  const std::uint64_t hash = hash_of(name);
  std::size_t place = home(hash, names_.size());
  for (; names_[place] != 0; place = place + 1 < names_.size() ? place + 1 : 0) {
    const std::uint32_t at = names_[place] & kAt;
    if ((names_[place] & ~kAt) != fragment(hash) || !name_at(text_, at).is(name)) continue;
    const Fields fields = fields_at(text_, at);
    const auto wanted = std::tuple(fields.begin, fields.end != fields.begin, at);
    const auto slot = std::partition_point(
        slots_.begin(), slots_.end(), [&](const Slot& s) { return std::tuple(s.begin, s.bytes != 0, s.at) < wanted; });
    return slot - slots_.begin();
  }
  return -1;
}

SafetensorsEntry SafetensorsHeader::entry(index_t i) const {
  const std::size_t at = slots_[static_cast<std::size_t>(i)].at;
  const Fields fields = fields_at(text_, at);
  SafetensorsEntry entry;
  entry.name = name_at(text_, at).text();
  entry.begin = fields.begin;
  entry.end = fields.end;
  entry.dtype = fields.dtype->tag;
  JsonCursor shape(text_, "", fields.shape_at);
  io::read_shape(shape, [&](std::uint64_t extent) { entry.shape.push_back(extent); });
  return entry;
}

std::vector<std::pair<std::string, std::string>> SafetensorsHeader::metadata() const {
  if (metadata_at_ == 0) return {};
  JsonCursor cursor(text_, "", metadata_at_);
  return read_metadata(cursor, true);
}

}  // namespace netassay
