"""Take the bytes of an HPROF file, compressed or not, and say how far a long reading is."""

from __future__ import annotations

import contextlib
import gzip
import mmap
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Callable
from typing import IO, Any

from gcheap._graphcheck import GraphFormatError
from gcheap._memory import available_bytes

__all__ = ["MAGIC_BYTES", "Log", "Progress", "check_magic", "contents"]

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


def contents(file: str, limit: int, progress: Progress) -> mmap.mmap:
    """Return the bytes of a dump, at most ``limit``, uncompressed; nobody else can change them.

    The file itself is not mapped: a process that touches a page which somebody has cut off dies of
    SIGBUS.

    Raises:
        GraphFormatError: the file does not begin as a dump does, is larger, damaged or cut short
            meanwhile.
        OSError: it cannot be opened, or there is no space for a copy.
    """
    with open(file, "rb") as stream:
        compressed = stream.peek(2)[:2] == GZIP_MAGIC
        status = os.fstat(stream.fileno())
        if stat.S_ISREG(status.st_mode) and not compressed:
            _check_size(status.st_size, limit, file)
            check_magic(stream.peek(MAGIC_BYTES), file)
            if 0 < status.st_size <= _memory_to_use():
                return _in_memory(stream, status.st_size, file, progress)
        with tempfile.TemporaryFile(prefix="gcheap-") as copy:
            if compressed:
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    _copy(unpacked, copy, file, limit, progress)
            else:
                _copy(stream, copy, file, limit, progress)
            return mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ)


def _memory_to_use() -> int:
    """Return how many bytes a dump in memory may have: half of what is available."""
    return available_bytes() // 2


def _in_memory(stream: IO[bytes], size: int, file: str, progress: Progress) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    at = 0
    with memoryview(memory) as view:
        while at < size:
            with view[at : at + COPY_BYTES] as rest:
                count = stream.readinto(rest)  # type: ignore[attr-defined]
            if count == 0:
                raise GraphFormatError(
                    "",
                    f"at offset {at}: the file ends, expected the {size} bytes that it had: "
                    "it was cut short meanwhile",
                    file,
                )
            at += count
            progress.tick("copied {} of {} MiB", at >> 20, size >> 20)
    return memory


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
        progress.tick("copied {} MiB", total >> 20)


def _check_size(size: int, limit: int, file: str) -> None:
    if size > limit:
        raise GraphFormatError("", f"holds {size} bytes, expected at most {limit}", file)
