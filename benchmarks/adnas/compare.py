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
    Store,
    Strategy,
    opened,
    rewards,
    todo,
)

from autoad_core.controller import Outcome, Status
from autoad_core.space import Arch, Space

TABLE = Path(__file__).with_name("adnas.npz")
DOCS = Path(__file__).parents[2] / "docs"
LAG = 8  # of `autoad search`
CHUNK = 20  # seeds between two writes


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
    controller = strategy.make(space, seed)
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


def run(store: Store, seeds: int, work: Sequence[tuple[Problem, str]], processes: int) -> None:
    """Do what is missing."""
    store.folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        for problem, name in work:
            strategy = (STRATEGIES | ABLATIONS)[name]
            done = list(store.load(problem, name))
            before = len(done)
            while len(done) < seeds:
                more = range(len(done), min(len(done) + CHUNK, seeds))
                jobs = [(store.table, problem, strategy, seed) for seed in more]
                done += [np.array(r, np.int16) for r in pool.map(search, *zip(*jobs, strict=True))]
                store.save(problem, name, np.stack(done))
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
    tasks = list(dict.fromkeys(p.task for p in PROBLEMS))
    parser.add_argument("--task", nargs="*", default=tasks, choices=tasks)
    parser.add_argument("--strategy", nargs="*", default=every, choices=every)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--docs", type=Path, default=DOCS)
    given = parser.parse_args()
    problems = [p for p in PROBLEMS if p.task in given.task]
    store = Store(given.to, given.table)
    run(store, given.seeds, todo(problems, given.strategy), given.processes)
    write(store, given.docs, problems)


if __name__ == "__main__":
    main()
