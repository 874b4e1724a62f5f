"""Options of all tests, and one thread each where several processes of pytest (-n) share the processors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from python import devices, full

# a crowded machine draws its examples slowly, which is no fault of the code under test
settings.register_profile("netassay", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("netassay")

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # where a test does not say how many


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run all of the long tests, not a share")
    parser.addoption(
        "--device", default="host", choices=devices.DEVICES, help="where the kernels that devices have are tested"
    )


def pytest_configure(config: pytest.Config) -> None:
    full.choose(config.getoption("--full"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        name = metafunc.config.getoption("--device")
        metafunc.parametrize("device", [pytest.param(name, marks=pytest.mark.device)])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leaves torch one thread: the tensors of the tests are too small for a second one to pay."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
