"""Names and paths in messages: whatever a file's author wrote, printed as text that no terminal obeys."""

from __future__ import annotations

import os
from collections.abc import Iterable


def printable(text: str) -> str:
    r"""The text with characters that do not print (controls, bidi marks, lone surrogates) as \x1b, \n, ..."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(name: str, most: int = 96) -> str:
    """A name as a message may have it: a file's names are whatever its author wrote.

    A name that does not print is escaped as a whole, other alphabets too; a long one is cut.
    """
    plain = name if name.isprintable() else name.encode("unicode_escape", "replace").decode("ascii")
    return plain if len(plain) <= most else f"{plain[:most]}..."


def listed(names: Iterable[str], most: int = 5) -> str:
    """The first of several names, and how many more there are."""
    several = [shown(name) for name in names]
    more = f" and {len(several) - most} more" if len(several) > most else ""
    return ", ".join(several[:most]) + more


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path for messages: always encodable text, what is no text in it escaped."""
    return os.fsdecode(path).encode(errors="backslashreplace").decode()
