#pragma once
/// The header of a safetensors file, checked as a whole before anything is allocated for what it claims.
///
/// File = length n of the header (8 bytes, little-endian) | header, n bytes of JSON in UTF-8 | data.
/// Header = {"__metadata__": {text: text, ...},
///           name: {"dtype": tag, "shape": [...], "data_offsets": [begin, end]}, ...}
///
/// Accepted is what the safetensors package 0.8.0 accepts, spaces around the header, a null __metadata__, further keys
/// of an entry, an entry or a dtype in the other notations of its parser included; tensor names that occur twice, of
/// which the package takes the last, are refused. So after construction:
///   - names are unique; every size is the product of the shape (no intermediate product passes 2^64, in the order
///     written) times the bits of the dtype (below 2^64), in whole bytes, and equals end - begin;
///   - in order of begin the tensors follow each other without hole or overlap, from 0 to the last byte of data.
///
/// Errors: CorruptCheckpoint, with the reason, the tensor and the byte of the header or of the data.
/// Cost: for a header of 100 MB, the longest there may be, at most 1 s and 300 MB, whatever it says. Entries are kept
/// as 16 bytes each beside the text, from which name, dtype and shape are read when they are asked for. Determinism:
/// the same text gives the same answers; the key of the table of names is random and shows nowhere.
///
/// Source: https://github.com/huggingface/safetensors#format, and the behaviour of the package.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "netassay/base/view.hpp"

namespace netassay {

/// One tensor as the header describes it.
struct SafetensorsEntry {
  std::string name;        // UTF-8, may be empty
  std::string_view dtype;  // the format's tag: "F32", "BF16", ...
  std::vector<std::uint64_t> shape;
  std::uint64_t begin, end;  // bytes within the data
};

class SafetensorsHeader {
 public:
  static constexpr std::uint64_t kMaxBytes = 100'000'000;

  /// The length of the header, from the first 8 bytes of a file of `file_bytes` bytes; at most `most`.
  static std::uint64_t length(const unsigned char* first8, std::uint64_t file_bytes, std::uint64_t most = kMaxBytes,
                              const std::string& context = "safetensors");

  /// Checks a header that `data_bytes` bytes of data follow. `context` begins every message: the file, say.
  SafetensorsHeader(std::string text, std::uint64_t data_bytes, const std::string& context = "safetensors");

  index_t size() const { return static_cast<index_t>(slots_.size()); }
  /// The i-th tensor in storage order: by begin, empty ones first, then as the header lists them; 0 <= i < size().
  SafetensorsEntry entry(index_t i) const;
  /// Where the tensor of this name stands in storage order, or -1.
  index_t find(std::string_view name) const;
  /// The pairs of __metadata__ as the header lists them; where a key occurs twice, the last one counts.
  std::vector<std::pair<std::string, std::string>> metadata() const;
  /// Where in the file the data begins.
  std::uint64_t data_begin() const { return 8 + text_.size(); }
  std::uint64_t data_bytes() const { return data_bytes_; }

 private:
  struct Slot {
    std::uint64_t begin;
    std::uint32_t at;     // of the name in the text
    std::uint32_t bytes;  // at most kLong, which stands for that and more
  };
  static constexpr std::uint32_t kLong = 0xffffffff;

  void read_entries(const std::string& context);
  void sort_slots();
  void check_layout(const std::string& context);
  void index_names(const std::string& context);
  void index_name(std::uint32_t at, std::uint64_t hash, const std::string& context);

  std::string text_;
  std::uint64_t data_bytes_;
  std::uint32_t metadata_at_ = 0;  // 0: there is none
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> names_;  // open addressing, twice as many places as names: part of the hash | at; 0: free
};

/// Reads and checks the header of an open regular file, by position.
/// Raises CorruptCheckpoint; FileError as the system gives it.
SafetensorsHeader read_safetensors_header(int file, std::uint64_t most = SafetensorsHeader::kMaxBytes,
                                          const std::string& context = "safetensors");

}  // namespace netassay
