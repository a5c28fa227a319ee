"""What is compared on AD-NAS-Bench: strategies and problems, and the files that keep the searches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoad_core.component import Kind
from autoad_core.controller import Controller
from autoad_core.discovery import discover
from autoad_core.registry import Registry
from autoad_core.space import Choice, Space
from autoad_core.table import Part, Table

EVALUATIONS = 200
Rows = NDArray[np.int16]  # (seeds, evaluations): which row of the task each evaluation was


@cache
def registry() -> Registry:
    """The built-in components, once a process."""
    return discover(builtin_only=True).registry


@dataclass(frozen=True, slots=True)
class Strategy:
    """A controller with its switches."""

    controller: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def make(self, space: Space, seed: int) -> Controller:
        """The controller."""
        made: Controller = (
            registry().get(Kind.CONTROLLER, self.controller).build(self.params, space=space, seed=seed)
        )
        return made

    def settings(self) -> str:
        """All that it is made with, defaults included."""
        made = self.make(Space((Choice("a", (0, 1)),)), 0)
        return f"{self.controller} {getattr(made, 'settings', dict(self.params))}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched for: a reward on one task of the table."""

    task: str
    score: str
    anomalies: str

    def __str__(self) -> str:
        return f"{self.task}, {self.score}"


REINFORCE = {"bayesian": False, "sharpening": False, "curiosity": 0.0, "replay": 0, "top": 0}
BAYESIAN = REINFORCE | {"bayesian": True}
STRATEGIES = {
    "random": Strategy("random"),
    "regularized-evolution": Strategy("regularized-evolution"),
    "local-search": Strategy("local-search"),
    "tpe": Strategy("tpe"),
    "reinforce": Strategy("bayesian-lstm", REINFORCE),
    "reinforce + replay": Strategy("bayesian-lstm", REINFORCE | {"replay": 10}),
    "reinforce + top K": Strategy("bayesian-lstm", REINFORCE | {"top": 4}),
    "bayesian": Strategy("bayesian-lstm", BAYESIAN),
    "bayesian + sharpening": Strategy("bayesian-lstm", BAYESIAN | {"sharpening": True}),
    "bayesian + curiosity": Strategy("bayesian-lstm", BAYESIAN | {"curiosity": 0.01}),
    "full": Strategy("bayesian-lstm"),
    "paper": Strategy("bayesian-lstm", {"preset": "paper"}),
}
LEARNERS = {"full": "default", "paper": "paper"}  # and their presets
ABLATIONS = {  # Table V of the paper, with the settings of each preset
    f"{name}, {switch} {value:g}": Strategy("bayesian-lstm", {"preset": preset, switch: value})
    for name, preset in LEARNERS.items()
    for switch, value in (("curiosity", 0.0), ("curiosity", 0.1), ("replay", 0), ("replay", 5))
}
PROBLEMS = [
    Problem(task, score, anomalies)
    for task, anomalies in (
        ("fashion-mnist", "minimum"),
        ("cifar10", "tiny-imagenet"),
        ("mnist-8", "anomalous"),
    )
    for score in ("own", "sum")
]
TABLE_V = Problem("fashion-mnist", "own", "cifar10")  # as in the paper


def rewards(table: Table, problem: Problem, part: Part = "validation") -> NDArray[np.float64]:
    """(n,) AUROC of each row of a problem's task, NaN where training failed."""
    return table.values(problem.task, score=problem.score, anomalies=problem.anomalies, part=part)


def todo(problems: Sequence[Problem], strategies: Sequence[str]) -> list[tuple[Problem, str]]:
    """What is to be searched with what."""
    tasks = {p.task for p in problems}
    found = [(p, s) for p in problems for s in STRATEGIES if s in strategies]
    if TABLE_V.task in tasks:
        found += [(TABLE_V, s) for s in ("random", *LEARNERS, *ABLATIONS) if s in strategies]
    return found


@dataclass(frozen=True, slots=True)
class Store:
    """The files that keep the searches. Searches in another table or with other settings count as not made.

    Args:
        folder: Of the files.
        table: The table's file.
    """

    folder: Path
    table: Path

    def file(self, problem: Problem, name: str) -> Path:
        """Where the searches of a problem and strategy lie."""
        parts = (problem.task, problem.score, problem.anomalies, name)
        return self.folder / (".".join(parts).replace(" ", "").replace(",", "-") + ".npz")

    def load(self, problem: Problem, name: str) -> Rows:
        """What is there, (seeds, evaluations)."""
        file = self.file(problem, name)
        if file.exists():
            with np.load(file, allow_pickle=False) as kept:
                if str(kept["made"]) == self._made(problem, name):
                    rows: Rows = kept["rows"]
                    return rows
        return np.empty((0, EVALUATIONS), np.int16)

    def save(self, problem: Problem, name: str, rows: Rows) -> None:
        """Write aside and rename, so that a kill leaves the old file or the new one."""
        file = self.file(problem, name)
        aside = file.with_name(f".{file.name}")
        with aside.open("wb") as opened:
            np.savez_compressed(opened, rows=rows, made=np.array(self._made(problem, name)))
        aside.replace(file)

    def _made(self, problem: Problem, name: str) -> str:
        return f"{_digest(self.table, problem.task)} {(STRATEGIES | ABLATIONS)[name].settings()}"


@cache
def opened(path: Path) -> Table:
    """The table, once a process."""
    return Table.open(path)


@cache
def _digest(path: Path, task: str) -> str:
    rows = opened(path).tasks[task]
    return hashlib.blake2b(rows.archs.tobytes() + rows.aurocs.tobytes(), digest_size=16).hexdigest()
