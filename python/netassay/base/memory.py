"""How much memory there is."""

from __future__ import annotations

import os


def available() -> float:
    """Bytes that can be taken without swapping: MemAvailable where the system says so, else free pages.

    A control group's limit, where one is set lower, counts instead.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(int(line.split()[1]) * 1024.0 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        try:
            free = float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        except (AttributeError, OSError, ValueError):
            return float("inf")
    return min(free, _control_group())


def _control_group() -> float:
    """What a version-2 control group leaves of its limit; infinity where there is none."""
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as limit:
            most = float(limit.read())
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as current:
            return max(0.0, most - float(current.read()))
    except (OSError, ValueError):  # no such group, or the word "max"
        return float("inf")
