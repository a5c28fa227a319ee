"""The search loop, with a fake executor: whatever the workers, their order and the kills, the journal is one and the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from autoad_core import sharing
from autoad_core.controller import Fixed, Outcome
from autoad_core.errors import Interrupted, RunError
from autoad_core.run import Run, create, open_run
from autoad_core.search import Engine, Limits, Phase, best
from autoad_core.space import Arch, Choice, Space
from autoad_core.trial import Job
from autoad_plugins._evolution import RegularizedEvolution
from autoad_plugins._random import RandomSearch

SPACE = Space(
    (
        Choice("hypothesis", ("autoad/a", "autoad/b")),
        Choice("distance", ("autoad/l1", "autoad/l2")),
        Choice("layer1.channels", (3, 8, 16, 32)),
        Choice("layer1.kernel", (1, 3)),
        Choice("layer1.pooling", ("autoad/max",)),
        Choice("layer1.pooling_kernel", (1, 3)),
        Choice("layer1.normalization", ("autoad/none",)),
        Choice("layer1.activation", ("autoad/relu", "autoad/elu")),
    )
)


class Quiet:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.fresh = 0

    def phase(self, name: str, trials: int) -> None: ...

    def trial(self, record: dict[str, Any], *, fresh: bool) -> None:
        self.fresh += fresh

    def note(self, text: str) -> None:
        self.notes.append(text)


class Crash(BaseException):
    """Stands for SIGKILL: nothing of the engine may run after it."""


class FakeExecutor:
    """Jobs end in random order; after ``life`` results the process is killed."""

    def __init__(self, run: Run, size: int, seed: int, life: int | None = None) -> None:
        self._run, self._size, self._rng, self._life = run, size, random.Random(seed), life
        self._jobs: list[Job] = []
        self.trained: list[int] = []

    @property
    def busy(self) -> int:
        return len(self._jobs)

    @property
    def idle(self) -> int:
        return self._size - len(self._jobs)

    def submit(self, job: Job) -> None:
        assert self.idle > 0
        self._jobs.append(job)

    def results(self, timeout: float) -> Iterator[tuple[Job, dict[str, Any]]]:
        for _ in range(self._rng.randint(0, len(self._jobs))):
            if self._life is not None:
                self._life -= 1
                if self._life < 0:
                    raise Crash
            job = self._jobs.pop(self._rng.randrange(len(self._jobs)))
            self.trained.append(job.id)
            folder = self._run.candidates / str(job.id)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "spec.json").write_text(f"{job.seed}")
            yield job, outcome(job, self._run.shared)


def outcome(job: Job, shared: Path) -> dict[str, Any]:
    """A deterministic stand-in for training, from shared weights if it has any; one in seven fails."""
    pool = load_file(sharing.pool_file(shared, job.pool)) if job.pool else {}
    rng = random.Random(
        f"{job.spec}{job.seed}{job.fraction}{sorted((k, v.tolist()) for k, v in pool.items())}"
    )
    if rng.random() < 1 / 7:
        return {"status": "failed", "value": None, "error": "NaN", "warnings": []}
    if job.pool is not None:
        child = nn.Linear(rng.randint(1, 2), 1)
        nn.init.zeros_(child.weight)
        nn.init.zeros_(child.bias)
        if job.pool:
            sharing.adopt(child, sharing.pool_file(shared, job.pool))
        with torch.no_grad():
            child.bias += rng.random()
            child.weight += rng.random()
        sharing.leave(child, shared, job.id)
    return {"status": "ok", "value": rng.random(), "score": "own", "validation": {}, "warnings": []}


def limits(**more: Any) -> Limits:
    return Limits(**{"lag": 4, "cap": float("inf"), "images": 1000, "batch_size": 64, "seed": 7, **more})


def search(run: Run, executor: FakeExecutor, limits: Limits, sharing: bool = False) -> Quiet:
    progress = Quiet()
    engine = Engine(run, SPACE, (1, 8, 8), limits, executor, progress, lambda: False)
    try:
        controller = RegularizedEvolution(SPACE, limits.seed, population=8, sample=3)
        found = engine.run_phase(Phase("search", 40, 0.25, controller, 3, sharing), 0)
        others = engine.run_phase(Phase("random", 10, 0.25, RandomSearch(SPACE, limits.seed), 3), len(found))
        top = [tuple(r["arch"]) for r in best(found, 5)]
        full = engine.run_phase(Phase("full", len(top), 1.0, Fixed(top), 3), len(found) + len(others))
        engine.retrain(best(full, 3))
    finally:
        engine.close()
    return progress


def journal(run: Run) -> str:
    return run.trials.read_text()


def models(run: Run) -> dict[str, str]:
    return {p.parent.name: p.read_text() for p in sorted(run.candidates.glob("*/spec.json"))}


@pytest.fixture(scope="module", params=[False, True], ids=["apart", "sharing"])
def shared(request: pytest.FixtureRequest) -> bool:
    """Whether children share weights."""
    return bool(request.param)


@pytest.fixture(scope="module")
def reference(shared: bool, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    with create(tmp_path_factory.mktemp("reference") / "run", {}, {}) as run:
        search(run, FakeExecutor(run, 1, 0), limits(), shared)
        return journal(run), models(run)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("order", range(5))
def test_the_journal_does_not_know_the_workers(
    tmp_path: Path, reference: tuple[str, dict[str, str]], shared: bool, workers: int, order: int
) -> None:
    with create(tmp_path / "run", {}, {}) as run:
        search(run, FakeExecutor(run, workers, order), limits(), shared)
        assert (journal(run), models(run)) == reference


@pytest.mark.parametrize("seed", range(20))
def test_kills_at_random_moments_leave_no_trace(
    tmp_path: Path, reference: tuple[str, dict[str, str]], shared: bool, seed: int
) -> None:
    rng = random.Random(seed)
    with create(tmp_path / "run", {}, {}) as run:
        pass
    trained: list[int] = []
    for life in [rng.randint(0, 12) for _ in range(10)] + [None]:
        with open_run(tmp_path / "run") as run:
            executor = FakeExecutor(run, rng.randint(1, 6), rng.randrange(1000), life)
            if rng.random() < 0.3 and run.trials.exists():  # a kill in the middle of a line
                run.trials.write_bytes(run.trials.read_bytes()[: -rng.randint(1, 30)])
            with suppress(Crash):
                search(run, executor, limits(), shared)
            trained += executor.trained
    assert (journal(run), models(run)) == reference


def test_a_finished_result_is_not_trained_again_after_a_kill(tmp_path: Path) -> None:
    with create(tmp_path / "run", {}, {}) as run:
        first = FakeExecutor(run, 4, 3, life=9)
        with pytest.raises(Crash):
            search(run, first, limits())
    with open_run(tmp_path / "run") as run:
        second = FakeExecutor(run, 4, 4)
        search(run, second, limits())
        kept = {r["id"] for r in run.records()}
    again = set(first.trained) & set(second.trained)
    # only models of the best that were pruned before the kill may be trained once more, and here none was
    assert not again
    assert kept


def test_half_written_state_falls_back(
    tmp_path: Path, reference: tuple[str, dict[str, str]], shared: bool
) -> None:
    with create(tmp_path / "run", {}, {}) as run, pytest.raises(Crash):
        search(run, FakeExecutor(run, 2, 1, life=20), limits(), shared)
    states = sorted((run.folder / "state").glob("[0-9]*.json"))
    assert len(states) == 2  # the last two are kept
    states[-1].write_text(states[-1].read_text()[:100])
    with open_run(tmp_path / "run") as run:
        progress = search(run, FakeExecutor(run, 2, 2), limits(), shared)
    assert any("damaged" in note for note in progress.notes)
    assert (journal(run), models(run)) == reference


def test_proposals_know_the_outcomes_up_to_the_lag_and_no_others(tmp_path: Path) -> None:
    class Spy:
        def __init__(self) -> None:
            self.told = 0
            self.asked = 0
            self.rng = random.Random(0)

        def ask(self, n: int) -> list[Arch]:
            assert self.told == max(0, self.asked - 5 + 1)
            self.asked += n
            return [SPACE.sample(self.rng) for _ in range(n)]

        def tell(self, outcomes: list[Outcome]) -> None:
            assert [o.id for o in outcomes] == [self.told]
            self.told += 1

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    with create(tmp_path / "run", {}, {}) as run:
        engine = Engine(run, SPACE, (1, 8, 8), limits(lag=5), FakeExecutor(run, 3, 0), Quiet(), lambda: False)
        spy = Spy()
        assert len(engine.run_phase(Phase("search", 30, 1.0, spy, 3), 0)) == 30
        assert spy.told == 30
        engine.close()


def test_repetitions_are_answered_from_the_cache(tmp_path: Path) -> None:
    arch = SPACE.sample(random.Random(0))
    with create(tmp_path / "run", {}, {}) as run:
        executor = FakeExecutor(run, 2, 0)
        engine = Engine(run, SPACE, (1, 8, 8), limits(), executor, Quiet(), lambda: False)
        records = engine.run_phase(Phase("search", 5, 1.0, Fixed([arch] * 5), 3), 0)
        engine.close()
    assert executor.trained == [0]
    assert [r["cached"] for r in records] == [None, 0, 0, 0, 0]
    assert len({(r["status"], r["value"]) for r in records}) == 1
    assert best(records, 3) == records[:1] or records[0]["status"] == "failed"


def test_too_dear_is_skipped_and_told_as_such(tmp_path: Path) -> None:
    with create(tmp_path / "run", {}, {}) as run:
        executor = FakeExecutor(run, 2, 0)
        engine = Engine(run, SPACE, (1, 8, 8), limits(cap=0.0), executor, Quiet(), lambda: False)
        records = engine.run_phase(Phase("search", 4, 1.0, RandomSearch(SPACE, 0), 3), 0)
        engine.close()
    assert executor.trained == []
    assert {r["status"] for r in records} == {"skipped"}
    assert "above the cap" in records[0]["error"]


def test_a_space_that_is_used_up_ends_the_phase(tmp_path: Path) -> None:
    with create(tmp_path / "run", {}, {}) as run:
        engine = Engine(run, SPACE, (1, 8, 8), limits(), FakeExecutor(run, 4, 0), Quiet(), lambda: False)
        records = engine.run_phase(Phase("search", 10_000, 1.0, RandomSearch(SPACE, 0), 3), 0)
        engine.close()
    assert len(records) == SPACE.size


def test_stopping_lets_running_children_end_and_keeps_them(
    tmp_path: Path, reference: tuple[str, dict[str, str]], shared: bool
) -> None:
    with create(tmp_path / "run", {}, {}) as run:
        asked = iter([False] * 12 + [True] * 1000)
        executor = FakeExecutor(run, 3, 0)
        engine = Engine(run, SPACE, (1, 8, 8), limits(), executor, Quiet(), lambda: next(asked))
        with pytest.raises(Interrupted, match="autoad resume"):
            engine.run_phase(
                Phase("search", 40, 0.25, RegularizedEvolution(SPACE, 7, population=8, sample=3), 3, shared),
                0,
            )
        engine.close()
        assert executor.busy == 0
    with open_run(tmp_path / "run") as run:
        second = FakeExecutor(run, 3, 0)
        search(run, second, limits(), shared)
        assert (journal(run), models(run)) == reference
        assert not set(second.trained) & set(executor.trained)


def test_a_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    with create(tmp_path / "run", {}, {}) as run:
        search(run, FakeExecutor(run, 2, 0), limits())
        lines = run.trials.read_text().splitlines()
        changed = json.loads(lines[5])
        changed["arch"][2] = (changed["arch"][2] + 1) % 4
        lines[5] = json.dumps(changed, sort_keys=True)
        run.trials.write_text("\n".join(lines) + "\n")
        for state in (run.folder / "state").glob("[0-9]*.json"):
            state.unlink()
        with pytest.raises(RunError, match="trial 5 is not what this search proposes"):
            search(run, FakeExecutor(run, 2, 0), limits())


def test_a_worker_that_cannot_write_stops_the_search(tmp_path: Path) -> None:
    class Full(FakeExecutor):
        def results(self, timeout: float) -> Iterator[tuple[Job, dict[str, Any]]]:
            yield self._jobs.pop(), {"status": "fatal", "error": "[Errno 28] No space left on device"}

    with (
        create(tmp_path / "run", {}, {}) as run,
        pytest.raises(RunError, match=r"No space left on device\. What was"),
    ):
        search(run, Full(run, 1, 0), limits())


def test_a_lost_model_is_trained_again(
    tmp_path: Path, reference: tuple[str, dict[str, str]], shared: bool
) -> None:
    with create(tmp_path / "run", {}, {}) as run:
        search(run, FakeExecutor(run, 2, 0), limits(), shared)
        full = [r for r in run.records() if r["phase"] == "full"]
        lost = run.candidates / str(best(full, 1)[0]["id"]) / "spec.json"
        before = lost.read_text()
        lost.unlink()
        search(run, FakeExecutor(run, 2, 0), limits(), shared)
        assert lost.read_text() == before


def test_a_trial_starts_from_the_batches_before_the_last(tmp_path: Path) -> None:
    """Trials 0 to 7 from nothing, 8 to 11 from those of 0 to 3, and so on; three pools stay on disk."""
    with create(tmp_path / "run", {}, {}) as run:
        search(run, FakeExecutor(run, 3, 0), limits(), sharing=True)
        records = run.records()
    pools = [r.get("pool") for r in records]
    assert pools[:40] == [max(0, i // 4 - 1) * 4 for i in range(40)]
    assert set(pools[40:]) == {None}
    left = sorted(path.name for path in run.shared.glob("pool-*"))
    assert left == ["pool-24.safetensors", "pool-28.safetensors", "pool-32.safetensors"]


def test_random_search_is_not_answered_by_children_with_shared_weights(tmp_path: Path) -> None:
    """Evolution begins with the points that random search has, so without sharing they are known already."""
    with create(tmp_path / "run", {}, {}) as run:
        search(run, FakeExecutor(run, 3, 0), limits(), sharing=True)
        random_phase = [r for r in run.records() if r["phase"] == "random"]
        first = {r["id"] for r in run.records() if r["phase"] == "search"}
    assert not any(r["cached"] in first for r in random_phase)
    with create(tmp_path / "apart", {}, {}) as run:
        search(run, FakeExecutor(run, 3, 0), limits())
        assert any(r["cached"] in first for r in run.records() if r["phase"] == "random")


def test_lost_shared_weights_are_named(tmp_path: Path) -> None:
    with create(tmp_path / "run", {}, {}) as run, pytest.raises(Crash):
        search(run, FakeExecutor(run, 2, 1, life=20), limits(), sharing=True)
    for path in run.shared.iterdir():
        path.unlink()
    with open_run(tmp_path / "run") as run, pytest.raises(RunError, match="shared weights are missing"):
        search(run, FakeExecutor(run, 2, 2), limits(), sharing=True)
