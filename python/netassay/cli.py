"""The command `netassay`. A verb is one function here; what it needs is imported when it runs.

Exit status: 0; 1 bad input, or measured only in part, one line on standard error (--debug: with traceback); 2 usage;
130 Ctrl-C.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

import netassay

if TYPE_CHECKING:
    from netassay.demo import Track
    from netassay.report import Report
    from netassay.report.compare import Comparison
    from netassay.verbs.weights import Track as ByteTrack

_WEIGHT_MEASURES = ("persistence", "network")
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")


def _print_cmake_dir(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(cmake_dir())
        context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(netassay.__version__, message="%(prog)s %(version)s")
@click.option(
    "--cmake-dir",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_cmake_dir,
    help="Print the directory to give to CMake as CMAKE_PREFIX_PATH, and exit.",
)
@_debug
def group() -> None:
    """What is a neural network really doing with its layers?"""


@group.command()
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the digits.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("-o", "--output", "directory", type=_DIRECTORY, default=".", help="Where the report goes.  [.]")
@click.option("--json", "json_path", metavar="FILE", help="The report's own path; - is standard output.")
@_debug
def demo(epochs: int, seed: int, directory: Path, json_path: str | None) -> None:
    """Train a small network on scikit-learn's digits under watch.

    Prints its accuracy, the table of its layers, and its accuracy with their outputs projected; writes
    netassay-report.json.
    """
    from netassay.demo import run

    to_stdout = json_path == "-"
    target = directory / "netassay-report.json" if json_path is None else Path(json_path)
    if not to_stdout:
        target.parent.mkdir(parents=True, exist_ok=True)
    with _progress() as track:
        outcome = run(epochs=epochs, seed=seed, track=track)
    click.echo(str(outcome), err=to_stdout)
    if to_stdout:
        from netassay.report.encode import dumps

        click.echo(dumps(outcome.report.to_dict()), nl=False)
    else:
        outcome.report.to_json(target)
        click.echo(f"\nwrote {target}")


def _bytes(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    """A count of bytes: 500000000, 500MB, 1.5GB, 2GiB."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(I?))?B?", text.strip().upper())
    if found is None:
        raise click.BadParameter(f"got {text!r}, expected bytes, such as 500000000, 500MB, 1.5GB or 2GiB")
    count, unit, binary = found.groups()
    return float(count) * float(1024 if binary else 1000) ** (1 + "KMGT".index(unit) if unit else 0)


def _shapes(
    context: click.Context, option: click.Parameter, several: tuple[str, ...]
) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Shapes with a type: 1,3,224,224 or 1,128:int64."""
    found = []
    for text in several:
        match = re.fullmatch(r"(\d+(?:[,x]\d+)*)(?::([a-z]+\d*))?", text.replace(" ", ""))
        if match is None or "0" in re.split("[,x]", match[1]):
            raise click.BadParameter(
                f"got {text!r}, expected sizes and perhaps a type, such as 1,3,224,224 or 1,128:int64"
            )
        found.append((tuple(map(int, re.split("[,x]", match[1]))), match[2] or "float32"))
    return tuple(found)


def _measures(context: click.Context, option: click.Parameter, several: tuple[str, ...]) -> tuple[str, ...]:
    """Weight measures, separated by commas or one by one."""
    names = tuple(dict.fromkeys(name.strip() for part in several for name in part.split(",")))
    if unknown := [name for name in names if name not in _WEIGHT_MEASURES]:
        expected = " or ".join(_WEIGHT_MEASURES)
        raise click.BadParameter(f"got {unknown[0]!r}, expected {expected}, or both separated by a comma")
    return names


def _several(context: click.Context, option: click.Parameter, several: tuple[str, ...]) -> tuple[str, ...] | None:
    """Names, separated by commas or one by one; None where there are none."""
    names = tuple(name.strip() for part in several for name in part.split(","))
    if not all(names):
        raise click.BadParameter(f"got {','.join(several)!r}, expected names separated by commas")
    return names or None


def _checkpoint_options(command: Any) -> Any:
    """What the verbs on a checkpoint have in common."""
    for option in (
        click.option(
            "--measures",
            multiple=True,
            callback=_measures,
            default=["persistence"],
            show_default=True,
            metavar="NAMES",
            help="persistence, network, or both with a comma between; may be repeated.",
        ),
        click.option("--memory", callback=_bytes, metavar="BYTES", help="Such as 2GB.  [what is free]"),
        click.option("--threads", type=click.IntRange(1), help="For reading and measuring.  [all]"),
        click.option("--layers", multiple=True, metavar="GLOB", help="By name; !GLOB excludes; may be repeated.  [*]"),
        click.argument("checkpoint", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


@group.command()
@_checkpoint_options
@click.option(
    "--nonfinite",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="What a NaN or an infinity does: fail once the other weights are measured, or leave its tensor out.",
)
@click.option(
    "--chain",
    multiple=True,
    callback=_several,
    metavar="NAMES",
    help="Layers in the order of the forward pass, a,b,c, for deep graph persistence; may be repeated.",
)
@click.option("--json", "json_path", metavar="FILE", help="Write the report as JSON; - is standard output.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write the layers as CSV; - is standard output.")
@_debug
def weights(
    checkpoint: Path,
    layers: tuple[str, ...],
    threads: int | None,
    memory: float | None,
    measures: tuple[str, ...],
    nonfinite: str,
    chain: tuple[str, ...] | None,
    json_path: str | None,
    csv_path: str | None,
) -> None:
    """Measure the weights of a checkpoint.

    CHECKPOINT is a .safetensors, .pt, .pth, .th or .bin file, or a directory or index.json of shards. Prints one line
    per weight matrix and measure, the network's values, and what was left out and why. Ctrl-C keeps and shows what is
    finished.
    """
    _one_stdout(json_path, csv_path)
    from netassay.verbs.weights import Interrupted, NonFiniteWeights, measure_weights

    for path in (json_path, csv_path):
        if path not in (None, "-"):  # a place that cannot be written to is known before the work, not after
            Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with _byte_progress() as track:
            report = measure_weights(
                checkpoint,
                measures=measures,
                layers=layers or "*",
                threads=threads,
                memory=memory,
                nonfinite=nonfinite,
                chain=chain,
                track=track,
            )
    except (Interrupted, NonFiniteWeights) as error:
        _show(error.report, json_path, csv_path)
        raise
    _show(report, json_path, csv_path)


@group.command()
@_checkpoint_options
@_debug
def plan(
    checkpoint: Path, layers: tuple[str, ...], threads: int | None, memory: float | None, measures: tuple[str, ...]
) -> None:
    """Say what `weights` would measure, skip and take.

    The weights are not read. Time is a range, from a calibration of a fraction of a second.
    """
    from netassay.verbs.plan import plan

    planned = plan(checkpoint, measures=measures, layers=layers or "*", threads=threads, memory=memory)
    click.echo(planned.render(_columns(sys.stdout)))


@group.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--measures",
    multiple=True,
    callback=_several,
    metavar="NAMES",
    help="With a comma between; may be repeated.  [all that both have]",
)
@click.option("--threads", type=click.IntRange(1), help="For reading and measuring.  [all]")
@click.option("--memory", callback=_bytes, metavar="BYTES", help="Such as 2GB.  [what is free]")
@click.option("--nonfinite", type=click.Choice(["raise", "skip"]), default="raise", show_default=True)
@click.option("--json", "json_path", metavar="FILE", help="Write the comparison as JSON; - is standard output.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write the layers as CSV; - is standard output.")
@_debug
def compare(
    a: Path,
    b: Path,
    measures: tuple[str, ...] | None,
    threads: int | None,
    memory: float | None,
    nonfinite: str,
    json_path: str | None,
    csv_path: str | None,
) -> None:
    """Compare two networks, layer by layer.

    A and B are reports (.json, as --json writes them) or checkpoints, as `weights` takes them. Prints every layer that
    both have with what changed from A to B, and which layers only one has, or under another name or of another shape.
    """
    _one_stdout(json_path, csv_path)
    from netassay.verbs.compare import compare

    with _byte_progress() as track:
        found = compare(a, b, measures=measures, threads=threads, memory=memory, nonfinite=nonfinite, track=track)
    _write(found, found.render, found.csv_text, json_path, csv_path)


@group.command()
@click.argument("model", metavar="MODULE:FACTORY")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    callback=_shapes,
    metavar="SHAPE",
    help="Such as 1,3,224,224, with its batch axis, or 1,128:int64; once for each argument.",
)
@click.option("--meta", is_flag=True, help="Make the model without its values: any size fits.")
@click.option("--strict", is_flag=True, help="Operations that are not known, and branches on values, are errors.")
@click.option("--json", "json_path", metavar="FILE", help="Write the report as JSON; - is standard output.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write the layers as CSV; - is standard output.")
@_debug
def structure(
    model: str,
    inputs: tuple[tuple[tuple[int, ...], str], ...],
    meta: bool,
    strict: bool,
    json_path: str | None,
    csv_path: str | None,
) -> None:
    """Measure what the structure of a model alone says.

    FACTORY, in a MODULE that can be imported from here, is called for a torch.nn.Module, or is one. Prints one line per
    operation, the network's path counts, bounds and cost. Nothing is trained or computed.
    """
    _one_stdout(json_path, csv_path)
    from netassay.sources.traced.factory import example, made
    from netassay.verbs.structure import measure_structure

    report = measure_structure(made(model, meta=meta), example(inputs), strict=strict)
    _show(report, json_path, csv_path)


def _one_stdout(json_path: str | None, csv_path: str | None) -> None:
    if json_path == csv_path == "-":
        raise click.UsageError("--json and --csv cannot both be standard output")


def _show(report: Report, json_path: str | None, csv_path: str | None) -> None:
    from netassay.report.show.tables import csv_text
    from netassay.report.show.text import render

    _write(report, partial(render, report), lambda: csv_text(report.layers), json_path, csv_path)


def _write(
    found: Report | Comparison,
    render: Callable[[int | None], str],
    csv_text: Callable[[], str],
    json_path: str | None,
    csv_path: str | None,
) -> None:
    """Prints the table, on standard error where standard output is a file's; then writes the files."""
    from netassay.report.encode import dumps

    to_stdout = "-" in (json_path, csv_path)
    click.echo(render(_columns(sys.stderr if to_stdout else sys.stdout)), err=to_stdout)
    for path, text, write in (
        (json_path, lambda: dumps(found.to_dict()), found.to_json),
        (csv_path, csv_text, found.to_csv),
    ):
        if path == "-":
            click.echo(text(), nl=False)
        elif path is not None:
            write(path)
            click.echo(f"\nwrote {path}", err=to_stdout)


def _columns(stream: TextIO) -> int | None:
    """Width of the terminal that a stream is; None where it is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def cmake_dir() -> Path:
    """The prefix under which the C++ headers, library and CMake files are installed.

    Raises FileNotFoundError where the package has none.
    """
    from importlib.util import find_spec

    # An editable install keeps what CMake installs apart from the sources, but always beside the extension.
    spec = find_spec("netassay._core")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("--cmake-dir: the extension netassay._core is not built")
    prefix = Path(spec.origin).parent / "cpp"
    if not (prefix / "lib" / "cmake" / "netassay").is_dir():
        raise FileNotFoundError(f"--cmake-dir: got an install without C++ files, expected them in {prefix}")
    return prefix


@contextmanager
def _progress() -> Iterator[Track]:
    """A bar for every loop, on standard error, where that is a terminal."""
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
def _byte_progress() -> Iterator[ByteTrack | None]:
    """A bar of the bytes read, on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.table import Column

    from netassay.report.show.tables import printable

    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    name = TextColumn("{task.description}", markup=False, table_column=rest)
    columns = (BarColumn(20), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), name)
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bars:
        task = bars.add_task("", total=None)

        def track(tensor: str, done: int, total: int) -> None:
            bars.update(task, description=printable(tensor), completed=done, total=total)

        yield track


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    for stream in (sys.stdout, sys.stderr):
        # a terminal that lacks a character shows its escape, never a traceback
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = group.main(words, prog_name="netassay", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("netassay: interrupted", err=True)
        return 130
    except BrokenPipeError:  # the reader of a pipe has gone; nor can the interpreter flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if "--debug" in words:
            import traceback

            traceback.print_exc()
        else:
            click.echo(f"netassay: {_one_line(error)}", err=True)
        return 1
    return status if isinstance(status, int) else 0


def _one_line(error: Exception) -> str:
    from netassay.base.errors import NetassayError
    from netassay.report.show.tables import printable

    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, NetassayError | OSError):
        text = str(error)
    else:
        text = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
    return printable(" ".join(text.split()))
