"""How many threads a call may use."""

from __future__ import annotations

import sys

from netassay import _core


def resolve(threads: int | None) -> int:
    """The number of threads that `threads` stands for.

    None: the least of the affinity mask, OMP_NUM_THREADS if set, and torch.get_num_threads() if torch is loaded; one in
    a forked child.

    Raises:
        DomainError: fewer than one. ForkError: more than one in a forked child.
    """
    if threads is not None:
        if threads < 1:
            raise _core.DomainError(f"threads: got {threads}, expected at least 1 or None")
        return _core.thread_count(threads)
    default = _core.thread_count()
    torch = sys.modules.get("torch")
    # A half-imported torch (a circular import) has no such function yet.
    limit = getattr(torch, "get_num_threads", None)
    return default if limit is None else max(1, min(default, int(limit())))
