"""The options that several verbs have, and how the words of the command line become values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

Option: TypeAlias = Callable[[Any], Any]

debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")


def byte_count(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """Reads a count of bytes: 500000000, 500MB, 1.5GB, 2GiB."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?))?B?", text.strip().upper())
    if found is None:
        raise click.BadParameter(f"got {text!r}, expected bytes, such as 500000000, 500MB, 1.5GB or 2GiB")
    count, unit, binary = found.groups()
    return float(count) * float(1024 if binary else 1000) ** (1 + "KMGT".index(unit) if unit else 0)


def shapes(
    context: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Reads shapes with a type: 1,3,224,224 or 1,128:int64."""
    found = []
    for text in given:
        match = re.fullmatch(r"(\d+(?:[,x]\d+)*)(?::([a-z]+\d*))?", text.replace(" ", ""))
        if match is None or "0" in re.split("[,x]", match[1]):
            raise click.BadParameter(
                f"got {text!r}, expected sizes and perhaps a type, such as 1,3,224,224 or 1,128:int64"
            )
        found.append((tuple(map(int, re.split("[,x]", match[1]))), match[2] or "float32"))
    return tuple(found)


def weight_measures(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Reads measures of weights, separated by commas or one by one."""
    from netassay.verbs.weighing import MEASURES

    names = tuple(dict.fromkeys(name.strip() for part in given for name in part.split(",")))
    if unknown := [name for name in names if name not in MEASURES]:
        expected = " or ".join(MEASURES)
        raise click.BadParameter(f"got {unknown[0]!r}, expected {expected}, or both separated by a comma")
    return names


def several(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...] | None:
    """Reads names, separated by commas or one by one; None if there are no names."""
    names = tuple(name.strip() for part in given for name in part.split(","))
    if not all(names):
        raise click.BadParameter(f"got {','.join(given)!r}, expected names separated by commas")
    return names or None


def _together(*options: Option) -> Option:
    """Makes one decorator of several, which the help lists in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


threads = click.option("--threads", type=click.IntRange(1), help="For reading and measuring.  [all]")
memory = click.option("--memory", callback=byte_count, metavar="BYTES", help="Such as 2GB.  [what is free]")

#: What the verbs on a checkpoint have in common.
checkpoint_options = _together(
    click.argument("checkpoint", type=click.Path(path_type=Path)),
    click.option("--layers", multiple=True, metavar="GLOB", help="By name; !GLOB excludes; may be repeated.  [*]"),
    threads,
    memory,
    click.option(
        "--measures",
        multiple=True,
        callback=weight_measures,
        default=["persistence"],
        show_default=True,
        metavar="NAMES",
        help="persistence, network, or both with a comma between; may be repeated.",
    ),
)


def report_files(what: str) -> Option:
    """Makes the options for what a verb writes: --json as `json_path`, --csv as `csv_path`.

    Args:
        what: the name of what is written, "report" or "comparison".
    """
    return _together(
        click.option("--json", "json_path", metavar="FILE", help=f"Write the {what} as JSON; - is standard output."),
        click.option("--csv", "csv_path", metavar="FILE", help="Write the layers as CSV; - is standard output."),
    )
