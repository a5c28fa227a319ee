"""A search whose trials are looked up in a table instead of trained: the same engine and journal, in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoad_core import modelfile, run
from autoad_core.component import Kind
from autoad_core.config import Config, TableConfig
from autoad_core.controller import Controller
from autoad_core.discovery import Plugins
from autoad_core.errors import ConfigError, DataError, RunError, at
from autoad_core.registry import Registry
from autoad_core.run import Record, Run
from autoad_core.search import Engine, Limits, Phase, Progress, best, with_source
from autoad_core.space import Arch, Space
from autoad_core.spec import Spec
from autoad_core.table import PARTS, Part, Table
from autoad_core.trial import Job


class TableExecutor:
    """Answers jobs from a table; an `autoad_core.search.Executor`.

    Args:
        table: Holds the task.
        given: Which of its figures is the reward.

    Raises:
        DataError: A name in ``given`` that the table does not have.
    """

    def __init__(self, table: Table, given: TableConfig) -> None:
        self._values = lookup(table, given, "validation")
        self._space, self._score = table.tasks[given.task].space, given.score
        self._done: list[tuple[Job, dict[str, Any]]] = []

    @property
    def busy(self) -> int:
        """Answers that were not collected."""
        return len(self._done)

    @property
    def idle(self) -> int:
        """Always one: an answer takes no time."""
        return 1

    def submit(self, job: Job) -> None:
        """Look a job up; an architecture that the table does not have is skipped."""
        arch = self._space.encode(job.spec.to_values())
        value = self._values.get(arch)
        result: dict[str, Any] = {"status": "ok", "value": value, "score": self._score, "warnings": []}
        if arch not in self._values:
            result |= {"status": "skipped", "error": "the table does not have it"}
        elif value is None:
            result |= {"status": "failed", "error": "its training failed when the table was made"}
        self._done.append((job, result))

    def results(self, timeout: float) -> Iterator[tuple[Job, dict[str, Any]]]:
        """All answers."""
        yield from self._done
        self._done = []


def lookup(table: Table, given: TableConfig, part: Part) -> dict[Arch, float | None]:
    """The figure of every architecture of the task, None where its training failed."""
    values = table.values(given.task, score=given.score, anomalies=given.anomalies, part=part)
    archs = table.tasks[given.task].archs.tolist()
    return {tuple(a): None if np.isnan(v) else round(float(v), 6) for a, v in zip(archs, values, strict=True)}


def start(
    config: Config, folder: Path, plugins: Plugins, progress: Progress, stop: Callable[[], bool]
) -> dict[str, Any]:
    """As `autoad_core.launch.start`, for a configuration with ``table``."""
    table, resolved = _prepare(config, plugins.registry)
    with run.create(folder, config.model_dump(mode="json"), resolved) as opened:
        return _carry_out(opened, config, table, plugins.registry, progress, stop)


def resume(
    opened: Run, config: Config, plugins: Plugins, progress: Progress, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Go on with a run in a table.

    Raises:
        RunError: The table is another one.
    """
    table, resolved = _prepare(config, plugins.registry)
    if resolved["table"] != opened.config["resolved"].get("table"):
        raise RunError(f"{opened.folder}: the table has changed since the run began; restore it")
    if resolved["components"] != opened.config["resolved"].get("components"):
        progress.note("the controller has another version than when the run began; results may differ")
    return _carry_out(opened, config, table, plugins.registry, progress, stop)


def _prepare(config: Config, registry: Registry) -> tuple[Table, dict[str, Any]]:
    assert config.table is not None
    try:
        table = Table.open(config.table.path)
        TableExecutor(table, config.table)
    except DataError as error:
        raise ConfigError(f"table: {error}") from error
    space = table.tasks[config.table.task].space
    with at("controller"):
        _controller(config, registry, space, config.controller.name, config.controller.params)
        entry = registry.get(Kind.CONTROLLER, config.controller.name)
    digest = hashlib.blake2b(Path(config.table.path).read_bytes(), digest_size=16).hexdigest()
    return table, {"components": {entry.id: entry.origin.version}, "controller": entry.id, "table": digest}


def _controller(
    config: Config, registry: Registry, space: Space, name: str, params: Mapping[str, Any]
) -> Controller:
    made: Controller = registry.get(Kind.CONTROLLER, name).build(params, space=space, seed=config.seed)
    return made


def _carry_out(
    opened: Run,
    config: Config,
    table: Table,
    registry: Registry,
    progress: Progress,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    given, search = config.table, config.search
    assert given is not None
    shape = tuple(table.about["tasks"][given.task]["shape"])
    limits = Limits(search.lag, float("inf"), 1, config.train.batch_size, config.seed)
    space = table.tasks[given.task].space
    engine = Engine(opened, space, shape, limits, TableExecutor(table, given), progress, stop)
    try:
        made = _controller(config, registry, space, config.controller.name, config.controller.params)
        found = engine.run_phase(Phase("search", search.trials, 1.0, made, search.keep), 0)
        at_random = found[: search.random_trials]
        controller = registry.get(Kind.CONTROLLER, config.controller.name).id
        if search.random_trials and controller != "autoad/random":
            simple = _controller(config, registry, space, "autoad/random", {})
            at_random = engine.run_phase(Phase("random", search.random_trials, 1.0, simple, 1), len(found))
    finally:
        engine.close()
    result = _result(config, table, found, with_source(at_random, found))
    modelfile.write_json(opened.folder / "result.json", result)
    run.tidy(opened)
    return result


def _result(config: Config, table: Table, found: list[Record], at_random: list[Record]) -> dict[str, Any]:
    """The best of a search beside random's and the table's, in the form of `autoad_core.result.compare`."""
    given, search = config.table, config.search
    assert given is not None
    task = table.tasks[given.task]
    values = {part: lookup(table, given, part) for part in PARTS}
    repeated = {
        part: table.seeds(given.task, score=given.score, anomalies=given.anomalies, part=part)
        for part in PARTS
    }
    spread = {
        part: 1.96 * float(np.sqrt(np.nanmean(np.nanvar(seeds, axis=1, ddof=1)))) if len(seeds) else 0.0
        for part, seeds in repeated.items()
    }

    def row(name: str, arch: Arch) -> dict[str, Any]:
        out: dict[str, Any] = {"name": name, "score": given.score}
        for part in PARTS:
            v = values[part][arch]
            assert v is not None  # it was the best of something
            ends = {"low": max(0.0, v - spread[part]), "high": min(1.0, v + spread[part])}
            out[part] = {"reward": {"value": v, **ends}, "sets": {}}
        return out | {"spec": Spec.from_values(task.space.decode(arch)).to_dict()}

    trained = {arch: v for arch, v in values["validation"].items() if v is not None}
    baselines = [
        row(f"random search, {search.random_trials} trials", tuple(r["arch"])) for r in best(at_random, 1)
    ]
    baselines.append(row("best of the table", max(trained, key=lambda arch: trained[arch])))
    statuses = [r["status"] if r["cached"] is None else "cached" for r in found]
    return {
        "models": [
            {"id": r["id"], **row(f"trial {r['id']}", tuple(r["arch"]))} for r in best(found, search.keep)
        ],
        "baselines": baselines,
        "counts": {s: statuses.count(s) for s in ("ok", "failed", "skipped", "cached")},
        "aggregate": given.anomalies,
        "intervals": "1.96 standard deviations of training with another seed"
        if len(repeated["test"])
        else "no intervals, for nothing was trained twice",
        "space": task.space.size,
        "groups": list(task.sets),
        "images": {},
        "notes": ["looked up in a table: nothing was trained, and there is no model"],
    }
