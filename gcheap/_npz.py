"""Read and write the arrays of an object graph as an ``.npz`` file, trusting nothing in it.

Every member's header is read and checked (kind, dimension, claimed bytes against the archive's own
directory and against a limit) before any memory is taken for its data. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from gcheap._files import replacing
from gcheap._graphcheck import GraphFormatError

FORMAT_VERSION = 1
"""1: format_version int64 (1,), sizes, types, indptr, indices, roots, type_names (JSON, uint8)."""
VERSION_BYTES = 4096
"""More than the member with the version ever takes; it is read before the file is known."""
ARRAYS = ("sizes", "types", "indptr", "indices", "roots")
_MEMBERS = ("format_version", *ARRAYS, "type_names")
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    MemoryError,
)

AnyArray = npt.NDArray[Any]


def write_npz(
    path: str | os.PathLike[str],
    arrays: dict[str, AnyArray],
    type_names: tuple[str, ...],
    *,
    compress: bool,
) -> None:
    """Write ``arrays`` (the five of ARRAYS) and ``type_names``; node ids narrow to int32."""
    names = np.frombuffer(json.dumps(type_names).encode("ascii"), dtype=np.uint8)
    members: dict[str, AnyArray] = {name: _narrow(arrays[name]) for name in ARRAYS}
    members["format_version"] = np.array([FORMAT_VERSION], dtype=np.int64)
    members["type_names"] = names
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with (
        replacing(path) as file,
        zipfile.ZipFile(file, "w", compression=method, allowZip64=True) as archive,
    ):
        for name in _MEMBERS:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, members[name], allow_pickle=False)


def _narrow(array: AnyArray) -> AnyArray:
    fits = array.dtype == np.int64 and (not array.size or array.max() < 2**31)
    return array.astype(np.int32) if fits else array


def read_npz(
    path: str | os.PathLike[str], *, max_bytes: int
) -> tuple[dict[str, AnyArray], tuple[str, ...]]:
    """Return the arrays as stored (integers, one-dimensional, native order) and the type names.

    Raises:
        GraphFormatError: the file is not a graph of a known version, is damaged, or claims more
            than ``max_bytes`` bytes of arrays.
        OSError: the file cannot be opened.
    """
    file = os.fsdecode(path)
    try:
        with open(path, "rb") as stream:
            return _read_archive(stream, max_bytes)
    except GraphFormatError as error:
        raise error.in_file(file) from error.__cause__


def _read_archive(stream: IO[bytes], max_bytes: int) -> tuple[dict[str, AnyArray], tuple[str, ...]]:
    try:
        archive = zipfile.ZipFile(stream)
    except _UNREADABLE as error:
        raise GraphFormatError("", f"not an .npz archive, or cut short ({error})") from error
    with archive:
        _check_version(_read_member(archive, "format_version", min(max_bytes, VERSION_BYTES)))
        infos = {info.filename: info.file_size for info in archive.infolist()}
        total = sum(infos.get(f"{name}.npy", 0) for name in _MEMBERS)
        if total > max_bytes:
            raise GraphFormatError(
                "", f"holds {total} bytes of arrays, expected at most {max_bytes}"
            )
        arrays = {name: _read_member(archive, name, max_bytes) for name in ARRAYS}
        return arrays, _decode_names(_read_member(archive, "type_names", max_bytes))


def _check_version(version: AnyArray) -> None:
    if version.shape != (1,) or version[0] != FORMAT_VERSION:
        raise GraphFormatError(
            "format_version", f"is {version.tolist()!r:.80}, expected [{FORMAT_VERSION}]"
        )


def _read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> AnyArray:
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        expected = ", ".join(_MEMBERS)
        raise GraphFormatError(name, f"is missing, expected the members {expected}") from None
    if info.file_size > max_bytes:
        raise GraphFormatError(name, f"holds {info.file_size} bytes, expected at most {max_bytes}")
    try:
        with archive.open(info) as member:
            _check_header(name, member, info.file_size)
        with archive.open(info) as member:
            array: AnyArray = np.lib.format.read_array(member, allow_pickle=False)
            member.read()  # to the end: only there is the checksum compared
    except GraphFormatError:
        raise
    except _UNREADABLE as error:
        raise GraphFormatError(name, f"cannot be read, expected an .npy array ({error})") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_header(name: str, member: IO[bytes], member_bytes: int) -> None:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(member)
    else:
        raise GraphFormatError(name, f"is .npy version {version}, expected (1, 0) or (2, 0)")
    if dtype.kind not in "iu":
        raise GraphFormatError(name, f"has dtype {dtype.str}, expected integers")
    if len(shape) != 1 or shape[0] < 0:
        raise GraphFormatError(name, f"has shape {shape}, expected one dimension")
    claimed = member.tell() + math.prod(shape) * dtype.itemsize
    if claimed != member_bytes:
        raise GraphFormatError(
            name, f"claims {claimed} bytes, expected {member_bytes}, the member's length"
        )


def _decode_names(encoded: AnyArray) -> tuple[str, ...]:
    try:
        names = json.loads(encoded.astype(np.uint8).tobytes())
    except (ValueError, RecursionError) as error:
        raise GraphFormatError(
            "type_names", f"is not JSON, expected a list of strings ({error})"
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise GraphFormatError("type_names", "is not a list of strings, expected one")
    return tuple(names)
