"""The native thread of a workload: whatever it does, each operation is stamped."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from gcheap._errors import InvalidOperation, exception_for
from gcheap._ffi import ffi, lib, text
from gcheap.heap import Heap

__all__ = ["GAP_DTYPE", "Runner", "Stamps"]

GAP_DTYPE = np.dtype([("start_ns", "u8"), ("length_ns", "u8")])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stamps:
    """What a thread's own clock has seen (native/workloads/stamps.h).

    Attributes:
        ops: operations.
        start_ns: CLOCK_MONOTONIC of the first operation; ``end_ns`` of the end of the last.
        gaps: GAP_DTYPE, times without progress longer than the limit; ``gap_count`` in all.
        gap_sum_s: of all; ``gap_max_s`` of the longest.
        ops_by_ms: uint32, operations finished in each millisecond since the start.
    """

    ops: int
    start_ns: int
    end_ns: int
    gaps: npt.NDArray[np.void]
    gap_count: int
    gap_sum_s: float
    gap_max_s: float
    ops_by_ms: npt.NDArray[np.uint32]

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.ops / ((self.end_ns - self.start_ns) * 1e-9) if self.ops else 0.0


Result = TypeVar("Result", bound=Stamps)


class Runner(Generic[Result]):
    """A native thread that works until it is stopped.

    Args:
        kind: of the workload: the native functions are ``{kind}_start``, ``_ops`` and ``_finish``.
        result: what it makes; fields that Stamps has not are counters of ``{kind}_result``.
        config: a ``{kind}_config *``; its stamps are set here.
        heap: what it works on; None: no heap.
        gap_ns: note gaps between operations longer than this; ``gap_capacity`` of them.
        seconds: how long ``ops_by_ms`` goes on counting.

    ``with`` starts it, and at the end stops it; ``result`` is there then.
    """

    def __init__(
        self,
        kind: str,
        result: type[Result],
        config: Any,
        heap: Heap | None,
        *,
        gap_ns: int,
        gap_capacity: int,
        seconds: float,
    ) -> None:
        self.result: Result | None = None
        self._kind = kind
        self._result_type = result
        self._config = config
        self._heap = heap
        self._run: Any = None
        self._gaps = np.zeros(gap_capacity, dtype=GAP_DTYPE)
        self._ops_by_ms = np.zeros(int(seconds * 1000), dtype=np.uint32)
        stamps = config.stamps
        stamps.gap_ns = gap_ns
        stamps.gaps = ffi.cast("stamps_gap *", self._gaps.ctypes.data)
        stamps.gap_capacity = gap_capacity
        stamps.ops_by_ms = ffi.cast("uint32_t *", self._ops_by_ms.ctypes.data)
        stamps.ms_capacity = len(self._ops_by_ms)

    def start(self) -> Self:
        """Start the thread; return when it is attached."""
        if self._run is not None:
            raise InvalidOperation("the workload runs already")
        native = getattr(lib, f"{self._kind}_start")
        out, error = ffi.new(f"{self._kind} **"), ffi.new("gch_error *")
        if self._heap is None:
            status = native(ffi.NULL, self._config, out, error)
        else:
            status = self._heap._core.call_heap(native, self._config, out, error)
        if status != lib.GCH_OK:
            raise exception_for(status, text(error.message))
        self._run = out[0]
        return self

    @property
    def ops(self) -> int:
        """Operations done so far."""
        if self._run is None:
            return self.result.ops if self.result is not None else 0
        return int(getattr(lib, f"{self._kind}_ops")(self._run))

    def finish(self, *, now: bool = True) -> Result:
        """Stop the thread (``now``), or wait until it has come to its own end."""
        if self._run is None:
            raise InvalidOperation("the workload does not run")
        run, self._run = self._run, None
        raw = ffi.new(f"{self._kind}_result *")
        getattr(lib, f"{self._kind}_finish")(run, now, raw)
        found = self._stamps(raw.stamps)
        for one in fields(self._result_type):
            if one.name not in found:
                found[one.name] = int(getattr(raw, one.name))
        self.result = self._result_type(**found)
        return self.result

    def _stamps(self, raw: Any) -> dict[str, Any]:
        kept = min(int(raw.gap_count), len(self._gaps))
        ms = (int(raw.end_ns) - int(raw.start_ns)) // 1_000_000 + 1
        return {
            "ops": int(raw.ops),
            "start_ns": int(raw.start_ns),
            "end_ns": int(raw.end_ns),
            "gaps": self._gaps[:kept].copy(),
            "gap_count": int(raw.gap_count),
            "gap_sum_s": raw.gap_sum_ns * 1e-9,
            "gap_max_s": raw.gap_max_ns * 1e-9,
            "ops_by_ms": self._ops_by_ms[:ms].copy(),
        }

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *raised: object) -> None:
        if self._run is not None:
            self.finish()

    def __del__(self) -> None:
        if getattr(self, "_run", None) is not None:
            self.finish()
