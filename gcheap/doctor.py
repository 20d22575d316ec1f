"""What this kernel and these permissions allow, found by trying; what that means for gcheap."""

from __future__ import annotations

import errno
import os
import resource
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gcheap._errors import exception_for
from gcheap._ffi import ffi, lib, text

__all__ = ["FEATURES", "Diagnosis", "Item", "advice", "examine"]

FEATURES = {
    0: "PAGEFAULT_FLAG_WP",
    1: "EVENT_FORK",
    2: "EVENT_REMAP",
    3: "EVENT_REMOVE",
    4: "MISSING_HUGETLBFS",
    5: "MISSING_SHMEM",
    6: "EVENT_UNMAP",
    7: "SIGBUS",
    8: "THREAD_ID",
    9: "MINOR_HUGETLBFS",
    10: "MINOR_SHMEM",
    11: "EXACT_ADDRESS",
    12: "WP_HUGETLBFS_SHMEM",
    13: "WP_UNPOPULATED",
    14: "POISON",
    15: "WP_ASYNC",
    16: "MOVE",
}
"""Bit -> name of a userfaultfd feature (UFFD_FEATURE_*)."""

COSTS = {
    "move_page_1": "UFFDIO_MOVE, one page a call, a page",
    "move_page_16": "UFFDIO_MOVE, 16 pages a call, a page",
    "move_page_512": "UFFDIO_MOVE, 512 pages a call, a page",
    "move_huge": "UFFDIO_MOVE of a huge page",
    "copy_page_1": "UFFDIO_COPY, one page a call, a page",
    "copy_page_16": "UFFDIO_COPY, 16 pages a call, a page",
    "copy_page_512": "UFFDIO_COPY, 512 pages a call, a page",
    "drop_page_512": "MADV_DONTNEED, 512 pages, a page",
    "memcpy_page": "memcpy into memory that is there, a page",
    "touch_page": "first touch of a fresh page",
    "syscall": "the cheapest system call",
    "uffd_call": "UFFDIO_MOVE refused at once",
    "mprotect": "mprotect of a page",
    "fault_thread": "fault answered by a thread",
    "fault_signal": "fault answered in a SIGBUS handler",
}
"""Calibrated cost -> what it is, in the order shown."""


@dataclass(frozen=True, slots=True)
class Item:
    """One capability. ``error``: the errno's name, "" if it works or was not tried."""

    name: str
    works: bool
    error: str
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found.

    Attributes:
        huge_policy: never, madvise, always or unknown (/sys/kernel/mm/transparent_hugepage).
        unprivileged: vm.unprivileged_userfaultfd, -1 if the kernel has no such setting.
        openings: every way to open userfaultfd.
        features: userfaultfd's features by name.
        calls: the other things that movers need.
        movers: which ones can work here.
        chosen: the mover that "auto" takes, ``chosen_reason`` why.
        costs_ns: name in ``COSTS`` -> median; what could not be measured is left out.
        address_limit: RLIMIT_AS in bytes, -1: none.
        overcommit: vm.overcommit_memory, -1 if unreadable.
    """

    kernel_release: str
    cpus: int
    page_bytes: int
    huge_bytes: int
    huge_policy: str
    unprivileged: int
    moves_by_auto: bool
    user_mode_only: bool
    openings: tuple[Item, ...]
    features: tuple[str, ...]
    calls: tuple[Item, ...]
    movers: tuple[Item, ...]
    chosen: str
    chosen_reason: str
    costs_ns: dict[str, float]
    calibration_s: float
    address_limit: int
    overcommit: int

    def as_json(self) -> dict[str, Any]:
        """Return everything in values that JSON can hold."""
        return asdict(self)


SLIDE = Item("slide", True, "", "The sliding form of memcpy, a baseline; works in the pause.")


def examine(*, calibrate: bool = True, install_sigbus: bool = False) -> Diagnosis:
    """Try every call that gcheap can use, on small mappings of its own.

    Args:
        calibrate: measure what the calls cost too, about 25 ms.
        install_sigbus: measure faults answered in a SIGBUS handler too; the process's own handler
            is replaced meanwhile.

    Raises:
        HeapExhausted: there was no memory to measure with.
    """
    report = ffi.new("doctor_report *")
    status = lib.doctor_examine(calibrate, install_sigbus, report)
    if status != lib.GCH_OK:
        raise exception_for(status, "no memory to measure what calls cost")
    bits = int(report.uffd_features)
    costs = {text(cost.name): round(float(cost.ns), 1) for cost in report.costs if cost.ns > 0}
    return Diagnosis(
        kernel_release=text(report.kernel_release),
        cpus=int(report.cpus),
        page_bytes=int(report.page_bytes),
        huge_bytes=int(report.huge_bytes),
        huge_policy=text(report.thp),
        unprivileged=_read_int("/proc/sys/vm/unprivileged_userfaultfd"),
        moves_by_auto=bool(report.release_moves_by_auto),
        user_mode_only=bool(report.user_mode_only),
        openings=_items(report.openings),
        features=tuple(FEATURES.get(bit, f"bit {bit}") for bit in range(64) if bits >> bit & 1),
        calls=_items(report.calls),
        movers=(*_items(report.movers), SLIDE),
        chosen=text(report.chosen),
        chosen_reason=text(report.chosen_text),
        costs_ns={name: costs[name] for name in COSTS if name in costs},
        calibration_s=report.calibration_ns * 1e-9,
        address_limit=resource.getrlimit(resource.RLIMIT_AS)[0],
        overcommit=_read_int("/proc/sys/vm/overcommit_memory"),
    )


def _items(native: Any) -> tuple[Item, ...]:
    return tuple(
        Item(text(one.name), bool(one.works), _errno_name(int(one.error)), text(one.text))
        for one in native
    )


def _errno_name(number: int) -> str:
    return errno.errorcode.get(number, str(number)) if number else ""


def _read_int(path: str) -> int:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return -1


# --- what to change -------------------------------------------------------------------------------


def advice(found: Diagnosis) -> list[str]:
    """Say what to change to get more, most useful first; empty if all is there."""
    return [*_open_more(found), *_move_more(found), *_huge_more(found), *_reserve_more(found)]


def _open_more(found: Diagnosis) -> list[str]:
    device, call = found.openings[0], found.openings[1]
    if device.works or call.works:
        return []
    said = []
    if device.error == "EACCES":
        said.append(
            "Let this user open /dev/userfaultfd: setfacl -m u:$USER:rw /dev/userfaultfd (as root; "
            "a udev rule makes it last). Then system calls may meet missing pages too."
        )
    if call.error == "EPERM":
        said.append("Or, as root: sysctl -w vm.unprivileged_userfaultfd=1.")
    if call.error == "ENOSYS" or (call.error == "EPERM" and os.geteuid() == 0):
        said.append(
            "A seccomp filter may hide userfaultfd: run the container with one that allows it "
            "(docker run --security-opt seccomp=... --device /dev/userfaultfd)."
        )
    return said or ["Use a kernel built with CONFIG_USERFAULTFD=y."]


def _move_more(found: Diagnosis) -> list[str]:
    if "MOVE" not in found.features and found.features:
        return ["UFFDIO_MOVE needs Linux 6.8; gcheap takes it unasked from 6.12.20 or 6.13.8 on."]
    if "MOVE" in found.features and not found.moves_by_auto:
        return [
            "This kernel's UFFDIO_MOVE has early bugs: update to 6.12.20, 6.13.8 or later, or ask "
            'for mover="move" if yours has the fixes.'
        ]
    return []


def _huge_more(found: Diagnosis) -> list[str]:
    if found.huge_policy in ("madvise", "always"):
        return []
    return [
        "Huge pages are off: as root, echo madvise > /sys/kernel/mm/transparent_hugepage/enabled."
    ]


def _reserve_more(found: Diagnosis) -> list[str]:
    said = []
    if found.address_limit >= 0:
        said.append(
            f"RLIMIT_AS is {found.address_limit >> 20} MiB: heaps reserve several times their "
            "maximum in addresses; raise it (ulimit -v unlimited) for large ones."
        )
    if found.overcommit == 2:
        said.append(
            "vm.overcommit_memory is 2: reservations count as memory in use; 0 or 1 lets heaps "
            "reserve freely."
        )
    return said
