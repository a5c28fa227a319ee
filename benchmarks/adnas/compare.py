"""Compare search strategies on AD-NAS-Bench over hundreds of seeds, and report.

    python benchmarks/adnas/compare.py --to FOLDER [--seeds 300] [--task fashion-mnist ...] [--strategy random ...]

Which rows of the table each search evaluated is kept in FOLDER, one file for each problem and strategy; started again, it adds
what is missing. A search is asked and told as `autoad search` does it, with outcomes eight proposals late; a seed gives the same
search every time. Then ``docs/strategies.md`` and its pictures are written from what is there.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from report import write
from strategies import (
    ABLATIONS,
    EVALUATIONS,
    PROBLEMS,
    STRATEGIES,
    Problem,
    Strategy,
    file_of,
    load,
    rewards,
    todo,
)

from autoad_core.component import Kind
from autoad_core.controller import Outcome, Status
from autoad_core.discovery import discover
from autoad_core.registry import Registry
from autoad_core.space import Arch, Space
from autoad_core.table import Table

TABLE = Path(__file__).with_name("adnas.npz")
DOCS = Path(__file__).parents[2] / "docs"
LAG = 8  # of `autoad search`
CHUNK = 20  # seeds between two writes


@cache
def opened(path: Path) -> Table:
    """The table, once a process."""
    return Table.open(path)


@cache
def registry() -> Registry:
    """The built-in components, once a process."""
    return discover(builtin_only=True).registry


@cache
def lookup(path: Path, problem: Problem) -> tuple[dict[Arch, int], list[float | None]]:
    """The row of each architecture, and what the rows are worth."""
    table = opened(path)
    at: dict[Arch, int] = {tuple(a): i for i, a in enumerate(table.tasks[problem.task].archs.tolist())}
    return at, [None if np.isnan(v) else float(v) for v in rewards(table, problem)]


def propose(
    space: Space, strategy: Strategy, seed: int, count: int, worth: Callable[[Arch], float | None]
) -> list[Arch]:
    """The proposals of one search; ``worth`` is the reward of each, None where training failed."""
    entry = registry().get(Kind.CONTROLLER, strategy.controller)
    controller = entry.build(strategy.params, space=space, seed=seed)
    asked: list[Arch] = []
    values: list[float | None] = []
    for i in range(count):
        if i >= LAG:
            value = values[i - LAG]
            status: Status = "failed" if value is None else "ok"
            controller.tell([Outcome(i - LAG, asked[i - LAG], status, value)])
        asked += controller.ask(1)
        values.append(worth(asked[-1]))
    return asked


def search(path: Path, problem: Problem, strategy: Strategy, seed: int) -> list[int]:
    """Rows of one search's evaluations, in the order of its proposals."""
    torch.set_num_threads(1)
    at, worth = lookup(path, problem)
    space = opened(path).tasks[problem.task].space
    return [at[arch] for arch in propose(space, strategy, seed, EVALUATIONS, lambda arch: worth[at[arch]])]


def run(folder: Path, path: Path, seeds: int, work: Sequence[tuple[Problem, str]], processes: int) -> None:
    """Do what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        for problem, name in work:
            strategy = (STRATEGIES | ABLATIONS)[name]
            done = list(load(folder, problem, name))
            before = len(done)
            while len(done) < seeds:
                more = range(len(done), min(len(done) + CHUNK, seeds))
                jobs = [(path, problem, strategy, seed) for seed in more]
                done += [np.array(r, np.int16) for r in pool.map(search, *zip(*jobs, strict=True))]
                np.save(file_of(folder, problem, name), np.stack(done))
            if len(done) > before:
                print(f"{problem}, {name}: {len(done)} seeds", flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*STRATEGIES, *ABLATIONS]
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--task", nargs="*", default=[p.task for p in PROBLEMS])
    parser.add_argument("--strategy", nargs="*", default=every, choices=every)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--docs", type=Path, default=DOCS)
    given = parser.parse_args()
    problems = [p for p in PROBLEMS if p.task in given.task]
    run(given.to, given.table, given.seeds, todo(problems, given.strategy), given.processes)
    write(Table.open(given.table), given.to, given.docs)


if __name__ == "__main__":
    main()
