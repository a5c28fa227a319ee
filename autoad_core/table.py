"""A table of what architectures are worth, measured once, so that searches can be compared in seconds.

    table = Table.open("adnas.npz")
    table.value(arch, "fashion-mnist", score="own", anomalies="mnist")

Each task has a space of its own, and one row for each of its architectures: AUROCs of every score and term, on validation
and test.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from numpy.typing import NDArray

from autoad_core.errors import DataError
from autoad_core.metrics import AGGREGATES
from autoad_core.space import Arch, Choice, Space

UNIT = 65535  # AUROCs are kept as unsigned integers of 16 bits
BUDGETS = (1.0, 0.25)
BEST_OF = ("own", "sum")  # the scores that `autoad search` chooses from
MOST_BYTES = 2**28  # of one array, unpacked
_DAMAGE = (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, SyntaxError)

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
                tasks = {
                    name: _task(file, name, len(meta["columns"]), **given)
                    for name, given in meta["tasks"].items()
                }
                return cls(tuple(meta["columns"]), tuple(meta["warnings"]), tasks, meta["about"])
        except (*_DAMAGE, zlib.error, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: is no table of architectures ({error}); get the file again") from error

    def values(
        self, task: str, *, score: str, anomalies: str, part: Part = "validation", budget: float = 1.0
    ) -> NDArray[np.float64]:
        """(n,) AUROCs of a task's rows; NaN where training failed.

        Args:
            task: Name.
            score: One of `columns`, or ``best`` for the one of ``own`` and ``sum`` that is better on validation.
            anomalies: One of the task's sets, or ``minimum`` or ``mean`` over them.
            part: Where they were measured.
            budget: 1.0 or 0.25.

        Raises:
            DataError: An unknown name.
        """
        found = self._task(task)
        _index(PARTS, part, "part")
        return self._reduced(
            found.aurocs[:, _index(BUDGETS, budget, "budget")], found, score, anomalies, part
        )

    def seeds(
        self, task: str, *, score: str, anomalies: str, part: Part = "validation"
    ) -> NDArray[np.float64]:
        """(m, seeds) AUROCs of the architectures that were trained with several seeds, the first one included."""
        found = self._task(task)
        _index(PARTS, part, "part")
        every = np.concatenate([found.aurocs[found.repeated, :1], found.repeats], axis=1)
        return self._reduced(every, found, score, anomalies, part)

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
        self, aurocs: NDArray[np.uint16], task: Task, score: str, anomalies: str, part: Part
    ) -> NDArray[np.float64]:
        """(..., parts, columns, sets) to (...)."""
        if score == "best":
            known = [self._reduced(aurocs, task, name, anomalies, "validation") for name in BEST_OF]
            own, other = (self._reduced(aurocs, task, name, anomalies, part) for name in BEST_OF)
            return np.where(known[0] >= known[1], own, other)
        at = aurocs[..., PARTS.index(part), _index(self.columns, score, "score"), :]
        values = np.where(at == 0, np.nan, at / UNIT)
        if anomalies in AGGREGATES:
            return AGGREGATES[anomalies](np.moveaxis(values, -1, 0))  # type: ignore[index]
        return np.asarray(values[..., _index(task.sets, anomalies, "anomalies")])


def _index(known: tuple[Any, ...], value: Any, what: str) -> int:
    if value not in known:
        raise DataError(f"no {what} {value!r}; known: {', '.join(map(str, known))}")
    return known.index(value)


def _task(file: Any, name: str, columns: int, sets: list[str], choices: list[dict[str, Any]]) -> Task:
    space = Space(tuple(Choice(c["name"], tuple(c["options"])) for c in choices))
    arrays = {key: _read(file, f"{name}.{key}") for key in ARRAYS}
    n, last = len(arrays["archs"]), (len(PARTS), columns, len(sets))
    shapes = {
        "archs": (n, len(choices)),
        "aurocs": (n, len(BUDGETS), *last),
        "repeats": (*arrays["repeats"].shape[:2], *last),
        "repeated": arrays["repeats"].shape[:1],
        "seconds": (n, len(BUDGETS)),
    }
    for key, array in arrays.items():
        if array.shape != shapes.get(key, (n,)):
            raise ValueError(f"{name}.{key} has shape {array.shape}")
    return Task(space, tuple(sets), **arrays)


def _read(file: Any, name: str) -> Any:
    """An array, once its header has told that it is no larger than may be."""
    with file.zip.open(f"{name}.npy") as member:
        header = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}[read_magic(member)]
        shape, _, dtype = header(member)
    if math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise ValueError(f"{name} is larger than {MOST_BYTES} bytes")
    return file[name]
