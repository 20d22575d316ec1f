"""Open an HPROF file, compressed or not, and say how far a long reading is."""

from __future__ import annotations

import gzip
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from gcheap._graphcheck import GraphFormatError

__all__ = ["MAGIC_BYTES", "Log", "Progress", "check_magic", "uncompressed"]

MAGICS = (b"JAVA PROFILE 1.0.1\0", b"JAVA PROFILE 1.0.2\0")
MAGIC_BYTES = len(MAGICS[0])
GZIP_MAGIC = b"\x1f\x8b"
COPY_BYTES = 1 << 20
LOG_EVERY_S = 0.8

Log = Callable[[str], None]


class Progress:
    """Say how far something is, at most once in 0.8 s."""

    def __init__(self, log: Log | None) -> None:
        self.log = log
        self._last = time.monotonic()

    def tick(self, line: str, *values: object) -> None:
        """Say ``line``, formatted with the values, if it is time to."""
        if self.log is not None and time.monotonic() - self._last >= LOG_EVERY_S:
            self.log(line.format(*values))
            self._last = time.monotonic()

    def say(self, line: str) -> None:
        """Say ``line`` now."""
        if self.log is not None:
            self.log(line)


def check_magic(head: bytes, file: str) -> None:
    """Check the first bytes of a file.

    Raises:
        GraphFormatError: they are not those of an HPROF file of a known version.
    """
    found = head[:MAGIC_BYTES]
    if found not in MAGICS:
        raise GraphFormatError(
            "",
            f"at offset 0: {found!r}, expected an HPROF heap dump ({MAGICS[0]!r} or {MAGICS[1]!r})",
            file,
        )


@contextmanager
def uncompressed(file: str, limit: int, progress: Progress) -> Iterator[IO[bytes]]:
    """Open a file that can be mapped and holds the dump; at most ``limit`` bytes."""
    with open(file, "rb") as stream:
        compressed = stream.peek(2)[:2] == GZIP_MAGIC
        status = os.fstat(stream.fileno())
        if stat.S_ISREG(status.st_mode) and not compressed:
            _check_size(status.st_size, limit, file)
            yield stream
            return
        with tempfile.TemporaryFile(prefix="gcheap-") as copy:
            if compressed:
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    _copy(unpacked, copy, file, limit, progress)
            else:
                _copy(stream, copy, file, limit, progress)
            copy.seek(0)
            yield copy


def _copy(source: Any, copy: IO[bytes], file: str, limit: int, progress: Progress) -> None:
    total = 0
    while True:
        try:
            piece = source.read(COPY_BYTES)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise GraphFormatError(
                "",
                f"after {total} bytes of the dump: {error}, expected a whole gzip file",
                file,
            ) from error
        if total == 0:
            check_magic(piece, file)
        if not piece:
            return copy.flush()
        total += len(piece)
        _check_size(total, limit, file)
        try:
            copy.write(piece)
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from None
        progress.tick("unpacked {} MiB", total >> 20)


def _check_size(size: int, limit: int, file: str) -> None:
    if size > limit:
        raise GraphFormatError("", f"holds {size} bytes, expected at most {limit}", file)
