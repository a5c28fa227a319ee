"""Train every architecture of AD-NAS-Bench and keep what was measured: resumable, one command a task.

    python benchmarks/adnas/generate.py train fashion-mnist --data-root DIR --to FOLDER
    python benchmarks/adnas/generate.py pack --from FOLDER

`train` appends one line a training to ``FOLDER/TASK.jsonl``; started again, it goes on. `pack` writes all tasks into
``benchmarks/adnas/adnas.npz``. Children are trained and scored by the functions that `autoad search` uses, each in one
thread, with a seed of its own. The test parts are scored too, which no search may see: that is what the table is for.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoad_core import config as configuration
from autoad_core import memory, table
from autoad_core.assemble import LayerOptions, assemble
from autoad_core.component import Kind
from autoad_core.cost import flops
from autoad_core.detector import Detector
from autoad_core.discovery import discover
from autoad_core.geometry import Shape
from autoad_core.metrics import group_aurocs
from autoad_core.model import parameters
from autoad_core.registry import Registry
from autoad_core.space import Arch, Space
from autoad_core.spec import Spec
from autoad_core.split import Part, Split, make_split, search_sample
from autoad_core.training import TrainingFailed, fit, seed_everything
from autoad_core.trial import is_constant, no_better_than_mean, trial_seed

HYPOTHESES = ("density", "cluster", "centroid", "reconstruction")
DISTANCES = ("l1", "l2", "l21", "ssim")
Layers = tuple[dict[str, tuple[Any, ...]], ...]  # options of each kind, for each layer
WHOLE: Layers = (  # 4,608 architectures, with the hypotheses and distances
    {
        "channels": (8, 32),
        "kernel": (3, 7),
        "pooling": ("max",),
        "pooling_kernel": (3,),
        "normalization": ("none", "batch", "instance"),
        "activation": ("relu",),
    },
    {
        "channels": (16, 64),
        "kernel": (3,),
        "pooling": ("average", "max"),
        "pooling_kernel": (3, 5),
        "normalization": ("batch",),
        "activation": ("sigmoid", "tanh", "leakyrelu"),
    },
)
THIRD: Layers = (  # 1,536 of them, a space of its own
    WHOLE[0] | {"normalization": ("none", "batch")},
    WHOLE[1] | {"pooling_kernel": (3,)},
)
SCORES = {"own": ("distance", "hypothesis"), "sum": ("l2", "ssim", "relative", "hypothesis")}
MEASURED = ("l1", "l2", "l21", "ssim", "relative")
QUARTER = 0.25
NORMAL, ANOMALOUS = 600, 300  # images that give an AUROC, of each part and each anomaly set
COLUMNS = (*SCORES, *MEASURED, "hypothesis")
WARNINGS = ("failed", "constant term", "no better than the mean image")
REPEATED = 10  # every tenth architecture is trained with `SEEDS` seeds
SEEDS = 3


@dataclass(frozen=True, slots=True)
class Kept:
    """One task: its data, its space, and the budget of a training."""

    data: dict[str, Any]
    layers: Layers
    images: int
    epochs: int = 2


TASKS = {
    "fashion-mnist": Kept(
        {
            "protocol": "ood",
            "dataset": "fashion-mnist",
            "anomalies": ["mnist", "cifar10", "notmnist", "gaussian"],
            "train_images": 2000,
        },
        WHOLE,
        images=2000,
    ),
    "cifar10": Kept(
        {
            "protocol": "ood",
            "dataset": "cifar10",
            "anomalies": ["tiny-imagenet"],
            "train_images": 2000,
        },
        THIRD,
        images=1000,
    ),
    "mnist-8": Kept(
        {"protocol": "one-class", "dataset": "mnist", "normal": ["8"], "train_images": 2000},
        THIRD,
        images=1000,
    ),
}


@dataclass(frozen=True, slots=True)
class Work:
    """One training: number of the architecture in the enumeration, its indices, which seed, share of the budget."""

    number: int
    arch: Arch
    seed: int
    fraction: float

    @property
    def key(self) -> tuple[int, int, float]:
        return (self.number, self.seed, self.fraction)


def make_space(registry: Registry, shape: Shape, options: Layers) -> Space:
    """A sub-space of the paper's: two layers, options of every kind."""
    kinds = {
        "pooling": Kind.POOLING,
        "normalization": Kind.NORMALIZATION,
        "activation": Kind.ACTIVATION,
    }
    layers = [
        LayerOptions(
            **{
                name: tuple(registry.get(kinds[name], v).id for v in values) if name in kinds else values
                for name, values in layer.items()
            }
        )
        for layer in options
    ]
    return assemble(
        registry,
        shape,
        [registry.get(Kind.HYPOTHESIS, name).id for name in HYPOTHESES],
        [registry.get(Kind.DISTANCE, name).id for name in DISTANCES],
        layers,
    )


def enumerate_space(space: Space) -> list[Arch]:
    """Every canonical architecture once, in order."""
    every = itertools.product(*(range(len(choice.options)) for choice in space.choices))
    return list(dict.fromkeys(space.canonical(arch) for arch in every))


def plan(archs: list[Arch]) -> list[Work]:
    """All trainings of a task, in an order in which any beginning is a fair sample."""
    order = list(range(len(archs)))
    random.Random(0).shuffle(order)
    first = [Work(i, archs[i], 0, fraction) for i in order for fraction in (1.0, QUARTER)]
    repeated = order[: len(order) // REPEATED]
    return first + [Work(i, archs[i], seed, 1.0) for i in repeated for seed in range(1, SEEDS)]


class Worker:
    """What a process keeps between trainings."""

    here: Worker

    def __init__(self, task: str, parts: dict[str, Part], groups: tuple[str, ...]) -> None:
        torch.set_num_threads(1)
        memory.keep_freed()
        self.registry = discover(builtin_only=True).registry
        self.groups = groups
        self.parts = {name: (torch.from_numpy(p.images), p.groups) for name, p in parts.items()}
        self.shape: Shape = tuple(parts["train"].images.shape[1:])  # type: ignore[assignment]
        kept = TASKS[task]
        self.space = make_space(self.registry, self.shape, kept.layers)
        self.train = configuration.parse({"train": {"images": kept.images, "epochs": kept.epochs}}).train
        get = self.registry.get
        self.distances = tuple(get(Kind.DISTANCE, name).id for name in MEASURED)
        special = {"distance", "hypothesis"}
        self.scores = {
            name: tuple(t if t in special else get(Kind.DISTANCE, t).id for t in terms)
            for name, terms in SCORES.items()
        }

    def measure(self, work: Work) -> dict[str, Any]:
        """Train one child and score both parts."""
        spec = Spec.from_values(self.space.decode(work.arch))
        record = {
            "number": work.number,
            "arch": list(work.arch),
            "seed": work.seed,
            "fraction": work.fraction,
        }
        begin = time.perf_counter()
        epochs, count = configuration.budget(self.train, len(self.parts["train"][0]), work.fraction)
        seed_everything(trial_seed(work.seed, work.number))
        detector = Detector(spec, self.shape, self.registry, distances=self.distances, bfloat16=True)
        images = self.parts["train"][0][:count]
        try:
            fit(detector, images, epochs, self.train)
        except TrainingFailed as error:
            return record | {"failed": str(error)}
        seconds = time.perf_counter() - begin
        aurocs: dict[str, Any] = {}
        warnings = []
        for name in ("validation", "test"):
            images, groups = self.parts[name]
            raw = detector.raw_terms(images)
            if not all(np.isfinite(values).all() for values in raw.values()):
                return record | {"failed": "a score is not finite"}
            scored = {s: detector.score(raw, terms) for s, terms in self.scores.items()} | raw
            aurocs[name] = {
                score.removeprefix("autoad/"): [
                    round(v, 5) for v in group_aurocs(values, groups, self.groups, "minimum").values()
                ][:-1]
                for score, values in scored.items()
            }
            if name == "validation":
                own = (*spec.distance.split("+"), "hypothesis")
                warnings += [f"constant {t}" for t in own if is_constant(raw[t])]
                normal = images[torch.from_numpy(groups == 0)]
                if no_better_than_mean(detector, self.parts["train"][0], normal):
                    warnings.append("no better than the mean image")
        return record | {
            "aurocs": aurocs,
            "warnings": warnings,
            "parameters": parameters(detector),
            "flops": flops(spec, detector.network.geometry),
            "seconds": round(seconds, 3),
        }


def start_worker(*arguments: Any) -> None:
    """Initialize a process of the pool."""
    Worker.here = Worker(*arguments)


def measure(work: Work) -> dict[str, Any]:
    """In a process of the pool."""
    return Worker.here.measure(work)


def done_already(path: Path) -> set[tuple[int, int, float]]:
    """Keys of the trainings in a file; a torn last line is cut off."""
    if not path.exists():
        return set()
    trim(path)
    return {(r["number"], r["seed"], r["fraction"]) for r in read(path)}


def trim(path: Path) -> None:
    """Cut off a torn last line."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        path.write_bytes(whole)


def prepare(task: str, root: Path) -> tuple[Split, tuple[Any, ...]]:
    """The data of a task, and what `start_worker` needs."""
    registry = discover(builtin_only=True).registry
    data = configuration.parse({"data": TASKS[task].data | {"root": str(root)}}).data
    split = make_split(data, registry, seed=0)
    parts = {
        "train": split.train,
        "validation": search_sample(split.validation, NORMAL, ANOMALOUS, 0),
        "test": search_sample(split.test, NORMAL, ANOMALOUS, 1),
    }
    return split, (task, parts, split.groups)


def train(task: str, root: Path, folder: Path, processes: int) -> None:
    """Do what is left of a task."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{task}.jsonl"
    registry = discover(builtin_only=True).registry
    split, arguments = prepare(task, root)
    archs = enumerate_space(make_space(registry, split.shape, TASKS[task].layers))
    about = {
        "shape": split.shape,
        "groups": split.groups,
        "data": split.digests(),
        "torch": torch.__version__,
    }
    kept = folder / f"{task}.json"
    if kept.exists() and json.loads(kept.read_text()) != json.loads(json.dumps(about)):
        raise SystemExit(f"{kept}: the data or torch differ from what was begun; choose another folder")
    kept.write_text(json.dumps(about))
    done = done_already(path)
    left = [w for w in plan(archs) if w.key not in done]
    print(f"{task}: {len(archs)} architectures, {len(done)} trainings done, {len(left)} left", flush=True)
    begin = time.perf_counter()
    context = multiprocessing.get_context("spawn")
    with (
        path.open("a") as file,
        ProcessPoolExecutor(processes, context, start_worker, arguments) as pool,
    ):
        for count, record in enumerate(pool.map(measure, left, chunksize=8), start=1):
            file.write(json.dumps(record, separators=(",", ":")) + "\n")
            if count % 100 == 0:
                file.flush()
                rest = (time.perf_counter() - begin) / count * (len(left) - count)
                print(f"{task}: {count} of {len(left)}, {rest / 60:.0f} minutes left", flush=True)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Records of a task; a last line that is being written is left out."""
    with path.open() as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def pack(folder: Path, to: Path) -> None:
    """Write what the tasks' files hold as one table; see `autoad_core.table.Table`."""
    registry = discover(builtin_only=True).registry
    arrays: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any]] = {}
    about = {}
    for task, kept in TASKS.items():
        path = folder / f"{task}.jsonl"
        if not path.exists():
            continue
        begun = json.loads((folder / f"{task}.json").read_text())
        space = make_space(registry, tuple(begun["shape"]), kept.layers)
        records = {(r["number"], r["seed"], r["fraction"]): r for r in read(path)}
        rows = sorted(n for n, seed, f in records if (seed, f) == (0, 1.0) and (n, 0, QUARTER) in records)
        again = [i for i, n in enumerate(rows) if all((n, seed, 1.0) in records for seed in range(1, SEEDS))]
        first = [[records[n, 0, f] for f in (1.0, QUARTER)] for n in rows]
        sets = begun["groups"]
        arrays |= {
            f"{task}.archs": np.array([both[0]["arch"] for both in first], np.uint8),
            f"{task}.aurocs": np.array([[coded(r, len(sets)) for r in both] for both in first], np.uint16),
            f"{task}.repeated": np.array(again, np.int32),
            f"{task}.repeats": np.array(
                [[coded(records[rows[i], s, 1.0], len(sets)) for s in range(1, SEEDS)] for i in again],
                np.uint16,
            ).reshape(len(again), SEEDS - 1, len(table.PARTS), len(COLUMNS), len(sets)),
            f"{task}.seconds": np.array([[r.get("seconds", 0) for r in both] for both in first], np.float32),
            f"{task}.flops": np.array([both[0].get("flops", 0) for both in first], np.int64),
            f"{task}.parameters": np.array([both[0].get("parameters", 0) for both in first], np.int64),
            f"{task}.warnings": np.array([bits(both[0]) for both in first], np.uint8),
        }
        choices = [{"name": c.name, "options": list(c.options)} for c in space.choices]
        tasks[task] = {"sets": sets, "choices": choices}
        about[task] = begun | {"images": kept.images, "epochs": kept.epochs, "repeated": len(again)}
        print(f"{task}: {len(rows)} of {space.size} architectures, {len(again)} with {SEEDS} seeds")
    if not tasks:
        raise SystemExit(f"{folder}: holds no task; run train first")
    meta = {
        "columns": COLUMNS,
        "warnings": WARNINGS,
        "tasks": tasks,
        "about": {"normal": NORMAL, "anomalous": ANOMALOUS, "tasks": about},
    }
    np.savez_compressed(to, meta=np.array(json.dumps(meta)), **arrays)
    print(f"{to}: {to.stat().st_size / 2**20:.2f} MiB")


def coded(record: dict[str, Any], sets: int) -> list[list[list[int]]]:
    """(parts, columns, sets) AUROCs in units of `table.UNIT`, at least 1; all 0 where training failed."""
    if "failed" in record:
        return np.zeros((len(table.PARTS), len(COLUMNS), sets), int).tolist()  # type: ignore[no-any-return]
    measured = record["aurocs"]
    return [
        [[max(1, round(v * table.UNIT)) for v in measured[part][column]] for column in COLUMNS]
        for part in table.PARTS
    ]


def bits(record: dict[str, Any]) -> int:
    """The warnings of a training as bits, in the order of `WARNINGS`."""
    found = ["failed"] if "failed" in record else [w.split()[0] for w in record["warnings"]]
    return sum(1 << i for i, name in enumerate(WARNINGS) if name.split()[0] in found)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train")
    training.add_argument("task", choices=sorted(TASKS))
    training.add_argument("--data-root", type=Path, required=True)
    training.add_argument("--to", type=Path, required=True)
    training.add_argument("--processes", type=int, default=2)
    packing = commands.add_parser("pack")
    packing.add_argument("--from", dest="folder", type=Path, required=True)
    packing.add_argument("--to", type=Path, default=Path(__file__).with_name("adnas.npz"))
    given = parser.parse_args()
    if given.command == "train":
        train(given.task, given.data_root, given.to, given.processes)
    else:
        pack(given.folder, given.to)


if __name__ == "__main__":
    sys.exit(main())
