"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write through a temporary beside the file: whoever reads sees the old file or the new one.

    A link is followed; a device or a pipe is written to directly. Raises OSError, with no temporary left.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise IsADirectoryError(f"write: got the directory {os.fspath(path)!r}, expected a file")
        target.write_bytes(data)  # replacing /dev/null by a file would harm the machine
        return
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.tmp")
    try:
        # os.open and not mkstemp: the file gets the permissions that the user's umask gives
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems know no such thing, and the file is in place
            os.fsync(directory)
    finally:
        os.close(directory)
