"""The verbs of the command `netassay`. A verb is one function here; what it needs is imported when it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import netassay
from netassay.cli.options import checkpoint_options, debug, memory, report_files, several, shapes, threads
from netassay.cli.terminal import byte_progress, columns, one_stdout, progress, show, write

_DIRECTORY = click.Path(file_okay=False, path_type=Path)


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
@debug
def group() -> None:
    """What is a neural network really doing with its layers?"""


@group.command()
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True, help="Passes over the digits.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("-o", "--output", "directory", type=_DIRECTORY, default=".", help="Where the report goes.  [.]")
@click.option("--json", "json_path", metavar="FILE", help="The report's own path; - is standard output.")
@debug
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
    with progress() as track:
        outcome = run(epochs=epochs, seed=seed, track=track)
    click.echo(str(outcome), err=to_stdout)
    if to_stdout:
        from netassay.report.encode import dumps

        click.echo(dumps(outcome.report.to_dict()), nl=False)
    else:
        outcome.report.to_json(target)
        click.echo(f"\nwrote {target}")


@group.command()
@checkpoint_options
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
    callback=several,
    metavar="NAMES",
    help="Layers in the order of the forward pass, a,b,c, for deep graph persistence; may be repeated.",
)
@report_files("report")
@debug
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
    one_stdout(json_path, csv_path)
    from netassay.verbs.weights import Interrupted, NonFiniteWeights, measure_weights

    for path in (json_path, csv_path):
        if path not in (None, "-"):  # a place that cannot be written to is known before the work, not after
            Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        with byte_progress() as track:
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
        show(error.report, json_path, csv_path)
        raise
    show(report, json_path, csv_path)


@group.command()
@checkpoint_options
@debug
def plan(
    checkpoint: Path, layers: tuple[str, ...], threads: int | None, memory: float | None, measures: tuple[str, ...]
) -> None:
    """Say what `weights` would measure, skip and take.

    The weights are not read. Time is a range, from a calibration of a fraction of a second.
    """
    from netassay.verbs.plan import plan

    planned = plan(checkpoint, measures=measures, layers=layers or "*", threads=threads, memory=memory)
    click.echo(planned.render(columns(sys.stdout)))


@group.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--measures",
    multiple=True,
    callback=several,
    metavar="NAMES",
    help="With a comma between; may be repeated.  [all that both have]",
)
@threads
@memory
@click.option("--nonfinite", type=click.Choice(["raise", "skip"]), default="raise", show_default=True)
@click.option("--rank", is_flag=True, help="The rank of every change, also of one wider than 1024.")
@report_files("comparison")
@debug
def compare(
    a: Path,
    b: Path,
    measures: tuple[str, ...] | None,
    threads: int | None,
    memory: float | None,
    nonfinite: str,
    rank: bool,
    json_path: str | None,
    csv_path: str | None,
) -> None:
    """Compare two networks, layer by layer.

    A and B are reports (.json, as --json writes them) or checkpoints, as `weights` takes them. Prints every layer that
    both have with what changed from A to B, and which layers only one has, or under another name or of another shape.
    """
    one_stdout(json_path, csv_path)
    from netassay.verbs.compare import compare

    with byte_progress() as track:
        found = compare(
            a, b, measures=measures, threads=threads, memory=memory, nonfinite=nonfinite, rank=rank, track=track
        )
    write(found, found.render, found.csv_text, json_path, csv_path)


@group.command()
@click.argument("model", metavar="MODULE:FACTORY")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    callback=shapes,
    metavar="SHAPE",
    help="Such as 1,3,224,224, with its batch axis, or 1,128:int64; once for each argument.",
)
@click.option("--meta", is_flag=True, help="Make the model without its values: any size fits.")
@click.option("--strict", is_flag=True, help="Operations that are not known, and branches on values, are errors.")
@report_files("report")
@debug
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
    one_stdout(json_path, csv_path)
    from netassay.sources.traced.factory import example, made
    from netassay.verbs.structure import measure_structure

    report = measure_structure(made(model, meta=meta), example(inputs), strict=strict)
    show(report, json_path, csv_path)


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
