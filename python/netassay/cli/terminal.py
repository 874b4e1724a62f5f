"""Where the verbs write: tables on standard output, files, and progress on standard error."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from netassay.demo import Track
    from netassay.report import Report
    from netassay.report.compare import Comparison
    from netassay.verbs.weights import Track as ByteTrack


def one_stdout(json_path: str | None, csv_path: str | None) -> None:
    """Refuses two files on one standard output. Raises click.UsageError."""
    if json_path == csv_path == "-":
        raise click.UsageError("--json and --csv cannot both be standard output")


def show(report: Report, json_path: str | None, csv_path: str | None) -> None:
    """Prints a report and writes its files, as `write` does."""
    from netassay.report.show.tables import csv_text
    from netassay.report.show.text import render

    write(report, partial(render, report), lambda: csv_text(report.layers), json_path, csv_path)


def write(
    found: Report | Comparison,
    render: Callable[[int | None], str],
    csv_text: Callable[[], str],
    json_path: str | None,
    csv_path: str | None,
) -> None:
    """Prints the table, then writes the files. The table goes to standard error if standard output is a file's."""
    from netassay.report.encode import dumps

    to_stdout = "-" in (json_path, csv_path)
    click.echo(render(columns(sys.stderr if to_stdout else sys.stdout)), err=to_stdout)
    for path, text, save in (
        (json_path, lambda: dumps(found.to_dict()), found.to_json),
        (csv_path, csv_text, found.to_csv),
    ):
        if path == "-":
            click.echo(text(), nl=False)
        elif path is not None:
            save(path)
            click.echo(f"\nwrote {path}", err=to_stdout)


def columns(stream: TextIO) -> int | None:
    """Returns the width of a stream that is a terminal, None for any other stream."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


@contextmanager
def progress() -> Iterator[Track]:
    """Shows a bar for every loop on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda items, label: items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:

        def track(items: Iterable[Any], label: str) -> Iterable[Any]:
            return bars.track(items, description=label)

        yield track


@contextmanager
def byte_progress() -> Iterator[ByteTrack | None]:
    """Shows a bar of the bytes read on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.table import Column

    from netassay.base.text import printable

    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    name = TextColumn("{task.description}", markup=False, table_column=rest)
    parts = (BarColumn(20), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), name)
    with Progress(*parts, console=Console(stderr=True), transient=True, expand=True) as bars:
        task = bars.add_task("", total=None)

        def track(tensor: str, done: int, total: int) -> None:
            bars.update(task, description=printable(tensor), completed=done, total=total)

        yield track
