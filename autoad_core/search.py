"""The search: ask, train, tell, write down.

A search is a sequence of phases, each with a controller of its own: the search proper at a share of the budget, random search
beside it, and the best once more at the full budget. Within a phase, proposal i knows the outcomes of trials up to i - lag
and no others, and outcomes enter the journal in the order of their numbers. So neither the number of workers nor the
order in which they finish can be seen in the results, and a run that was killed goes on by living the same life again, with the
journal in the place of the workers.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from autoad_core import sharing
from autoad_core.controller import Controller, Outcome
from autoad_core.cost import cost_of
from autoad_core.errors import Interrupted, RunError
from autoad_core.geometry import Shape
from autoad_core.run import (
    Journal,
    Record,
    Run,
    drop_pending,
    load_pending,
    load_state,
    save_pending,
    save_state,
)
from autoad_core.space import Arch, Space
from autoad_core.spec import Spec
from autoad_core.trial import Job, trial_seed

POLL_SECONDS = 0.5
_Point = tuple[Arch, float, bool]  # what is trained, its share of the budget, whether from shared weights


class Progress(Protocol):
    """What watches a search; the command line draws it."""

    def phase(self, name: str, trials: int) -> None:
        """A phase of at most ``trials`` trials begins."""

    def trial(self, record: Record, *, fresh: bool) -> None:
        """An outcome entered the journal; not ``fresh`` when it was there already."""

    def note(self, text: str) -> None:
        """Something the user should know."""


class Executor(Protocol):
    """What trains children; `autoad_core.workers.Pool` does it in processes of this machine."""

    @property
    def busy(self) -> int:
        """Jobs at work."""

    @property
    def idle(self) -> int:
        """Jobs that can be submitted now."""

    def submit(self, job: Job) -> None:
        """Start a job; there must be an idle place."""

    def results(self, timeout: float) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Jobs that ended, with results as of `run_trial`; waits at most ``timeout`` seconds for the first."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One controller's turn.

    Attributes:
        name: ``search``, ``random`` or ``full``.
        trials: Proposals at most.
        fraction: Share of the training budget.
        controller: Made anew for each life of a run.
        keep: How many of the best models stay on disk.
        sharing: Children start from what others learned, see `autoad_core.sharing`. Trial i of the phase has the pool after
            all batches of ``lag`` trials but its own and the one before: the newest that it can have without waiting.
    """

    name: str
    trials: int
    fraction: float
    controller: Controller
    keep: int
    sharing: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """What all phases share.

    Attributes:
        lag: See the module.
        cap: Predicted seconds at the full budget above which a proposal is skipped.
        images: Training images times epochs at the full budget, for the prediction.
        batch_size: For the prediction.
        seed: Of the run.
    """

    lag: int
    cap: float
    images: int
    batch_size: int
    seed: int


@dataclass(slots=True)
class Engine:
    """Runs phases one after the other on one journal.

    Args:
        run: Locked.
        space: Of all phases.
        shape: (C, H, W) of the images.
        limits: See `Limits`.
        executor: Trains.
        progress: Watches.
        stop: Asked between results; True ends the search once the running children are done.
    """

    run: Run
    space: Space
    shape: Shape
    limits: Limits
    executor: Executor
    progress: Progress
    stop: Callable[[], bool]
    journal: Journal = field(init=False)
    _results: dict[int, dict[str, Any]] = field(init=False)  # finished, by trial, waiting for their turn
    _jobs: dict[int, Record] = field(default_factory=dict)  # proposed, by trial, not in the journal yet
    _ready: list[Job] = field(default_factory=list)  # proposed, waiting for a worker
    _seen: dict[_Point, int] = field(default_factory=dict)  # the trial that trains a point

    def __post_init__(self) -> None:
        self.journal = Journal(self.run)
        if self.journal.torn:
            self.progress.note(
                "the last line of trials.jsonl was torn, by a kill or a full disk; its trial is repeated"
            )
        self._results = load_pending(self.run, len(self.journal.records))

    def run_phase(self, phase: Phase, first: int) -> list[Record]:
        """Run or continue a phase whose trials are numbered from ``first``; its records.

        Raises:
            Interrupted: ``stop`` said so.
            RunError: The journal belongs to another search, or a worker cannot write.
        """
        self.progress.phase(phase.name, phase.trials)
        life = _Life(phase, first)
        self._restore(life)
        stopping = False
        while life.asked > life.written or not (life.exhausted or life.asked == first + phase.trials):
            stopping = stopping or self.stop()
            if stopping and not self.executor.busy:
                raise Interrupted(f"stopped; go on with: autoad resume {self.run.folder}")
            if not stopping:
                self._propose(life)
                self._submit()
            if self.executor.busy:
                for job, result in self.executor.results(POLL_SECONDS):
                    self._finished(job, result)
            self._write(life)
        records = self.journal.records[first : life.asked]
        self._tell(life, life.asked)
        return records

    def retrain(self, records: Sequence[Record]) -> None:
        """Bring back models of ``records`` that are missing on disk, by training them again, seed for seed."""
        missing = {
            r["id"]: r for r in records if not (self.run.candidates / str(r["id"]) / "spec.json").exists()
        }
        waiting = [self._job(r) for r in missing.values()]
        while waiting or self.executor.busy:
            while waiting and self.executor.idle:
                self.executor.submit(waiting.pop())
            for job, result in self.executor.results(POLL_SECONDS):
                if result["status"] != "ok":
                    raise RunError(
                        f"trial {job.id}: its model is lost and cannot be trained again: {result['error']}"
                    )
                if result["value"] != missing[job.id]["value"]:
                    self.progress.note(
                        f"trial {job.id}: its model was lost, and the one trained in its place has AUROC {result['value']:.3f}, "
                        f"not {missing[job.id]['value']:.3f}: another machine or version?"
                    )

    def close(self) -> None:
        """Release the journal."""
        self.journal.close()

    def _restore(self, life: _Life) -> None:
        """Skip ahead to the last saved state of the controller, where it belongs to this phase."""
        state, notes = load_state(self.run, len(self.journal.records))
        for note in notes:
            self.progress.note(note)
        if state is None or state["phase"] != life.phase.name:
            return
        life.phase.controller.load_state_dict(state["controller"])
        life.told = int(state["told"])
        life.asked = life.told
        for record in self.journal.records[life.first : life.told]:
            self._remember(record)
            self._enter(record, life, fresh=False)
        for arch in state["proposals"]:  # asked for before the state was saved, outcome not told yet
            self._accept(life, tuple(arch))

    def _propose(self, life: _Life) -> None:
        """Ask for as many proposals as may be asked for now."""
        last = life.first + life.phase.trials
        while not life.exhausted and life.asked < last:
            known = max(life.first, life.asked - self.limits.lag + 1)
            if life.written < known:
                return
            self._tell(life, known)
            archs = life.phase.controller.ask(1)
            if not archs:
                life.exhausted = True
                return
            self._accept(life, self.space.canonical(tuple(archs[0])))
            self._write(life)

    def _accept(self, life: _Life, arch: Arch) -> None:
        """Number a proposal, and decide whether it is known, too dear, a repetition, or a job."""
        number = life.asked
        life.asked += 1
        spec = Spec.from_values(self.space.decode(arch))
        cost = cost_of(spec, self.shape, self.limits.images, self.limits.batch_size)
        record: Record = {
            "id": number,
            "phase": life.phase.name,
            "arch": list(arch),
            "spec": spec.to_dict(),
            "budget": life.phase.fraction,
            "seed": trial_seed(
                self.limits.seed, number if life.phase.name == "full" else number - life.first
            ),
            "cost": round(cost * life.phase.fraction, 3),
            "cached": self._seen.get((arch, life.phase.fraction, life.phase.sharing)),
        }
        if life.phase.sharing:
            record["pool"] = max(0, (number - life.first) // self.limits.lag - 1) * self.limits.lag
            if number >= len(self.journal.records):
                self._advance(life, record["pool"])
        self._jobs[number] = record
        if number < len(self.journal.records):
            old = self.journal.records[number]
            if old["arch"] != record["arch"] or old["phase"] != record["phase"]:
                raise RunError(
                    f"{self.run.trials}: trial {number} is not what this search proposes; "
                    "the file was changed, or the run was made by another version"
                )
            self._remember(old)
        elif record["cached"] is None and cost > self.limits.cap:
            skipped = f"predicted cost {cost:.1f} s is above the cap of {self.limits.cap:.1f} s"
            self._results[number] = {"status": "skipped", "value": None, "error": skipped, "warnings": []}
        elif record["cached"] is None:
            self._remember(record | {"status": "waiting"})
            if number not in self._results:
                self._ready.append(self._job(record))

    def _job(self, record: Record) -> Job:
        spec = Spec.from_dict(record["spec"])
        return Job(record["id"], spec, record["seed"], record["budget"], record.get("pool"))

    def _advance(self, life: _Life, merged: int) -> None:
        """Have the pool of shared weights after ``merged`` trials of the phase; the two before it are still in use."""
        lag, folder = self.limits.lag, self.run.shared
        if merged == 0:
            return
        batch = self.journal.records[life.first + merged - lag : life.first + merged]
        trained = [r["id"] for r in batch if r["status"] == "ok" and r["cached"] is None]
        sharing.advance(folder, max(0, merged - 2 * lag), merged - lag, trained, merged)
        sharing.pool_file(folder, merged - 3 * lag).unlink(missing_ok=True)

    def _submit(self) -> None:
        while self._ready and self.executor.idle:
            self.executor.submit(self._ready.pop(0))

    def _finished(self, job: Job, result: dict[str, Any]) -> None:
        if result["status"] == "fatal":
            raise RunError(
                f"{self.run.folder}: {result['error']}. What was finished stays: autoad resume {self.run.folder}"
            )
        if job.id != len(self.journal.records):
            save_pending(self.run, job.id, result)
        self._results[job.id] = result

    def _write(self, life: _Life) -> None:
        """Put into the journal what has its turn now."""
        while life.written < life.asked:
            number = life.written
            if number < len(self.journal.records):
                self._jobs.pop(number)
                self._enter(self.journal.records[number], life, fresh=False)
                continue
            source = self._jobs[number]["cached"]
            if source is not None:
                result = _copied(self.journal.records[source])
            elif number in self._results:
                result = self._results.pop(number)
            else:
                return
            record = self._jobs.pop(number) | result
            record.setdefault("clock", {})
            self.journal.append(record)
            drop_pending(self.run, number)
            self._enter(record, life, fresh=True)

    def _enter(self, record: Record, life: _Life, *, fresh: bool) -> None:
        """A record is in the journal: show it, and keep the models of the best only."""
        life.written += 1
        self.progress.trial(record, fresh=fresh)
        before = [*life.best, record]
        life.best = best(before, life.phase.keep)
        for loser in before:
            if loser not in life.best:
                shutil.rmtree(self.run.candidates / str(loser["id"]), ignore_errors=True)

    def _remember(self, record: Record) -> None:
        if record["cached"] is None and record["status"] != "skipped":
            self._seen[tuple(record["arch"]), record["budget"], "pool" in record] = record["id"]

    def _tell(self, life: _Life, upto: int) -> None:
        """Tell the controller outcomes up to trial ``upto``, one by one, and keep its state now and then."""
        while life.told < upto:
            record = self.journal.records[life.told]
            outcome = Outcome(
                record["id"] - life.first,
                tuple(record["arch"]),
                record["status"],
                record["value"],
                record["cost"],
            )
            life.phase.controller.tell([outcome])
            life.told += 1
            if (life.told - life.first) % self.limits.lag == 0:
                self._save_state(life)

    def _save_state(self, life: _Life) -> None:
        proposals = [
            (self.journal.records[i] if i < len(self.journal.records) else self._jobs[i])["arch"]
            for i in range(life.told, life.asked)
        ]
        state = {
            "phase": life.phase.name,
            "told": life.told,
            "proposals": proposals,
            "controller": life.phase.controller.state_dict(),
        }
        save_state(self.run, life.told, state)


@dataclass(slots=True)
class _Life:
    """How far a phase is: trials asked for, written to the journal, and told, all numbered over the whole run."""

    phase: Phase
    first: int
    asked: int = 0
    written: int = 0
    told: int = 0
    exhausted: bool = False
    best: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = self.written = self.told = self.first


def best(records: Sequence[Record], count: int) -> list[Record]:
    """The ``count`` best distinct architectures among ``records``, best first; ties go to the earlier trial."""
    mine = [r for r in records if r["status"] == "ok" and r["cached"] is None]
    ranked = sorted(mine, key=lambda r: (-r["value"], r["id"]))
    distinct = {tuple(r["arch"]): r for r in reversed(ranked)}  # of one architecture, the better record wins
    return sorted(distinct.values(), key=lambda r: (-r["value"], r["id"]))[:count]


def with_source(records: Sequence[Record], everything: Sequence[Record]) -> list[Record]:
    """Cached records replaced by those of the trial that was trained."""
    return [r if r["cached"] is None else everything[r["cached"]] for r in records]


def _copied(source: Record) -> dict[str, Any]:
    """The outcome of a repeated proposal: that of the first, at no cost."""
    keys = ("status", "value", "score", "validation", "terms", "warnings", "parameters", "error")
    return {k: source[k] for k in keys if k in source}
