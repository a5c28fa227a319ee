"""How fast a search is: `make benchmark`. Ratios within one run; nothing here is a test.

1. Trials an hour of the engine against a plain loop (a torch DataLoader over PIL images, eager float32, 2 threads) on the same
   20 proposals and the same budget, 6,000 images shown: without cost cap and cache, and with both. 8 minutes on 2 cores.
2. The share of a search's wall time, from the command to its last line, in which no child is being trained. 5 minutes.
3. Start-up of the command.
4. Memory of the whole process tree over a search of 200 cheap trials.
5. CPU time of a controller's proposal, learning included, in spaces of 10 and 20 open choices.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from autoad_core import config as configuration
from autoad_core.component import Kind
from autoad_core.controller import Outcome
from autoad_core.detector import Detector
from autoad_core.discovery import discover
from autoad_core.run import Run
from autoad_core.space import Choice, Space
from autoad_core.spec import Spec
from autoad_core.training import seed_everything, settle

COMMAND = [sys.executable, "-m", "autoad_cli.main"]
SETTINGS = """
data: {dataset: {name: textures, params: {size: 28, train: 2000}}}
search: {trials: %d, first_budget: 1.0, random_trials: 4, keep: 1, max_cost: %s}
train: {images: 2000, epochs: 3}
"""
CHEAP = """
data: {dataset: digits, normal: ["5", "6"]}
space: {layers: 1, channels: [3, 8]}
search: {trials: 200, first_budget: 1.0, random_trials: 0, keep: 1}
train: {images: 64, epochs: 2}
"""


class Pictures(Dataset[torch.Tensor]):
    """Encoded images, decoded whenever they are asked for, as from a folder of files."""

    def __init__(self, images: np.ndarray[Any, Any]) -> None:
        self.files = []
        for image in images:
            buffer = io.BytesIO()
            Image.fromarray((image[0] * 255).astype(np.uint8)).save(buffer, "PNG")
            self.files.append(buffer.getvalue())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.files[index])).convert("L")
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]


def plain_loop(run: Run, train: np.ndarray[Any, Any], validation: np.ndarray[Any, Any]) -> float:
    """Seconds to train and score every proposal of ``run`` as one would write it down first."""
    torch.set_num_threads(2)
    registry = discover(builtin_only=True).registry
    settings = configuration.parse(run.config["config"])
    epochs, count = configuration.budget(settings.train, len(train), 1.0)
    distances = run.config["resolved"]["scores"]["sum"][:-1]
    pictures, scored = Pictures(train[:count]), Pictures(validation)
    shape = train.shape[1:]
    begin = time.perf_counter()
    for record in run.records():
        seed_everything(record["seed"])
        detector = Detector(Spec.from_dict(record["spec"]), shape, registry, distances=distances)
        optimizer = torch.optim.Adam(detector.parameters(), lr=settings.train.learning_rate)
        everything = torch.cat(list(DataLoader(pictures, batch_size=64)))
        settle(detector, everything, start=True)
        for _ in range(epochs):
            detector.train()
            codes = []
            for images in DataLoader(pictures, batch_size=64, shuffle=True):
                loss, code = detector.loss(images)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                codes.append(code)
            detector.hypothesis.refresh(torch.cat(codes))
        settle(detector, everything)
        for images in DataLoader(scored, batch_size=64):
            detector.raw_terms(images)
    return time.perf_counter() - begin


def search(folder: Path, text: str, *options: str) -> tuple[Run, float]:
    """A search by the command, and its wall seconds."""
    folder.mkdir()
    (folder / "settings.yaml").write_text(text)
    begin = time.perf_counter()
    subprocess.run(
        [*COMMAND, "search", str(folder / "settings.yaml"), "--run", str(folder / "run"), *options],
        check=True,
        capture_output=True,
    )
    return Run(folder / "run"), time.perf_counter() - begin


def trained(run: Run) -> list[tuple[float, float]]:
    """When the children of a run were at work: (begin, end), epoch seconds."""
    clocks = [r["clock"] for r in run.records() if r["clock"]]
    return sorted((c["began"], c["began"] + c["seconds"]) for c in clocks)


def covered(intervals: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, end = 0.0, float("-inf")
    for begin, finish in intervals:
        total += max(0.0, finish - max(begin, end))
        end = max(end, finish)
    return total


def throughput(folder: Path) -> None:
    """Part 1."""
    from autoad_core.split import make_split

    everything, all_seconds = search(folder / "all", SETTINGS % (16, "1.0"))
    capped, capped_seconds = search(folder / "capped", SETTINGS % (16, "0.75"))
    settings = configuration.parse(everything.config["config"])
    split = make_split(settings.data, discover(builtin_only=True).registry, settings.seed)
    slow = plain_loop(everything, split.train.images, split.validation.images)
    count = len(everything.records())
    assert [r["arch"] for r in capped.records()] == [r["arch"] for r in everything.records()]
    print(f"plain loop, {count} proposals: {slow:.0f} s")
    for name, run, seconds in (
        ("without cap", everything, all_seconds),
        ("with cap and cache", capped, capped_seconds),
    ):
        times = trained(run)
        alone = max(end for _, end in times) - times[0][0]
        for label, engine in (("first child to last", alone), ("start and report included", seconds)):
            print(f"engine {name}, {label}: {engine:.0f} s, {slow / engine:.1f} times as fast")


def outside(folder: Path) -> None:
    """Part 2."""
    run, seconds = search(folder / "outside", SETTINGS % (100, "0.75"))
    inside = covered(trained(run))
    print(
        f"no child at work: {seconds - inside:.1f} s of {seconds:.0f} s, {100 * (1 - inside / seconds):.1f} %"
    )


def start_up() -> None:
    """Part 3."""
    for arguments in (["--help"], ["list-components"]):
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            subprocess.run([*COMMAND, *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        print(f"autoad {arguments[0]}: {sorted(times)[3]:.2f} s (median of 7)")


def memory(folder: Path) -> None:
    """Part 4: proportional set size, so that shared pages count once."""
    (folder / "memory").mkdir()
    (folder / "memory" / "settings.yaml").write_text(CHEAP)
    journal = folder / "memory" / "run" / "trials.jsonl"
    process = psutil.Popen(
        [*COMMAND, "search", str(folder / "memory" / "settings.yaml"), "--run", str(journal.parent)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    samples: list[tuple[int, float]] = []
    while process.poll() is None:
        done = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        try:
            tree = [process, *process.children(recursive=True)]
            samples.append((done, sum(p.memory_full_info().pss for p in tree) / 2**20))
        except psutil.Error:
            pass
        time.sleep(0.2)
    for low, high in ((20, 60), (150, 199)):
        inside = [mib for done, mib in samples if low <= done <= high]
        if inside:
            print(f"memory between trials {low} and {high}: {np.median(inside):.0f} MiB")


def proposals() -> None:
    """200 proposals of each controller, told eight late, with rewards that depend on each choice by itself."""
    registry = discover(builtin_only=True).registry
    torch.set_num_threads(1)
    strategies: dict[str, tuple[str, dict[str, Any]]] = {
        "reinforce": ("bayesian-lstm", {"bayesian": False, "curiosity": 0.0, "replay": 0}),
        "without curiosity": ("bayesian-lstm", {"curiosity": 0.0}),
        "bayesian-lstm": ("bayesian-lstm", {}),
        "preset paper": ("bayesian-lstm", {"preset": "paper"}),
        "tpe": ("tpe", {}),
        "regularized-evolution": ("regularized-evolution", {}),
    }
    for sizes in ((4, 4, 2, 2, 3, 2, 2, 2, 2, 3), (4, 4, *(7, 4, 2, 4, 3, 8) * 3)):
        space = Space(tuple(Choice(f"c{i}", tuple(range(n))) for i, n in enumerate(sizes)))
        for name, (controller, params) in strategies.items():
            made = registry.get(Kind.CONTROLLER, controller).build(params, space=space, seed=0)
            begin, asked = time.process_time(), []
            for i in range(200):
                if i >= 8:
                    made.tell([Outcome(i - 8, asked[i - 8], "ok", sum(asked[i - 8]) / sum(sizes))])
                asked += made.ask(1)
            spent = 1000 * (time.process_time() - begin) / 200
            print(f"{len(sizes)} choices, {name}: {spent:.2f} ms a proposal")


def main() -> None:
    """All parts, or those that are named."""
    parts = {"throughput": throughput, "outside": outside, "memory": memory}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "part", nargs="*", help="throughput, outside, start-up, memory, proposals; all by default"
    )
    chosen = parser.parse_args().part or [*parts, "start-up", "proposals"]
    with tempfile.TemporaryDirectory() as name:
        for part in chosen:
            if part == "start-up":
                start_up()
            elif part == "proposals":
                proposals()
            else:
                parts[part](Path(name))
    print(json.dumps({"torch": torch.__version__, "cores": psutil.cpu_count()}))


if __name__ == "__main__":
    main()
