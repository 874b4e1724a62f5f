"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from typing import TypeAlias

Path: TypeAlias = "str | os.PathLike[str]"

_CHUNK = 1 << 24  # bytes per write: Ctrl-C is heeded in between
_STALE_S = 3600.0


def write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write `parts` one after the other: afterwards `path` holds the old file or the new one, never part of either.

    Through a temporary beside the file, fsync, rename, fsync of the directory. A link is followed; a device or a pipe
    is written to directly. Temporaries that a killed process left are removed.

    Raises: OSError (the file system's); the old file is untouched and the temporary is gone.
    """
    target = os.path.realpath(os.fspath(path))
    if _special(target):  # replacing /dev/null by a file would harm the machine
        with open(target, "wb") as file:
            file.writelines(parts)
        return
    _sweep(target)
    temporary = _temporary(target)
    try:
        _write(temporary, parts)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(os.path.dirname(target))


def _special(target: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(target).st_mode)
    except OSError:
        return False


def _host() -> str:
    return hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()


def _temporary(target: str) -> str:
    directory, name = os.path.split(target)
    return os.path.join(directory, f".{name}.{os.getpid()}-{_host()}{secrets.token_hex(4)}.netassay-tmp")


def _write(temporary: str, parts: Iterable[bytes | memoryview]) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    fd = os.open(temporary, flags, 0o666)
    try:
        for whole in parts:
            part = memoryview(whole)
            while part:
                part = part[os.write(fd, part[:_CHUNK]) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_directory(directory: str) -> None:
    if os.name != "posix":
        return
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know no such thing
            raise
    finally:
        os.close(fd)


def _sweep(target: str) -> None:
    """Remove temporaries of this target that no process will finish."""
    directory, name = os.path.split(target)
    pattern = re.compile(rf"\.{re.escape(name)}\.(\d+)-([0-9a-f]{{8}})[0-9a-f]{{8}}\.netassay-tmp")
    for found in _listed(directory, pattern):
        leftover = os.path.join(directory, found[0])
        # A process id means something on its own host only; elsewhere, and where it was reused, age decides.
        orphaned = found[2] == _host() and not _alive(int(found[1]))
        with contextlib.suppress(OSError):
            if orphaned or time.time() - os.stat(leftover).st_mtime > _STALE_S:
                os.unlink(leftover)


def _listed(directory: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if found := pattern.fullmatch(entry.name):
                yield found


def _alive(pid: int) -> bool:
    if os.name != "posix":  # signal 0 is no question elsewhere
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
