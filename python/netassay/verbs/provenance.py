"""Where the numbers of a report come from: versions, machine, source. One maker for every verb."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

import netassay
from netassay import _core


def provenance(
    *,
    source: str,
    threads: int,
    wrappers: Sequence[str] = (),
    fingerprint: str | None,
    lapack: str | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """The provenance of a report; `created` alone differs between equal runs."""
    torch = sys.modules.get("torch")
    return {
        "netassay": netassay.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": None if torch is None else torch.__version__,
        "lapack": lapack,
        "isa": _core.isa(),
        "threads": threads,
        "seed": seed,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "source": source,
        "wrappers": list(wrappers),
        "fingerprint": fingerprint,
    }
