"""Clocks and memory for the benchmarks."""

import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def now(device: torch.device) -> float:
    """Seconds of processor time on a CPU; on a GPU of the wall, once its work is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_extra_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """The highest memory use during a call, less the use before it; None where it is not known.

    On a GPU what PyTorch has allocated; on Linux the process's resident memory, after freed memory
    has been given back, so that reusing it counts too. Kernel and allocator work in pages: figures
    below a few MiB mean little.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    if not CLEAR.exists():
        return None
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    CLEAR.write_text("5")  # the peak starts from here
    before = _status_bytes("VmRSS")
    call()
    return _status_bytes("VmHWM") - before


def _status_bytes(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
