"""Whether AD-NAS-Bench tells the truth: the same searches with real training, seeds that the table never saw.

    python benchmarks/adnas/check.py --data-root DIR --to FOLDER [--task fashion-mnist] [--trials 100] [--seeds 3]

Every proposal is trained and scored as the table's rows were, by the same function, with a seed of its own. One line a search is
appended to ``FOLDER/TASK.SCORE.jsonl``; started again, it goes on. Then what came out is printed beside what the table predicts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import generate
import measures
import numpy as np
from compare import TABLE, propose, search
from generate import Work, Worker
from strategies import PROBLEMS, STRATEGIES, Problem, rewards

from autoad_core.metrics import AGGREGATES
from autoad_core.space import Arch
from autoad_core.table import Table

BEST = ("regularized-evolution", "tpe", "full")  # of the comparison, on `fashion-mnist`, `own`
PREDICTING = 100  # searches in the table


def train_for_real(problem: Problem, strategy: str, seed: int, trials: int) -> dict[str, Any]:
    """One search in a process that `generate.start_worker` has prepared."""
    worker, records = Worker.here, {}
    sets = worker.groups

    def figure(record: dict[str, Any], part: str) -> float:
        aurocs = np.array(record["aurocs"][part][problem.score])
        if problem.anomalies in AGGREGATES:
            return float(AGGREGATES[problem.anomalies](aurocs))  # type: ignore[index]
        return float(aurocs[sets.index(problem.anomalies)])

    def worth(arch: Arch) -> float | None:
        if arch not in records:
            number = generate.SEEDS + 1000 * seed + len(records)  # another training seed for every one
            records[arch] = worker.measure(Work(number, arch, generate.SEEDS + seed, 1.0))
        record = records[arch]
        return None if "failed" in record else figure(record, "validation")

    asked = propose(worker.space, STRATEGIES[strategy], seed, trials, worth)
    values = [worth(arch) for arch in asked]
    chosen = records[asked[int(np.nanargmax(np.array(values, float)))]]
    return {"strategy": strategy, "seed": seed, "values": values, "test": figure(chosen, "test")}


def run(problem: Problem, root: Path, file: Path, trials: int, seeds: int, processes: int) -> None:
    """Do what is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        generate.trim(file)
    done = {(r["strategy"], r["seed"]) for r in found(file, trials)}
    left = [(s, seed) for seed in range(seeds) for s in BEST if (s, seed) not in done]
    if not left:
        return
    _, arguments = generate.prepare(problem.task, root)
    context = multiprocessing.get_context("spawn")
    with (
        file.open("a") as opened,
        ProcessPoolExecutor(processes, context, generate.start_worker, arguments) as pool,
    ):
        for record in pool.map(
            train_for_real, *zip(*((problem, s, seed, trials) for s, seed in left), strict=True)
        ):
            opened.write(json.dumps(record) + "\n")
            opened.flush()
            print(f"{record['strategy']}, seed {record['seed']}: {best(record):.4f}", flush=True)


def found(file: Path, trials: int) -> list[dict[str, Any]]:
    """The searches of so many trials that are there."""
    records = generate.read(file) if file.exists() else ()
    return [r for r in records if len(r["values"]) == trials]


def best(record: dict[str, Any]) -> float:
    """The best reward of a search."""
    return max(v for v in record["values"] if v is not None)


def compare(problem: Problem, path: Path, file: Path, trials: int) -> None:
    """Print both, best on validation after all trials and its AUROC on test."""
    table = Table.open(path)
    worth, test = rewards(table, problem), rewards(table, problem, "test")
    print("| strategy | real, validation | real, test | table, validation | table, test |")
    print("|---|---:|---:|---:|---:|")
    real = found(file, trials)
    for strategy in BEST:
        mine = [r for r in real if r["strategy"] == strategy]
        predicted = [search(path, problem, STRATEGIES[strategy], seed)[:trials] for seed in range(PREDICTING)]
        tops = np.array([row[int(np.nanargmax(worth[row]))] for row in predicted])
        cells = [
            ", ".join(f"{best(r):.4f}" for r in mine),
            ", ".join(f"{r['test']:.4f}" for r in mine),
            *(f"{m.mean():.4f}, 95 % of searches {spread(m)}" for m in (worth[tops], test[tops])),
        ]
        print(f"| {strategy} | {' | '.join(cells)} |")


def spread(values: measures.Floats) -> str:
    """Where the middle 95 % lie."""
    low, high = np.quantile(values, (0.025, 0.975))
    return f"{low:.4f} to {high:.4f}"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--task", default="fashion-mnist", choices=sorted({p.task for p in PROBLEMS}))
    parser.add_argument("--score", default="own", choices=("own", "sum"))
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    problem = next(p for p in PROBLEMS if (p.task, p.score) == (given.task, given.score))
    file = given.to / f"{given.task}.{given.score}.jsonl"
    run(problem, given.data_root, file, given.trials, given.seeds, given.processes)
    compare(problem, given.table, file, given.trials)


if __name__ == "__main__":
    main()
