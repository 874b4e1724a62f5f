"""Every C++ file includes the standard headers of the names that it uses, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(path for folder in ("cpp", "tests") for path in (ROOT / folder).rglob("*.[ch]pp"))

#: The names that each header is included for. A name of several headers may come from any of them.
NAMES = {
    "algorithm": """all_of any_of clamp copy copy_if copy_n count count_if equal fill fill_n find find_if find_if_not
        is_sorted max max_element min minmax nth_element partition_point replace reverse shuffle sort stable_sort
        transform upper_bound""",
    "array": "array size tuple_size_v",
    "atomic": "atomic memory_order_relaxed",
    "bit": "bit_cast bit_width countl_zero countr_zero rotl",
    "charconv": "from_chars",
    "chrono": "chrono",
    "cmath": """abs ceil erfc exp exp2 ilogb isfinite isnan ldexp lgamma log log1p log2 nan pow signbit sqrt""",
    "compare": "strong_ordering",
    "csignal": "signal",
    "cstddef": "byte ptrdiff_t size_t",
    "cstdint": "int16_t int32_t int64_t int8_t uint16_t uint32_t uint64_t uint8_t",
    "cstdio": "FILE fclose fflush fprintf fputc printf setvbuf tmpfile",
    "cstdlib": "abort abs atoi getenv strtoul",
    "cstring": "memchr memcmp memcpy memmove memset strerror strlen",
    "deque": "deque",
    "exception": "current_exception exception exception_ptr rethrow_exception",
    "functional": "function greater invoke plus",
    "initializer_list": "initializer_list",
    "iterator": "back_inserter size",
    "limits": "numeric_limits",
    "memory": "make_unique make_unique_for_overwrite unique_ptr",
    "mutex": "defer_lock lock lock_guard mutex unique_lock",
    "new": "align_val_t bad_alloc",
    "numbers": "numbers",
    "numeric": "accumulate iota partial_sum",
    "optional": "nullopt optional",
    "random": "lognormal_distribution minstd_rand mt19937 mt19937_64 normal_distribution random_device",
    "set": "set",
    "span": "size span",
    "sstream": "ostringstream",
    "stdexcept": "out_of_range runtime_error",
    "string": "size stoll string to_string",
    "string_view": "size string_view",
    "tuple": "tuple tuple_size_v",
    "type_traits": "conditional_t is_integral_v is_same_v is_signed_v is_unsigned_v",
    "utility": "exchange forward move pair swap tuple_size_v",
    "variant": "variant visit",
    "vector": "size vector",
}
HEADERS: dict[str, set[str]] = {}
for header, names in NAMES.items():
    for name in names.split():
        HEADERS.setdefault(name, set()).add(header)


@cache
def read(path: Path) -> tuple[set[str], set[str]]:
    """Returns what a file includes and the standard names in its code, without comments and texts."""
    text = path.read_text(encoding="utf-8")
    included = set(re.findall(r'^#include [<"]([^>"]+)[>"]', text, re.MULTILINE))
    code = re.sub(r'//[^\n]*|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"', "", text, flags=re.DOTALL)
    return included, set(re.findall(r"(?<![:\w])std::(\w+)", code))


def own_header(path: Path) -> Path | None:
    """Returns the header of a source's own name, where the source includes it."""
    named = (h for h in read(path)[0] if path.suffix == ".cpp" and Path(h).stem == path.stem)
    return next((p for h in named for p in (ROOT / "cpp/include" / h, ROOT / "cpp/src" / h) if p.exists()), None)


def wrong(path: Path) -> Iterator[str]:
    included, names = read(path)
    own = own_header(path)
    there = included | (read(own)[0] if own else set())
    for name in sorted(names - HEADERS.keys()):
        yield f"std::{name} is in no line of NAMES: add it to the line of its header"
    for name in sorted(names & HEADERS.keys()):
        if not HEADERS[name] & there:
            yield f"std::{name} needs <{'> or <'.join(sorted(HEADERS[name]))}>"
    for header in sorted(included & NAMES.keys()):
        if not names & set(NAMES[header].split()):
            yield f"<{header}> is not used"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_includes_the_standard_headers_of_its_names(path: Path) -> None:
    assert list(wrong(path)) == []


def test_a_missing_and_an_unused_header_are_found(tmp_path: Path) -> None:
    path = tmp_path / "planted.cpp"
    code = 'std::vector<int> a = std::move(b), "std::set";  // std::string'
    path.write_text(f"#include <vector>\n#include <array>\n{code}\n", encoding="utf-8")
    assert list(wrong(path)) == ["std::move needs <utility>", "<array> is not used"]
