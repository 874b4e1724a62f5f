"""The laws of every mergeable state, whatever it counts: one list of states, one list of laws.

A new `State` is a line in KINDS. What only one state promises is tested in its own file.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netassay as na
from netassay.base.errors import DomainError, DTypeError, StateError
from netassay.base.state import State
from netassay.complexity import Switching
from netassay.network import Distribution
from python import moments as of_moments
from python import switching as of_switching
from python.distributions import near as near_distributions
from python.full import count
from python.moments import run_alone

pytestmark = pytest.mark.native

Data = tuple[Any, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A state with its options, and what the laws have to know of it."""

    make: Callable[[], Any]
    #: Samples along the first axis, from a number of them and a seed: as they are given, and in float64.
    data: Callable[[int, int], Data]
    #: Whether a state is another one, both of these values, within the rounding of what is summed in floats.
    near: Callable[[Any, Any, np.ndarray], None]
    #: Whether boundaries between batches change no bit.
    exact: bool = True
    #: Numbers of samples at which the state keeps them otherwise.
    sizes: tuple[int, ...] = (0, 1, 2, 17)


def of_classes(x: Any) -> np.ndarray:
    """Labels 0 and 1 that the samples themselves decide."""
    return (np.asarray(x).reshape(len(x), -1)[:, 0] > 0).astype(int)


def feed(state: Any, *batches: Any, threads: int | None = None) -> Any:
    for x in batches:
        if len(x):
            labels = {"labels": of_classes(x)} if state.config().get("classes") else {}
            state.update(x, threads=threads, **labels)
    return state


def look(state: State) -> Any:
    """All that a state holds, bit for bit."""
    if isinstance(state, na.Moments):
        return *of_moments.bits(state), state.samples, state.single
    return state.config(), {name: array.tobytes() for name, array in state.tensors().items()}


def future(kind: Kind, state: State) -> Any:
    """What the state will be after more samples: nothing that matters later may hide from `look`."""
    return look(feed(state.copy(), kind.data(kind.sizes[-1], 99)[0], kind.data(7, 98)[0]))


def assert_same(kind: Kind, a: State, b: State) -> None:
    assert look(a) == look(b)
    assert future(kind, a) == future(kind, b)


def cut(x: Any, points: Sequence[int]) -> list[Any]:
    return [x[a:b] for a, b in pairwise([0, *sorted({p for p in points if 0 < p < len(x)}), len(x)])]


# ---- the states ----


def moments(dtype: str, precision: str = "high", fourth: bool = False, halves: bool = False) -> Kind:
    def data(n: int, seed: int) -> Data:
        x = of_moments.rows(n, 5, seed=seed)
        if n > 1:
            x[n // 2, 1] = np.nan
        return of_moments.typed(x, dtype)

    def near(m: na.Moments, whole: na.Moments, x: np.ndarray) -> None:
        y = x[np.isfinite(x).all(axis=1)]
        y = y - y.mean(axis=0)  # each pivot lies among the rows: |p - m| <= max |y|
        spread = float(np.sum(y * y) + len(y) * np.max(np.sum(y * y, axis=1)))
        of_moments.assert_close(m, x, 4 * of_moments.tolerance(dtype, precision, len(x)), spread)

    make = lambda: na.Moments(5, precision=precision, fourth=fourth, halves=halves)  # noqa: E731
    return Kind(make, data, near, sizes=(0, 1, 5, 1023, 1024, 1500))


def switching(shape: tuple[int, ...] = (4, 5, 6), **options: Any) -> Kind:
    sums = options.get("sums", False)

    def without_sums(state: Switching) -> Any:
        return dataclasses.replace(state.result(), mean=None, variance=None, infinities=None)

    def near(state: Switching, whole: Switching, x: np.ndarray) -> None:
        of_switching.same(without_sums(state), without_sums(whole))
        if sums:
            of_switching.assert_sums(state.result(), x)

    def data(n: int, seed: int) -> Data:
        x = of_switching.numbers((n, *shape), seed)
        return x, x

    return Kind(lambda: Switching(**options), data, near, exact=not sums)


def distribution(dtype: str) -> Kind:
    def data(n: int, seed: int) -> Data:
        x = np.random.default_rng([seed, n]).lognormal(0, 2, (n, 3)).astype(dtype)
        if n > 1:
            x[n // 2] = np.nan, np.inf, -np.inf
        return x, x.astype(np.float64)

    return Kind(Distribution, data, lambda a, b, x: near_distributions(a, b), exact=False, sizes=(0, 1, 5, 900))


KINDS: dict[str, Kind] = {
    "Moments": moments("float64"),
    "Moments, float32": moments("float32"),
    "Moments, bfloat16": moments("bfloat16"),
    "Moments, float16": moments("float16"),
    "Moments, halves": moments("float32", halves=True),
    "Moments, exact": moments("float32", "exact"),
    "Moments, fourth": moments("float32", fourth=True),
    "Moments, exact, fourth": moments("float64", "exact", fourth=True),
    "Switching": switching(),
    "Switching of rows": switching((9,), rule="relu6", layout="rows"),
    "Switching without positions": switching(rule="relu6", positions=False),
    "Switching with patterns": switching(patterns=True),
    "Switching of classes": switching(classes=2),
    "Switching of windows": switching(rule="maxpool", kernel_size=2, stride=1),
    "Switching of windows of one": switching(rule="maxpool", kernel_size=1, stride=2),
    "Switching of thresholds": switching(rule="threshold", threshold=(-1.0, 0.5), layout="channels_last"),
    "Switching with sums": switching(sums=True),
    "Switching with sums, without positions": switching(rule="relu6", sums=True, positions=False),
    "Distribution": distribution("float64"),
    "Distribution, float32": distribution("float32"),
    "Distribution, float16": distribution("float16"),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
#: One of each class, for what does not depend on options.
CLASSES = {name: KINDS[name] for name in ("Moments", "Switching", "Distribution")}
every_class = pytest.mark.parametrize("name", CLASSES)


def test_every_state_is_in_the_list() -> None:
    def made(base: type) -> set[type]:
        return {kind for below in base.__subclasses__() for kind in made(below) or {below}}

    assert {type(kind.make()) for kind in KINDS.values()} == made(State)
    assert {type(kind.make()).__name__ for kind in CLASSES.values()} == set(CLASSES)


# ---- merging ----


@every_kind
def test_the_empty_state_is_neutral_bit_for_bit(kind: Kind) -> None:
    for n in kind.sizes:
        a, empty = feed(kind.make(), kind.data(n, 0)[0]), kind.make()
        assert_same(kind, a + empty, a)
        assert_same(kind, empty + a, a)
        left, right = a.copy(), empty.copy()
        left.merge(empty)
        right.merge(a)
        assert_same(kind, left, a)
        assert_same(kind, right, a)
        assert look(empty) == look(kind.make())


@every_kind
@settings(max_examples=count(12, 240), deadline=None, derandomize=True)
@given(sizes=st.tuples(*[st.integers(0, 60)] * 3), seed=st.integers(0, 10**6))
def test_merging_is_commutative_and_associative_and_adds_batches(kind: Kind, sizes: tuple[int, ...], seed: int) -> None:
    n = sum(sizes)
    x, values = kind.data(n, seed)
    parts = [x[: sizes[0]], x[sizes[0] : sizes[0] + sizes[1]], x[sizes[0] + sizes[1] :]]
    a, b, c = (feed(kind.make(), part) for part in parts)
    whole = feed(kind.make(), *parts)
    ways = [(a + b) + c, a + (b + c), (c + b) + a, b + (a + c), whole, feed(kind.make(), x)]
    if n < 2:
        assert [look(way) for way in ways] == [look(whole)] * len(ways)
        return
    for way in ways:
        kind.near(way, whole, values)


@every_kind
def test_merging_leaves_the_other_state_and_adding_leaves_both(kind: Kind) -> None:
    a, b = (feed(kind.make(), kind.data(n, n)[0]) for n in (50, 60))
    before = look(a), look(b)
    total = a + b
    assert (look(a), look(b)) == before
    a.merge(b)
    assert look(b) == before[1]
    assert_same(kind, a, total)


@every_kind
def test_a_state_merged_with_itself_counts_every_sample_twice(kind: Kind) -> None:
    x, values = kind.data(50, 0)
    merged = feed(kind.make(), x)
    merged.merge(merged)
    kind.near(merged, feed(kind.make(), x, x), np.concatenate([values, values]))
    once = feed(kind.make(), x)
    assert_same(kind, once + once, merged)


@every_kind
def test_a_state_goes_on_after_a_merge(kind: Kind) -> None:
    x, values = kind.data(300, 1)
    a, b, c = cut(x, [70, 160])
    state = feed(kind.make(), a) + feed(kind.make(), b)
    feed(state, c)
    kind.near(state, feed(kind.make(), x), values)


@every_kind
def test_another_class_is_refused_and_changes_nothing(kind: Kind) -> None:
    state = feed(kind.make(), kind.data(9, 0)[0])
    own = type(state)
    before = look(state)
    others = [3, None, "state", *(other.make() for other in CLASSES.values() if type(other.make()) is not own)]
    for other in others:
        got = f"^{own.__name__}.merge: got {type(other).__name__}, expected {own.__name__}$"
        with pytest.raises(TypeError, match=got):
            state.merge(other)
        with pytest.raises(TypeError, match="unsupported operand"):
            state + other
    assert look(state) == before


@every_class
def test_merging_two_states_into_each_other_from_two_threads_does_not_deadlock(name: str) -> None:
    kind = CLASSES[name]
    a, b = (feed(kind.make(), kind.data(3, seed)[0]) for seed in (0, 1))
    threads = [
        threading.Thread(target=lambda: [a.merge(b) for _ in range(25)], daemon=True),
        threading.Thread(target=lambda: [b.merge(a) for _ in range(25)], daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)


# ---- updating ----


@every_kind
def test_boundaries_between_batches_change_nothing(kind: Kind) -> None:
    n = max(kind.sizes[-1], 40)
    x, values = kind.data(n, 3)
    whole = feed(kind.make(), x)
    for points in ([1], [n // 3, n // 2], range(1, n, max(1, n // 30)), range(1, min(n, 40))):
        parts = feed(kind.make(), *cut(x, points))
        if kind.exact:
            assert_same(kind, parts, whole)
        kind.near(parts, whole, values)


@every_kind
def test_any_number_of_threads_gives_the_same_bits(kind: Kind) -> None:
    x = kind.data(600, 4)[0]
    expected = look(feed(kind.make(), *cut(x, [200, 201]), threads=1))
    for threads in (2, 3, 7):
        assert look(feed(kind.make(), *cut(x, [200, 201]), threads=threads)) == expected


@every_kind
def test_the_data_is_taken_before_update_returns(kind: Kind) -> None:
    x = kind.data(60, 5)[0]
    state, expected = kind.make(), feed(kind.make(), *cut(x, [5, 21]))
    for part in cut(copy.deepcopy(x), [5, 21]):
        feed(state, part)
        part[...] = 7
    assert_same(kind, state, expected)


@every_kind
def test_what_an_update_refuses_changes_nothing(kind: Kind) -> None:
    state = feed(kind.make(), kind.data(9, 0)[0])
    name, before = type(state).__name__, look(state)
    x = kind.data(4, 1)[1]
    labels = {"labels": of_classes(x)} if state.config().get("classes") else {}
    with pytest.raises(DTypeError, match=rf"^{name}.update: got dtype int64, expected float64"):
        state.update(np.nan_to_num(x, posinf=1, neginf=1).astype(np.int64), **labels)
    with pytest.raises(DomainError, match="threads: got 0"):
        state.update(x, threads=0, **labels)
    assert look(state) == before


@every_kind
def test_a_cleared_state_is_a_new_one(kind: Kind) -> None:
    for n in kind.sizes:
        state = feed(kind.make(), kind.data(n, 0)[0])
        state.clear()
        assert_same(kind, state, kind.make())


@every_kind
def test_reading_a_state_changes_nothing(kind: Kind) -> None:
    read, unread = kind.make(), kind.make()
    for part in cut(kind.data(2 * max(kind.sizes[-1], 40), 6)[0], [10, 11, 33, 60]):
        feed(read, part)
        feed(unread, part)
        repr(read), read.nbytes, read.config(), read.tensors(), read.copy(), pickle.dumps(read), read + read
    assert_same(kind, read, unread)


@every_kind
def test_arrays_handed_out_are_not_the_state(kind: Kind) -> None:
    state = feed(kind.make(), kind.data(20, 0)[0])
    before = look(state)
    for array in (*state.tensors().values(), *(getattr(state, name, np.ones(1)) for name in ("mean", "scatter"))):
        if array.flags.writeable:
            array[...] = 7
    assert look(state) == before


@every_kind
def test_several_threads_that_share_a_state_lose_nothing(kind: Kind) -> None:
    x, values = kind.data(720, 7)
    batches = cut(x, range(30, 720, 30))
    state, start = kind.make(), threading.Barrier(4)

    def work(mine: list[Any]) -> None:
        start.wait()
        for batch in mine:
            feed(state, batch, threads=2)
            state.tensors()

    workers = [threading.Thread(target=work, args=(batches[i::4],)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    kind.near(state, feed(kind.make(), x), values)


#: Data of which an update takes a good part of a second.
HEAVY = {"Moments": (1_000_000, 5), "Switching": (20_000, 4, 5, 6), "Distribution": (700_000, 3)}


@every_class
def test_another_python_thread_runs_while_an_update_computes(name: str) -> None:
    """With a switch interval of a minute the counter advances only where the interpreter lock is given up."""
    x = np.random.default_rng(0).standard_normal(HEAVY[name])
    state, turns, stop = CLASSES[name].make(), [0], threading.Event()

    def advance() -> None:
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)  # gives the lock up, so that it never has to be taken away

    interval, worker = sys.getswitchinterval(), threading.Thread(target=advance)
    worker.start()
    sys.setswitchinterval(60)
    try:
        gained = 0
        for _ in range(20):
            before = turns[0]
            state.update(x, threads=1)
            gained = max(gained, turns[0] - before)
            if gained >= 10:
                break
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        worker.join()
    assert gained >= 10


# ---- copies and files ----

COPIES: dict[str, Callable[[Any, Path], Any]] = {
    "copy": lambda state, path: state.copy(),
    "copy.copy": lambda state, path: copy.copy(state),
    "deepcopy": lambda state, path: copy.deepcopy(state),
    "pickle": lambda state, path: pickle.loads(pickle.dumps(state)),
    "pickle protocol 2": lambda state, path: pickle.loads(pickle.dumps(state, protocol=2)),
    "tensors": lambda state, path: type(state).from_tensors(state.config(), state.tensors()),
    "file": lambda state, path: (state.save(path), type(state).load(path))[1],
    "file by name": lambda state, path: (state.save(str(path)), type(state).load(str(path)))[1],
}
every_way = pytest.mark.parametrize("way", COPIES)


@every_kind
@every_way
def test_a_copy_is_the_state_bit_for_bit_and_goes_its_own_way(kind: Kind, way: str, tmp_path: Path) -> None:
    for n in kind.sizes:
        state = feed(kind.make(), kind.data(n, 0)[0])
        before, twin = look(state), COPIES[way](state, tmp_path / "state")
        assert type(twin) is type(state)
        assert twin.config() == state.config()
        assert_same(kind, twin, state)
        more = kind.data(9, 1)[0]
        feed(twin, more)
        assert look(state) == before
        assert look(feed(state, more)) == look(twin)


@every_kind
@every_way
def test_resuming_equals_the_uninterrupted_run_bit_for_bit(kind: Kind, way: str, tmp_path: Path) -> None:
    parts = cut(kind.data(2 * max(kind.sizes[-1], 40), 8)[0], [1, 20, 23, 24, 51, 60])
    resumed = kind.make()
    for part in parts:
        resumed = COPIES[way](feed(resumed, part), tmp_path / "state")
    assert_same(kind, resumed, feed(kind.make(), *parts))


@every_kind
def test_tensors_that_lack_one_are_refused(kind: Kind) -> None:
    state = feed(kind.make(), kind.data(9, 0)[0])
    for name in state.tensors():
        rest = {other: array for other, array in state.tensors().items() if other != name}
        with pytest.raises(StateError, match=f"^{type(state).__name__}: the tensors do not make a state"):
            type(state).from_tensors(state.config(), rest)


@every_kind
def test_a_state_file_is_read_by_the_safetensors_package(kind: Kind, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    state = feed(kind.make(), kind.data(9, 0)[0])
    state.save(tmp_path / "state")
    with safetensors.safe_open(tmp_path / "state", framework="numpy") as file:
        assert file.metadata()["netassay.state"] == "1"
        assert file.metadata()["kind"] == type(state).kind
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    assert tensors == {name: array.tobytes() for name, array in state.tensors().items()}


@every_kind
def test_a_damaged_file_is_refused_and_a_missing_one_is_missing(kind: Kind, tmp_path: Path) -> None:
    path, own = tmp_path / "state", type(kind.make())
    feed(kind.make(), kind.data(9, 0)[0]).save(path)
    raw = path.read_bytes()
    for damaged in (raw[:-1], raw + b"\0", raw[:-1] + bytes([raw[-1] ^ 1]), b""):
        path.write_bytes(damaged)
        with pytest.raises(StateError, match="state"):
            own.load(path)
    with pytest.raises(FileNotFoundError):
        own.load(tmp_path / "none")


@every_class
def test_the_file_of_another_class_is_refused_and_both_are_named(name: str, tmp_path: Path) -> None:
    own = type(CLASSES[name].make())
    for other in CLASSES.values():
        state = other.make()
        if type(state) is not own:
            state.save(tmp_path / "state")
            with pytest.raises(StateError, match=rf"'{state.kind}'.*'{own.kind}'"):
                own.load(tmp_path / "state")


@every_kind
def test_equality_is_identity_and_the_text_names_the_class_and_the_samples(kind: Kind) -> None:
    state = feed(kind.make(), kind.data(30, 0)[0])
    assert state == state
    assert state != state.copy()
    assert len({state, state.copy()}) == 2
    held = state.samples if isinstance(state, Switching) else state.count
    assert repr(state).startswith(f"{type(state).__name__}(")
    assert re.search(rf"=\b{held}\b", repr(state))


# ---- interruption and forks ----

#: How a state is made, the shape of a batch, and how often its first sample makes seconds of work.
ALONE = {
    "Moments": ("na.Moments(256, precision='exact')", (1500, 256), 3_000_000),
    "Switching": ("Switching(patterns=False)", (64, 30, 30, 30), 400_000),
    "Distribution": ("Distribution()", (100, 1000), 2_000_000),
}
BEGIN = """
import os, signal, sys, time
import numpy as np
import netassay as na
from netassay.complexity import Switching
from netassay.network import Distribution

def bits(state):
    return [array.tobytes() for array in state.tensors().values()]

def make():
    return {make}

small = np.random.default_rng(0).standard_normal({shape}).astype(np.float32)
"""

INTERRUPTED = """
def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
state, other = make(), make()
state.update(small)
other.update(small)
huge = np.broadcast_to(small[:1], ({times}, *small.shape[1:]))  # one sample in memory
before = bits(state)
signal.setitimer(signal.ITIMER_REAL, 0.1)
try:
    state.update(huge)
except KeyboardInterrupt:
    print("interrupted")
assert bits(state) == before, "the state changed"
state.update(small[:7])
other.update(small[:7])
assert bits(state) == bits(other), "the state goes on differently"
"""

FORKED = """
x = np.concatenate([small] * 4)
first, expected = make(), make()
first.update(x, threads=2)
pid = os.fork()
if pid == 0:
    code = 3
    try:
        state = make()
        state.update(x)
        first.merge(state)
        before, refused = bits(state), False
        try:
            state.update(x, threads=2)
        except na.ForkError as error:
            refused = isinstance(error, RuntimeError) and "threads" in str(error) and bits(state) == before
        expected.update(x, threads=1)
        code = 0 if refused and bits(expected) == before else 4
    finally:
        os._exit(code)
for _ in range(3000):  # the watchdog: 30 s
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        break
    time.sleep(0.01)
else:
    os.kill(pid, signal.SIGKILL)
    sys.exit("the child hangs")
first.update(x, threads=2)
print(os.waitstatus_to_exitcode(status))
"""


def alone(name: str, body: str) -> str:
    made, shape, times = ALONE[name]
    return run_alone(BEGIN.format(make=made, shape=shape) + body.replace("{times}", str(times))).split()[-1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX timers")
@every_class
def test_ctrl_c_in_an_update_leaves_the_state_as_before(name: str) -> None:
    assert alone(name, INTERRUPTED) == "interrupted"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@every_class
def test_a_forked_child_updates_with_one_thread_and_refuses_more(name: str) -> None:
    assert alone(name, FORKED) == "0"
