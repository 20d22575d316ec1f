"""Files that are whole or not there: what a program dies over leaves what was there before."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of ``path`` when all has been written.

    It is written beside it, in the same folder; links are followed, and the file that was there
    keeps its permissions. After an error, which names ``path``, what was there is as it was. What
    is no regular file (a pipe, a device) is written into.

    Raises:
        OSError: the file cannot be written.
    """
    file = os.path.realpath(os.fsdecode(path))
    try:
        mode = _mode(file)
        if mode is not None and not stat.S_ISREG(mode):
            with open(file, "wb") as stream:
                yield stream
        else:
            with _beside(file, mode) as stream:
                yield stream
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _mode(file: str) -> int | None:
    try:
        return os.stat(file).st_mode
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _beside(file: str, mode: int | None) -> Iterator[IO[bytes]]:
    if mode is not None and not os.access(file, os.W_OK):
        open(file, "r+b").close()  # says why it cannot be written
    folder, name = os.path.split(file)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", suffix=".part", dir=folder)
    try:
        with open(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(descriptor, stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
            os.fsync(descriptor)
        os.replace(temporary, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022
