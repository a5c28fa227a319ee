"""What `autoad_core.memory` promises, each in a process of its own: its settings cannot be taken back."""

from __future__ import annotations

import json
import multiprocessing
import resource
import subprocess
import sys
from typing import Any

import pytest

COUNTED = """
import json, resource, sys
from pathlib import Path
from autoad_core import memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

size = 48 * 2**20
def use():
    block = bytearray(size)  # zeroed: every page is touched
    block[::4096] = b"x" * len(block[::4096])

if "keep" in sys.argv:
    memory.keep_freed()
use()
before = faults()
for _ in range(20):
    use()
again, kept = faults() - before, resident()
memory.release()
print(json.dumps({"again": again, "kept": kept - resident()}))
"""


def measured(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, *arguments], check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_freed_memory_is_kept_for_the_next_step_and_given_back_at_the_end() -> None:
    pages = 20 * 48 * 2**20 // resource.getpagesize()
    usual, kept = measured(), measured("keep")
    assert usual["again"] > 0.9 * pages  # or there would be nothing to do
    assert kept["again"] < 0.1 * pages
    assert kept["kept"] > 40 * 2**20


def starve(most: int, size: int, pipe: Any) -> None:
    from autoad_core import memory

    memory.limit(most)
    memory.keep_freed()
    try:
        bytearray(size)
    except MemoryError:
        pipe.send("refused")
    else:
        pipe.send("given")


@pytest.mark.parametrize(("size", "answer"), [(64 * 2**20, "given"), (540 * 2**20, "refused")])
def test_allocations_beyond_the_limit_fail(size: int, answer: str) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=starve, args=(256 * 2**20, size, theirs))
    process.start()
    assert ours.poll(60)
    assert ours.recv() == answer
    process.join()
