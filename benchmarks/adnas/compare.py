"""Compare search strategies on AD-NAS-Bench over hundreds of seeds.

    python benchmarks/adnas/compare.py --to FOLDER [--seeds 300] [--task fashion-mnist ...] [--strategy random ...]

One file of rewards, (seeds, 200), for each task, score and strategy; what is there already is left out. A search is asked and
told as `autoad search` does it, with outcomes eight proposals late; a seed gives the same search every time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from autoad_core.component import Kind
from autoad_core.controller import Outcome
from autoad_core.discovery import discover
from autoad_core.space import Arch
from autoad_core.table import Table

TABLE = Path(__file__).with_name("adnas.npz")
EVALUATIONS = 200
LAG = 8  # of `autoad search`


@dataclass(frozen=True, slots=True)
class Strategy:
    """A controller with its switches."""

    controller: str
    params: Mapping[str, Any] = field(default_factory=dict)


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
TASKS = tuple(
    (task, score, anomalies)
    for task, sets in (
        ("fashion-mnist", ("mnist", "cifar10", "notmnist", "minimum", "mean")),
        ("cifar10", ("tiny-imagenet",)),
        ("mnist-8", ("anomalous",)),
    )
    for score in ("own", "sum")
    for anomalies in sets
)
Curves = NDArray[np.float64]  # (seeds, evaluations): the reward of every evaluation, NaN where there is none


@cache
def rewards(path: Path, task: str, score: str, anomalies: str) -> dict[Arch, float]:
    """Validation AUROC of every architecture of a task that was trained."""
    table = Table.open(path)
    values = table.values(task, score=score, anomalies=anomalies)
    archs = table.tasks[task].archs.tolist()
    return {tuple(a): float(v) for a, v in zip(archs, values, strict=True) if not np.isnan(v)}


def search(path: Path, what: tuple[str, str, str], strategy: str, seed: int) -> list[float]:
    """Rewards of one search, in the order of its proposals."""
    torch.set_num_threads(1)
    known = rewards(path, *what)
    space = Table.open(path).space
    chosen = STRATEGIES[strategy]
    entry = discover(builtin_only=True).registry.get(Kind.CONTROLLER, chosen.controller)
    controller = entry.build(chosen.params, space=space, seed=seed)
    asked: list[Arch] = []
    for i in range(EVALUATIONS):
        if i >= LAG:
            value = known.get(asked[i - LAG])
            status = "skipped" if value is None else "ok"
            controller.tell([Outcome(i - LAG, asked[i - LAG], status, value)])  # type: ignore[arg-type]
        asked += controller.ask(1)
    return [known.get(arch, float("nan")) for arch in asked]


def file_of(folder: Path, what: tuple[str, str, str], strategy: str) -> Path:
    """Where the curves of a task and strategy lie."""
    return folder / (".".join((*what, strategy.replace(" ", ""))) + ".npy")


def run(
    folder: Path, path: Path, seeds: int, tasks: list[str], strategies: list[str], processes: int
) -> None:
    """Do what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    present = Table.open(path).tasks
    with ProcessPoolExecutor(processes, context) as pool:
        for what in (t for t in TASKS if t[0] in present and t[0] in tasks):
            for strategy in strategies:
                file = file_of(folder, what, strategy)
                if file.exists() and len(np.load(file, allow_pickle=False)) >= seeds:
                    continue
                begin = time.perf_counter()
                every = list(
                    pool.map(
                        search,
                        *zip(*((path, what, strategy, s) for s in range(seeds)), strict=True),
                        chunksize=4,
                    )
                )
                np.save(file, np.array(every))
                each = 1e3 * (time.perf_counter() - begin) * processes / seeds / EVALUATIONS
                best = np.nanmax(every, axis=1).mean()
                print(f"{' '.join(what)}, {strategy}: {best:.4f}, {each:.1f} ms a proposal", flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--task", nargs="*", default=[t for t, _, _ in TASKS])
    parser.add_argument("--strategy", nargs="*", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    run(given.to, given.table, given.seeds, given.task, given.strategy, given.processes)


if __name__ == "__main__":
    main()
