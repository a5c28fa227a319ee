"""A table of what architectures are worth, measured once, so that searches can be compared in seconds.

    table = Table.open("adnas.npz")
    table.value(arch, "fashion-mnist", score="own", anomalies="mnist")

Each task has a space of its own, and one row for each of its architectures: AUROCs of every score and term, on validation
and test.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from autoad_core.errors import DataError
from autoad_core.metrics import AGGREGATES
from autoad_core.space import Arch, Choice, Space

UNIT = 65535  # AUROCs are kept as unsigned integers of 16 bits
BUDGETS = (1.0, 0.25)
MOST_BYTES = 2**28  # of one array, unpacked

Part = Literal["validation", "test"]
PARTS: tuple[Part, ...] = ("validation", "test")


@dataclass(frozen=True)
class Task:
    """One data set's measurements.

    Attributes:
        space: Where to search on it.
        sets: Names of the anomaly sets.
        archs: (n, choices) uint8, canonical members of the space: all, where the table is complete.
        aurocs: (n, budgets, parts, columns, sets) uint16, in units of 1 / 65535; 0 where training failed.
        repeated: (m,) positions in ``archs`` of the architectures with more seeds.
        repeats: (m, seeds, parts, columns, sets) uint16, at the full budget, the first seed left out.
        seconds: (n, budgets) float32, of training, one thread.
        flops: (n,) of one forward pass of one image.
        parameters: (n,).
        warnings: (n,) bits, see `Table.warnings`.
    """

    space: Space
    sets: tuple[str, ...]
    archs: NDArray[np.uint8]
    aurocs: NDArray[np.uint16]
    repeated: NDArray[np.int32]
    repeats: NDArray[np.uint16]
    seconds: NDArray[np.float32]
    flops: NDArray[np.int64]
    parameters: NDArray[np.int64]
    warnings: NDArray[np.uint8]


ARRAYS = ("archs", "aurocs", "repeated", "repeats", "seconds", "flops", "parameters", "warnings")


@dataclass(frozen=True)
class Table:
    """See the module.

    Attributes:
        columns: Names of scores and terms.
        warnings: What the bits of `Task.warnings` mean.
        tasks: By name.
        about: What else the maker wrote down.
    """

    columns: tuple[str, ...]
    warnings: tuple[str, ...]
    tasks: Mapping[str, Task]
    about: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Table:
        """Read a table.

        Raises:
            DataError: It is missing, damaged, or not a table.
        """
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                meta = json.loads(str(file["meta"]))
                tasks = {name: _task(file, name, **given) for name, given in meta["tasks"].items()}
                return cls(tuple(meta["columns"]), tuple(meta["warnings"]), tasks, meta["about"])
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: is no table of architectures ({error}); get the file again") from error

    def values(
        self, task: str, *, score: str, anomalies: str, part: Part = "validation", budget: float = 1.0
    ) -> NDArray[np.float64]:
        """(n,) AUROCs of a task's rows; NaN where training failed.

        Args:
            task: Name.
            score: One of `columns`, or ``best`` for the better of ``own`` and ``sum``.
            anomalies: One of the task's sets, or ``minimum`` or ``mean`` over them.
            part: Where they were measured.
            budget: 1.0 or 0.25.

        Raises:
            DataError: An unknown name.
        """
        found = self._task(task)
        at = found.aurocs[:, _index(BUDGETS, budget, "budget"), _index(PARTS, part, "part")]
        return self._reduced(at, found, score, anomalies)

    def seeds(
        self, task: str, *, score: str, anomalies: str, part: Part = "validation"
    ) -> NDArray[np.float64]:
        """(m, seeds) AUROCs of the architectures that were trained with several seeds, the first one included."""
        found = self._task(task)
        p = _index(PARTS, part, "part")
        every = np.concatenate([found.aurocs[found.repeated, :1, p], found.repeats[:, :, p]], axis=1)
        return self._reduced(every, found, score, anomalies)

    def value(
        self,
        arch: Arch,
        task: str,
        *,
        score: str,
        anomalies: str,
        part: Part = "validation",
        budget: float = 1.0,
    ) -> float | None:
        """AUROC of one architecture, None where training failed.

        Raises:
            DataError: An unknown name, or an architecture that was not trained on this task.
        """
        self._task(task)
        row = self._rows[task].get(tuple(arch))
        if row is None:
            raise DataError(f"{task}: architecture {arch} was not trained")
        value = float(self.values(task, score=score, anomalies=anomalies, part=part, budget=budget)[row])
        return None if np.isnan(value) else value

    @cached_property
    def _rows(self) -> dict[str, dict[Arch, int]]:
        return {
            name: {tuple(arch): i for i, arch in enumerate(task.archs.tolist())}
            for name, task in self.tasks.items()
        }

    def _task(self, name: str) -> Task:
        if name not in self.tasks:
            raise DataError(f"no task {name!r}; known: {', '.join(self.tasks)}")
        return self.tasks[name]

    def _reduced(
        self, aurocs: NDArray[np.uint16], task: Task, score: str, anomalies: str
    ) -> NDArray[np.float64]:
        """(..., columns, sets) to (...)."""
        values = np.where(aurocs == 0, np.nan, aurocs / UNIT)
        names = ("own", "sum") if score == "best" else (score,)
        columns = [values[..., _index(self.columns, name, "score"), :] for name in names]
        if anomalies in AGGREGATES:
            one = [AGGREGATES[anomalies](np.moveaxis(c, -1, 0)) for c in columns]  # type: ignore[index]
        else:
            one = [c[..., _index(task.sets, anomalies, "anomalies")] for c in columns]
        return np.max(one, axis=0)  # type: ignore[no-any-return]


def _index(known: tuple[Any, ...], value: Any, what: str) -> int:
    if value not in known:
        raise DataError(f"no {what} {value!r}; known: {', '.join(map(str, known))}")
    return known.index(value)


def _task(file: Any, name: str, sets: list[str], choices: list[dict[str, Any]]) -> Task:
    space = Space(tuple(Choice(c["name"], tuple(c["options"])) for c in choices))
    return Task(space, tuple(sets), *(_read(file, f"{name}.{key}") for key in ARRAYS))


def _read(file: Any, name: str) -> Any:
    array = file[name]
    if array.nbytes > MOST_BYTES:
        raise ValueError(f"{name} is larger than {MOST_BYTES} bytes")
    return array
