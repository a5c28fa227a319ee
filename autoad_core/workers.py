"""Processes that train children: one thread each, ended when they take too long, replaced when they die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from autoad_core import memory
from autoad_core.errors import RunError, trouble
from autoad_core.trial import Images, Job, Task, failed, run_trial

ATTEMPTS = 2  # a child whose worker died is tried once more: the cause may have been another program's


def available_cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def warm_up() -> None:
    """Start the process that workers are forked from, which takes a second; worth doing while the data are loaded.

    It has torch loaded already, so that a new worker takes milliseconds and shares its pages, and it has no threads.
    """
    multiprocessing.get_context("forkserver").set_forkserver_preload(["autoad_core.trial"])
    # The workers inherit the mask: Ctrl-C is the parent's business.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker needs besides its jobs.

    Attributes:
        task: What all jobs share.
        models: Folder in which job i leaves its model as ``models/i``.
        builtin_only: Leave out plugins of other distributions.
        memory_limit: Bytes that a child may allocate.
    """

    task: Task
    models: Path
    builtin_only: bool
    memory_limit: int


@dataclass(slots=True)
class _Worker:
    process: Any
    pipe: Connection
    job: Job | None = None
    deadline: float = float("inf")


@dataclass(slots=True)
class Pool:
    """A fixed number of workers. Use as a context manager: leaving it ends them, whatever they do.

    Args:
        setup: Sent to every worker once.
        size: Number of processes.
        time_limit: Seconds that a job may take.
    """

    setup: Setup
    size: int
    time_limit: float
    _workers: list[_Worker] = field(default_factory=list)
    _attempts: dict[int, int] = field(default_factory=dict)

    def __enter__(self) -> Pool:
        warm_up()
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            _end(worker)
        self._workers.clear()

    @property
    def busy(self) -> int:
        """Jobs at work."""
        return sum(w.job is not None for w in self._workers)

    @property
    def idle(self) -> int:
        """Jobs that can be submitted now."""
        return self.size - self.busy

    def submit(self, job: Job) -> None:
        """Start a job; there must be an idle worker. Processes are started as they are needed."""
        worker = next((w for w in self._workers if w.job is None), None)
        if worker is None:
            worker = _start(self.setup)
            self._workers.append(worker)
        worker.job = job
        worker.deadline = time.monotonic() + self.time_limit
        with suppress(BrokenPipeError, ConnectionResetError):  # it died idle: `results` starts the job anew
            worker.pipe.send(job)

    def results(self, timeout: float) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Jobs that ended, with what `run_trial` returned; waits at most ``timeout`` seconds for the first."""
        busy = [w for w in self._workers if w.job is not None]
        nearest = min((w.deadline for w in busy), default=float("inf")) - time.monotonic()
        ready = wait([w.pipe for w in busy], timeout=max(0.0, min(timeout, nearest)))
        for worker in busy:
            job = worker.job
            assert job is not None
            if worker.pipe in ready:
                try:
                    result = worker.pipe.recv()
                except (EOFError, ConnectionResetError):
                    again = self._replace(worker, job)
                    if again is not None:
                        yield job, again
                    continue
                worker.job = None
                if result["status"] != "ok":  # what went wrong may have left a full heap behind
                    self._remove(worker)
                yield job, result
            elif time.monotonic() >= worker.deadline:
                self._remove(worker)
                yield job, failed(f"ended after time_limit = {self.time_limit:g} seconds", limit=True)

    def _replace(self, worker: _Worker, job: Job) -> dict[str, Any] | None:
        """A worker died: start its job anew, or give the result of a job that kills every worker."""
        worker.process.join(5)
        code = worker.process.exitcode
        self._remove(worker)
        self._attempts[job.id] = self._attempts.get(job.id, 1) + 1
        if self._attempts[job.id] <= ATTEMPTS:
            self.submit(job)
            return None
        return failed(f"its process died {ATTEMPTS} times ({_cause(code)})", limit=True)

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        _end(worker)


def _cause(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "killed, perhaps by the kernel for want of memory; use fewer workers"
    return f"exit code {code}"


def _start(setup: Setup) -> _Worker:
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(setup, theirs), daemon=True, name="autoad-worker")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    if worker.job is None:
        worker.process.join(5)  # an idle worker ends by itself when its pipe closes
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()


def _serve(setup: Setup, pipe: Connection) -> None:
    """Body of a worker: jobs in, results out, until the pipe closes."""
    import torch

    from autoad_core.discovery import discover

    _die_with_parent()
    torch.set_num_threads(1)
    memory.limit(setup.memory_limit)
    memory.keep_freed()
    registry = discover(builtin_only=setup.builtin_only).registry
    images = Images.open(setup.task.folder)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            result = run_trial(setup.task, job, images, registry, setup.models / str(job.id))
        except OSError as error:  # the disk, not the child
            result = {"status": "fatal", "error": trouble(error)}
        except RunError as error:  # the run is damaged
            result = {"status": "fatal", "error": str(error)}
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            result = failed(f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:500]}")
        memory.release()
        pipe.send(result)


def _die_with_parent() -> None:
    """End at once when the search is killed: an orphan would train on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()
