"""Which of several named things patterns select: layers of a module, weights of a checkpoint."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from netassay.base.errors import SelectionError

Thing = TypeVar("Thing")

_WILD = "*?["


def choose(
    patterns: object,
    names: Mapping[Thing, Sequence[str]],
    *,
    of: str,
    kind: str,
    matches: Callable[[Any, bool], list[Thing]] | None = None,
    types: bool = False,
) -> list[Thing]:
    """The things that patterns select, in their own order.

    Args:
        patterns: a glob (fnmatch; * crosses dots) or a sequence of them. A leading ! excludes; the last match wins;
            exclusions alone exclude from everything that "*" stands for.
        names: thing -> every name it has.
        of, kind: for messages: what is searched, and what a thing is called ("layer" of "Mlp").
        matches: (pattern without !, whether it excludes) -> things; None: those with a name that the pattern matches.
        types: whether a pattern may be a class.

    Raises:
        SelectionError: a pattern matches nothing, or nothing is left.
    """
    find = matches or (lambda pattern, excludes: named(pattern, names))
    chosen: dict[Thing, bool] = {}
    for pattern in several(patterns, types):
        excludes = isinstance(pattern, str) and pattern.startswith("!")
        found = find(pattern[1:] if excludes else pattern, excludes)
        if not found:
            known = [name for several in names.values() for name in several]
            near = difflib.get_close_matches(str(pattern).lstrip("!"), known, n=1)
            hint = f"; the nearest name is {near[0]!r}" if near else ""
            raise SelectionError(f"layers: got {pattern!r}, which matches no {kind} of {of}{hint}")
        chosen.update((thing, not excludes) for thing in found)
    left = [thing for thing in names if chosen.get(thing)]
    if not left:
        raise SelectionError(f"layers: {patterns!r} selects no {kind} of {of}")
    return left


class Matcher:
    """Whether patterns select a name that is not known beforehand; as `choose`, but for what matches nothing.

    Args:
        patterns: a glob or a sequence of them. what: names the option in errors.

    Raises:
        SelectionError: no pattern.
    """

    def __init__(self, patterns: object, *, what: str) -> None:
        self.patterns = tuple(several(patterns, types=False, what=what))
        self._known: dict[str, bool] = {}

    def __call__(self, name: str) -> bool:
        if name not in self._known:
            matching = [pattern for pattern in self.patterns if fits(pattern, name)]
            self._known[name] = bool(matching) and not matching[-1].startswith("!")
        return self._known[name]

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Patterns that match no name that has been asked for."""
        asked = tuple(self._known)
        return tuple(pattern for pattern in self.patterns if not any(fits(pattern, name) for name in asked))


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern matches a name, whatever a leading ! says."""
    glob = pattern.removeprefix("!")
    return fnmatch.fnmatchcase(name, glob) if wild(glob) else name == glob


def named(pattern: str, names: Mapping[Thing, Sequence[str]]) -> list[Thing]:
    """The things with a name that one pattern matches; without wildcards it is the name itself."""
    if not wild(pattern):
        return [thing for thing, several in names.items() if pattern in several]
    return [thing for thing, several in names.items() if any(fnmatch.fnmatchcase(name, pattern) for name in several)]


def wild(pattern: str) -> bool:
    """Whether a pattern has wildcards."""
    return any(c in pattern for c in _WILD)


def several(patterns: object, types: bool, what: str = "layers") -> list[Any]:
    """Patterns as a list; "*" comes before exclusions alone. Raises SelectionError: they are none."""
    kinds = (str, type) if types else (str,)
    if isinstance(patterns, kinds):
        patterns = [patterns]
    if isinstance(patterns, Iterable):
        found = list(patterns)
        if found and all(isinstance(pattern, kinds) for pattern in found):
            only_excludes = all(isinstance(p, str) and p.startswith("!") for p in found)
            return ["*", *found] if only_excludes else found
    expected = "a pattern, a module type, or a sequence of them" if types else "a pattern or a sequence of them"
    raise SelectionError(f"{what}: got {patterns!r}, expected {expected}")
