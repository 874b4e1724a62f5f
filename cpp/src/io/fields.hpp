#pragma once
/// What one entry of a safetensors header says, and whether it agrees with itself.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "io/json.hpp"

namespace netassay::io {

struct Dtype {
  std::string_view tag;
  unsigned bits;
};

/// The shape stays in the text: it may have millions of axes.
struct Fields {
  const Dtype* dtype = nullptr;
  bool has_offsets = false;
  std::size_t shape_at = 0;  // 0: none
  std::uint64_t elements = 1, begin = 0, end = 0;
};

/// {"dtype": ..., "shape": ..., "data_offsets": ...} in any order among other keys,
/// or their values in a list, in this order.
Fields read_fields(JsonCursor& cursor);

/// Bits in whole bytes, none of it passing 2^64, as many as the offsets say, and no further than the data goes.
void check_fields(const JsonCursor& cursor, const Fields& fields, std::uint64_t data_bytes);

/// Calls use(extent) for each extent of a shape in turn.
template <class Use>
void read_shape(JsonCursor& cursor, Use&& use) {
  cursor.expect('[', "a shape");
  if (cursor.take(']')) return;
  do {
    use(cursor.count("an extent, an integer of [0, 2^64)"));
  } while (cursor.take(','));
  cursor.expect(']', "',' or ']' of a shape");
}

}  // namespace netassay::io
