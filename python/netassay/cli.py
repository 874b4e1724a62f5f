"""The command `netassay`. A verb is one function here; what it needs is imported when it runs.

Exit status: 0; 1 bad input, one line on standard error (--debug: with traceback); 2 usage; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import netassay

if TYPE_CHECKING:
    from netassay.demo import Track

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
        from netassay.report.serial import dumps

        click.echo(dumps(outcome.report.to_dict()), nl=False)
    else:
        outcome.report.to_json(target)
        click.echo(f"\nwrote {target}")


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
    from netassay.report.tables import printable

    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, NetassayError | OSError):
        text = str(error)
    else:
        text = f"unexpected {type(error).__name__}: {error} (--debug shows where)"
    return printable(" ".join(text.split()))
