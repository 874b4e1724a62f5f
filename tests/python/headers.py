"""Safetensors files that are valid or nearly so: a valid layout, in any notation JSON has for it, with a few faults."""

from __future__ import annotations

import json
import math
import struct
from random import Random
from typing import Any

BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("C64", "F64", "I64", "U64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}
NAMES = ["a", "b", "layer.0.weight", "", "ä", "😀", "\x7f", "a\x00", '"', "\\", "dtype", "__metadata_", "x" * 70]
EXTENTS = [0, 1, 1, 2, 2, 3, 4, 5, 7, 8, 16]
EDGES = [2**32 - 1, 2**32, 2**32 + 1, 2**53 + 1, 2**61, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 10**30]
#: Numbers next to what a double holds, and ways to write them.
NUMBERS = [
    "0",
    "-0",
    "1.5",
    "0.0",
    "-1e-9",
    "1E5",
    "1e+5",
    "1e308",
    "1.7976931348623157e308",
    "1e-400",
    "0e999",
    "7e-99999999999",
]
WRONG_NUMBERS = [
    "1e309",
    "1.7976931348623158e308",
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1e",
    "1e99999999999",
    "NaN",
    "0x1",
    "1_0",
]
WRONG_STRINGS = ['"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"\\v"', '"\\u12"', '"\t"', '"', "'a'", '"\\"']


class Maker:
    """Draws a file. fault: how probably a piece of its text is wrong; slip: the same for a number of its layout."""

    def __init__(self, random: Random) -> None:
        self.r = random
        self.fault = random.choice([0.0, 0.0, 0.004, 0.02, 0.1])
        self.slip = random.choice([0.0, 0.0, 0.05, 0.3])

    def wrong(self) -> bool:
        return self.fault > 0 and self.r.random() < self.fault

    def slips(self) -> bool:
        return self.slip > 0 and self.r.random() < self.slip

    def rarely(self, share: float) -> bool:
        return self.r.random() < share

    # ---- notation ----

    def space(self) -> str:
        if not self.rarely(0.1):
            return ""
        return self.r.choice(["\x0b", "\xa0", "\x00", "\ufeff"] if self.wrong() else [" ", "\t", "\n", "\r\n", "  "])

    def count(self, n: int) -> str:
        if not self.wrong():
            return str(n)
        edge = str(self.r.choice(EDGES))
        near = [str(n + 1), str(max(n - 1, 0)), str(n + 2**64)]
        odd = [f"{n}.0", f"{n}e0", f"-{n}", f"0{n}", f"+{n}", f'"{n}"', f"[{n}]", "null", "true", ""]
        return self.r.choice([edge, *near, *odd])

    def text(self, s: str) -> str:
        if self.wrong():
            return self.r.choice(WRONG_STRINGS)
        if not self.rarely(0.15):
            return json.dumps(s, ensure_ascii=self.rarely(0.5))
        out = ""
        for c in s:
            if self.rarely(0.5):
                units = struct.unpack(f"<{len(c.encode('utf-16-le')) // 2}H", c.encode("utf-16-le"))
                out += "".join(self.r.choice(["\\u{:04x}", "\\u{:04X}"]).format(u) for u in units)
            else:
                out += json.dumps(c, ensure_ascii=False)[1:-1]
        return f'"{out}"'

    def listed(self, parts: list[str], brackets: str) -> str:
        comma = lambda: self.space() + (self.r.choice(["", ",,", ";"]) if self.wrong() else ",") + self.space()  # noqa: E731
        inside = "".join(part if i == 0 else comma() + part for i, part in enumerate(parts))
        if self.wrong():
            inside += self.r.choice([",", "]", "}", " 1"])
        return brackets[0] + self.space() + inside + self.space() + brackets[1]

    def pair(self, key: str, value: str) -> str:
        return key + self.space() + ("" if self.wrong() else ":") + self.space() + value

    def anything(self, depth: int = 0) -> str:
        if self.rarely(0.02):
            deep = self.r.choice([3, 124, 125, 126, 127, 128, 4000])
            opened, closed = self.r.choice([("[", "]"), ('{"":', "}")])
            return opened * deep + "0" + closed * deep
        kind = self.r.randrange(8 if depth < 3 else 6)
        if kind == 7:
            return self.listed([self.anything(depth + 1) for _ in range(self.r.randrange(3))], "[]")
        if kind == 6:
            pairs = [
                self.pair(self.text(self.r.choice("ab")), self.anything(depth + 1)) for _ in range(self.r.randrange(3))
            ]
            return self.listed(pairs, "{}")
        if kind < 2:
            return self.r.choice(WRONG_NUMBERS if self.wrong() else NUMBERS)
        if kind == 2:
            return str(self.r.choice(EDGES)) + self.r.choice(
                ["", ".5", "e3", "e280", "e289", "e290", "0" * 280, "0" * 310]
            )
        return (
            self.text(self.r.choice(NAMES))
            if kind < 5
            else self.r.choice(["true", "false", "null", "nul"][: 4 if self.wrong() else 3])
        )

    # ---- layout ----

    def shape(self, bits: int) -> list[int]:
        shape = [self.r.choice(EXTENTS) for _ in range(self.r.choice([0, 1, 1, 2, 2, 3]))]
        if bits < 8 and not self.slips():
            shape = [*shape, 8]
        if self.rarely(0.03):
            shape = [0, *self.r.sample(EDGES, 2)] if self.rarely(0.5) else [*self.r.sample(EDGES, 2), 0]
        if self.slips():
            shape = self.r.choice(
                [[2**32 - 1, 2**32 + 1], [2**63, 2], [2**32, 2**32], [2**64], [3, 2**32 + 1, 2**32 - 1, 2**32]]
            )
        return shape

    def offsets(self, begin: int, end: int) -> tuple[int, int]:
        if not self.slips():
            return begin, end
        step = self.r.choice([1, -1, 2, 4, 8])
        moved = [(begin + step, end + step), (begin, end + step), (begin + step, end), (end, begin), (0, end - begin)]
        return self.r.choice([pair for pair in moved if min(pair) >= 0])

    def entry(self, tag: str, shape: list[int], begin: int, end: int) -> str:
        dtype = self.text(tag) if not self.wrong() else self.r.choice(['"f32"', "0", "null", "[]", '"F8"', '""'])
        if self.rarely(0.05):
            dtype = "{" + self.pair(dtype, self.anything() if self.wrong() else "null") + "}"
        begin, end = self.offsets(begin, end)
        extents = self.listed([self.count(n) for n in shape], "[]")
        both = self.listed([self.count(begin), self.count(end), *(["1"] if self.wrong() else [])], "[]")
        if self.rarely(0.1):
            values = [dtype, extents, both]
            return self.listed(values[: self.r.randrange(3)] if self.wrong() else values, "[]")
        pairs = [("dtype", dtype), ("shape", extents), ("data_offsets", both)]
        if self.wrong():
            pairs.append(self.r.choice(pairs))
        if self.wrong():
            del pairs[self.r.randrange(len(pairs))]
        pairs += [
            (self.r.choice(["more", "x", "Shape"]), self.anything()) for _ in range(self.r.choice([0, 0, 0, 0, 1, 2]))
        ]
        self.r.shuffle(pairs)
        return self.listed([self.pair(self.text(key), value) for key, value in pairs], "{}")

    def metadata(self) -> str:
        if self.wrong():
            return self.anything()
        if self.rarely(0.3):
            return "null"
        pairs = [
            self.pair(self.text(self.r.choice(NAMES)), self.text(self.r.choice(NAMES)))
            for _ in range(self.r.randrange(4))
        ]
        return self.listed(pairs, "{}")

    def header(self) -> tuple[str, int]:
        """(text, bytes of data)"""
        names = self.r.sample(NAMES, self.r.choice([0, 1, 1, 2, 3, 5]))
        if self.slips() and names:
            names.append(names[0])
        parts, end = [], 0
        for name in names:
            tag = self.r.choice(list(BITS))
            shape = self.shape(BITS[tag])
            size = math.prod(shape) * BITS[tag] // 8
            if self.slips():  # a hole or an overlap
                end = max(0, end + self.r.choice([-8, -1, 1, 4]))
            begin, end = end, end + (size if size < 2**20 else 0)
            parts.append(self.pair(self.text(name), self.entry(tag, shape, begin, begin + size)))
        self.r.shuffle(parts)
        for _ in range(self.r.choice([0, 0, 0, 1, 2] if self.wrong() else [0, 0, 1])):
            parts.insert(self.r.randrange(len(parts) + 1), self.pair(self.text("__metadata__"), self.metadata()))
        return self.space() + self.listed(parts, "{}") + self.space(), end

    def file(self) -> bytes:
        text, size = self.header()
        raw = text.encode("utf-8", "surrogatepass")
        if self.wrong() and raw:
            at = self.r.randrange(len(raw))
            raw = (
                raw[:at]
                + self.r.choice([b"", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b'"', b"{", b"\\", b",", b"0"])
                + raw[at + self.r.randrange(2) :]
            )
        length = len(raw)
        if self.wrong():
            length = self.r.choice([length + 1, max(length - 1, 0), 0, length + 2**32, 2**63, 2**64 - 1, 100_000_001])
        if self.slips():
            size = max(0, size + self.r.choice([-1, 1, 8, -8]))
        return struct.pack("<Q", length) + raw + self.r.randbytes(size)


def repeated_names(raw: bytes) -> bool:
    """Whether a tensor name of a file whose header is JSON occurs twice."""
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> None:
        pairs[:] = found  # the outermost object is the last to be read

    (length,) = struct.unpack("<Q", raw[:8])
    json.loads(raw[8 : 8 + length], object_pairs_hook=keep)
    names = [name for name, _ in pairs if name != "__metadata__"]
    return len(set(names)) < len(names)
