"""Link weights and their sums at every instruction set, each in a process that runs this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from netassay import _core
from netassay.network import link_weights, sums, survey
from python.links import EXACT, assert_moments, assert_statistics, assert_sums, given
from python.matrices import DTYPES


def claims() -> Iterator[str]:
    for dtype in DTYPES:
        for kind, m, n in (("normal", 33, 97), ("lognormal", 17, 131), ("many zeros", 5, 1100), ("Cauchy", 3, 15)):
            w, x = given(kind, dtype, m, n)
            try:
                alone = link_weights(w)
                assert_statistics(alone, x, dtype in EXACT)
                assert_sums(sums(w), x)
                links, both = survey(w)
                assert_moments(links, x)
                assert (links.density == alone.density).all()
                assert (links.quantiles == alone.quantiles).all()
                assert_sums(both, x)
            except AssertionError as error:
                yield f"{dtype}, {kind}, {m} x {n}: {error}"


@pytest.mark.parametrize("level", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_agrees_with_the_reference(level: str) -> None:
    tests = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(filter(None, [str(tests), os.environ.get("PYTHONPATH", "")]))
    environment = os.environ | {"NETASSAY_ISA": level, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout.splitlines()[-1])
    if got["isa"] != level:
        pytest.skip(f"{level}: the processor offers {got['isa']}")
    assert got["wrong"] == []


if __name__ == "__main__":
    print(json.dumps({"isa": _core.isa(), "wrong": list(claims())}))
