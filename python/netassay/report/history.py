"""History: reports of one network at several steps, and how its numbers change from one to the next."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from numbers import Integral, Real
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

from netassay.report.report import Report
from netassay.report.scalars import numbers, several_calls

if TYPE_CHECKING:
    import numpy as np
    import pandas
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from netassay.complexity import Growth

SCHEMA = "netassay.history/1"


class Series(NamedTuple):
    """One quantity against the steps at which it was measured."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


class History:
    """Reports at steps that rise, as `watch.snapshot` keeps them.

    A quantity is named as the numbers of a report are: one of the whole network by its place in `totals`,
    "complexity.eval.mean_position"; one of a layer by its row, its measure and its field,
    "relu1/eval/complexity.mean_channel", with the number of the call where some report has several of them,
    "relu/1/eval/...". `quantities` lists them all.
    """

    def __init__(self) -> None:
        self._steps: list[float] = []
        self._reports: list[Report] = []
        self._numbers: list[dict[str, float]] = []
        self._several: frozenset[str] = frozenset()  # names of which some report has several calls

    def append(self, step: float, report: Report) -> None:
        """Adds a report.

        Raises:
            DomainError: a step that is no number, or is not above the last one. TypeError: no report.
        """
        from netassay.base.errors import DomainError

        number = _plain(step)
        if number is None or (self._steps and number <= self._steps[-1]):
            last = f" above the last one, {self._steps[-1]:g}" if self._steps else ""
            raise DomainError(f"History.append: got step {step!r}, expected a number{last}")
        if not isinstance(report, Report):
            raise TypeError(f"History.append: got {type(report).__name__}, expected a Report")
        several = self._several | several_calls(report.layers)
        reports = [*self._reports, report]
        anew = reports if several != self._several else [report]
        made = [dict(numbers(one.layers, one.totals, several)) for one in anew]
        self._steps.append(number)
        self._reports, self._several = reports, several
        self._numbers = made if anew is reports else [*self._numbers, *made]

    def __len__(self) -> int:
        return len(self._steps)

    def __iter__(self) -> Iterator[tuple[float, Report]]:
        return iter(zip(self._steps, self._reports, strict=True))

    @property
    def steps(self) -> tuple[float, ...]:
        """Rising."""
        return tuple(self._steps)

    @property
    def quantities(self) -> tuple[str, ...]:
        """Every number that some report has, in order of first appearance."""
        return tuple(dict.fromkeys(name for numbers in self._numbers for name in numbers))

    def __getitem__(self, quantity: str) -> Series:
        """The steps at which a quantity has a value, and its values. Raises SelectionError: there is no such one."""
        import numpy as np

        from netassay.base.errors import SelectionError

        held = [
            (step, numbers[quantity])
            for step, numbers in zip(self._steps, self._numbers, strict=True)
            if quantity in numbers
        ]
        if not held:
            raise SelectionError(self._unknown(quantity))
        steps, values = zip(*held, strict=True)
        return Series(np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64))

    def _unknown(self, quantity: object) -> str:
        import difflib

        if not self._numbers:
            return f"History: got {quantity!r}, but no snapshot has been taken"
        near = difflib.get_close_matches(str(quantity), self.quantities, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        return f"History: got {quantity!r}, expected one of the {len(self.quantities)} in history.quantities{hint}"

    def power_law(self, quantity: str, window: tuple[float, float] | None = None) -> Growth:
        """How a quantity grows with the step: as a power of it, or towards a limit.

        See `netassay.complexity.growth`.

        Args:
            window: (first, last) step that is looked at; None: all above 0.
        """
        from netassay.complexity import growth

        steps, values = self[quantity]
        return growth(steps, values, window=window)

    def to_frame(self) -> pandas.DataFrame:
        """One line per step, one column per quantity; absent where a report has no such number.

        Raises ImportError without pandas.
        """
        try:
            import pandas
        except ImportError as error:
            raise ImportError("History.to_frame: expected pandas to be installed (pip install pandas)") from error
        index = pandas.Index(self._steps, name="step")
        return pandas.DataFrame(self._numbers, index=index, columns=list(self.quantities), dtype="float64")

    def plot(self, *quantities: str, ax: Axes | None = None) -> Axes:
        """Draws quantities against the step, one line each; none named: those of the whole network.

        Raises ImportError without matplotlib; SelectionError: there is no such quantity.
        """
        from netassay.base.errors import SelectionError

        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            expected = "expected matplotlib to be installed (pip install 'netassay[report]')"
            raise ImportError(f"History.plot: {expected}") from error
        chosen = quantities or tuple(name for name in self.quantities if "/" not in name)
        lines = {name: self[name] for name in chosen}
        if not lines:
            raise SelectionError(self._unknown("a quantity of the whole network"))
        axes = Figure(layout="constrained").subplots() if ax is None else ax
        for name, (steps, values) in lines.items():
            axes.plot(steps, values, marker="o", markersize=3, label=name)
        axes.set_xlabel("step")
        if len(lines) == 1:
            axes.set_ylabel(next(iter(lines)))
        else:
            axes.legend(fontsize="small")
        return axes

    def to_json(self, path: str | PathLike[str]) -> None:
        """Writes every step and its report as strict JSON, whole or not at all."""
        from netassay.base import files

        files.write(path, [self.dumps()])

    def dumps(self) -> bytes:
        """What `to_json` writes."""
        from netassay.report.encode import dumps

        snapshots = [{"step": step, "report": report.to_dict()} for step, report in self]
        return dumps({"schema": SCHEMA, "snapshots": snapshots})

    @classmethod
    def load(cls, path: str | PathLike[str]) -> History:
        """What `to_json` wrote. Raises FileNotFoundError; StateError where the file is no history."""
        from pathlib import Path

        return cls.loads(Path(path).read_bytes(), str(path))

    @classmethod
    def loads(cls, content: bytes, path: str) -> History:
        """What `dumps` made; `path` is for messages. Raises StateError where it is no history."""
        from netassay.base.errors import StateError

        history = cls()
        try:
            parsed = json.loads(content)
            if parsed["schema"] != SCHEMA:
                raise ValueError(f"got schema {parsed['schema']!r}, expected {SCHEMA!r}")
            for snapshot in parsed["snapshots"]:
                history.append(snapshot["step"], Report.from_dict(snapshot["report"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateError(f"History.load: {path}: {error}") from error
        return history

    def __repr__(self) -> str:
        span = f", steps {self._steps[0]:g} to {self._steps[-1]:g}" if self._steps else ""
        return f"<History: {len(self)} snapshots{span}>"


def _plain(step: object) -> float | None:
    """A finite number as JSON can hold it, or None; numpy's are numbers too."""
    if isinstance(step, bool) or not isinstance(step, Real):
        return None
    try:
        number = int(step) if isinstance(step, Integral) else float(step)
        return number if math.isfinite(number) else None
    except OverflowError:
        return None
