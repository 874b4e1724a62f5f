#include "io/fields.hpp"

#include <array>
#include <limits>
#include <string>
#include <utility>

namespace netassay::io {
namespace {

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

constexpr std::array<Dtype, 22> kDtypes{{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

const Dtype* dtype_of(const JsonCursor& cursor, const JsonString& tag) {
  for (const Dtype& dtype : kDtypes) {
    if (tag.is(dtype.tag)) return &dtype;
  }
  std::string known;
  for (const Dtype& dtype : kDtypes) known += (known.empty() ? "" : ", ") + std::string(dtype.tag);
  cursor.fail("got dtype '", tag.shown(), "', expected one of ", known);
}

// "F32", or as the package's parser also takes an enumeration: {"F32": null}.
const Dtype* read_dtype(JsonCursor& cursor) {
  const bool wrapped = cursor.take('{');
  const JsonString tag = cursor.string("a dtype");
  if (wrapped) {
    cursor.expect(':', "':' after a dtype");
    if (!cursor.take_null()) cursor.fail_at("null");
    cursor.expect('}', "'}' after one dtype");
  }
  return dtype_of(cursor, tag);
}

void read_extents(JsonCursor& cursor, Fields& fields) {
  fields.shape_at = cursor.position();
  read_shape(cursor, [&](std::uint64_t extent) {
    if (extent != 0 && fields.elements > kMost / extent) cursor.fail("the product of its shape passes 2^64");
    fields.elements *= extent;
  });
}

void read_offsets(JsonCursor& cursor, Fields& fields) {
  constexpr const char* offset = "an offset, an integer of [0, 2^64)";
  cursor.expect('[', "two offsets");
  fields.begin = cursor.count(offset);
  cursor.expect(',', "',' and a second offset");
  fields.end = cursor.count(offset);
  cursor.expect(']', "']' after two offsets");
  fields.has_offsets = true;
}

void read_field(JsonCursor& cursor, Fields& fields) {
  const JsonString key = cursor.string("a key");
  cursor.expect(':', "':' after a key");
  const auto once = [&](bool before) {
    if (before) cursor.fail(key.text(), " occurs twice");
  };
  if (key.is("dtype")) {
    once(fields.dtype != nullptr);
    fields.dtype = read_dtype(cursor);
  } else if (key.is("shape")) {
    once(fields.shape_at != 0);
    read_extents(cursor, fields);
  } else if (key.is("data_offsets")) {
    once(fields.has_offsets);
    read_offsets(cursor, fields);
  } else {
    cursor.skip_value(2);
  }
}

// Bytes the tensor takes.
std::uint64_t bytes_of(const JsonCursor& cursor, const Fields& fields) {
  const unsigned bits = fields.dtype->bits;
  if (fields.elements > kMost / bits)
    cursor.fail("its ", fields.elements, " elements of ", bits, " bits pass 2^64 bits");
  const std::uint64_t total = fields.elements * bits;
  if (total % 8 != 0) {
    cursor.fail("got ", fields.elements, " elements of ", bits, " bits (", fields.dtype->tag,
                "), expected whole bytes");
  }
  return total / 8;
}

}  // namespace

Fields read_fields(JsonCursor& cursor) {
  Fields fields;
  if (cursor.take('[')) {
    fields.dtype = read_dtype(cursor);
    cursor.expect(',', "',' and a shape");
    read_extents(cursor, fields);
    cursor.expect(',', "',' and two offsets");
    read_offsets(cursor, fields);
    cursor.expect(']', "']' after dtype, shape and offsets");
    return fields;
  }
  cursor.expect('{', "an entry of dtype, shape and data_offsets");
  if (!cursor.take('}')) {
    do {
      read_field(cursor, fields);
    } while (cursor.take(','));
    cursor.expect('}', "',' or '}' of an entry");
  }
  if (fields.dtype == nullptr) cursor.fail("got no dtype");
  if (fields.shape_at == 0) cursor.fail("got no shape");
  if (!fields.has_offsets) cursor.fail("got no data_offsets");
  return fields;
}

void check_fields(const JsonCursor& cursor, const Fields& fields, std::uint64_t data_bytes) {
  const auto [begin, end] = std::pair(fields.begin, fields.end);
  const std::uint64_t bytes = bytes_of(cursor, fields);
  if (end < begin || end - begin != bytes) {
    cursor.fail("got offsets [", begin, ", ", end, "], expected ", bytes, " bytes for ", fields.elements,
                " elements of ", fields.dtype->tag);
  }
  if (end > data_bytes) {
    cursor.fail("ends at byte ", end, " of ", data_bytes, " bytes of data: the file is truncated, or lies");
  }
}

}  // namespace netassay::io
