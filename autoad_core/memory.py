"""Memory of a process that trains: how much it may take, and what becomes of what it frees."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # numbers of mallopt(3)
_MOST = 2**31 - 1


def limit(most: int) -> None:
    """Let allocations of more than ``most`` further bytes fail, as an error of this child, before the kernel chooses a victim."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        return
    total = int(statm.read_text().split()[0]) * resource.getpagesize() + most
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or total < hard:
        resource.setrlimit(resource.RLIMIT_AS, (total, hard))


def keep_freed() -> None:
    """Keep what is freed for the next tensor of that size, where the C library is glibc.

    By default glibc returns large blocks to the kernel, which clears every page of them again at the next step: a
    tenth of the time of training, and up to a third for wide first layers.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _MOST)


def release() -> None:
    """Return to the kernel what `keep_freed` kept, where the C library is glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
