"""What is compared on AD-NAS-Bench: strategies, problems, and the files that keep the searches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoad_core.table import Part, Table

EVALUATIONS = 200
Rows = NDArray[np.int16]  # (seeds, evaluations): which row of the task each evaluation was


@dataclass(frozen=True, slots=True)
class Strategy:
    """A controller with its switches."""

    controller: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched for: a reward on one task of the table."""

    task: str
    score: str
    anomalies: str

    def __str__(self) -> str:
        return f"{self.task}, {self.score}"


REINFORCE = {"bayesian": False, "curiosity": 0.0, "replay": 0}
STRATEGIES = {
    "random": Strategy("random"),
    "regularized-evolution": Strategy("regularized-evolution"),
    "local-search": Strategy("local-search"),
    "tpe": Strategy("tpe"),
    "reinforce": Strategy("bayesian-lstm", REINFORCE),
    "reinforce + replay": Strategy("bayesian-lstm", REINFORCE | {"replay": 10}),
    "reinforce + top K": Strategy("bayesian-lstm", REINFORCE | {"top": 4}),
    "bayesian": Strategy("bayesian-lstm", {"sharpening": False, "curiosity": 0.0, "replay": 0}),
    "bayesian + sharpening": Strategy("bayesian-lstm", {"curiosity": 0.0, "replay": 0}),
    "bayesian + curiosity": Strategy("bayesian-lstm", {"sharpening": False, "replay": 0}),
    "full": Strategy("bayesian-lstm"),
    "paper": Strategy("bayesian-lstm", {"preset": "paper"}),
}
ABLATIONS = {  # Table V of the paper, with the settings of each preset
    f"{name}, {switch} {value:g}": Strategy("bayesian-lstm", {"preset": preset, switch: value})
    for name, preset in (("full", "default"), ("paper", "paper"))
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


def file_of(folder: Path, problem: Problem, strategy: str) -> Path:
    """Where the searches of a problem and strategy lie."""
    parts = (problem.task, problem.score, problem.anomalies, strategy)
    return folder / (".".join(parts).replace(" ", "").replace(",", "-") + ".npy")


def load(folder: Path, problem: Problem, strategy: str) -> Rows:
    """What is there, (seeds, evaluations)."""
    file = file_of(folder, problem, strategy)
    if not file.exists():
        return np.empty((0, EVALUATIONS), np.int16)
    rows: Rows = np.load(file, allow_pickle=False)
    return rows


def todo(problems: Sequence[Problem], strategies: Sequence[str]) -> list[tuple[Problem, str]]:
    """What is to be searched with what."""
    tasks = {p.task for p in problems}
    found = [(p, s) for p in problems for s in STRATEGIES if s in strategies]
    if TABLE_V.task in tasks:
        found += [(TABLE_V, s) for s in ("random", "full", "paper", *ABLATIONS) if s in strategies]
    return found
