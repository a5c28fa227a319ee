"""What a search shows while it runs: a live display on a terminal, plain lines elsewhere. All on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from autoad_core.spec import Spec

PHASES = {"search": "searching", "random": "random search", "full": "training the best in full"}
PLAIN_EVERY_SECONDS = 10.0


class Estimate:
    """Time left in a phase, from the pace of the trials that ended in it."""

    def __init__(self, trials: int) -> None:
        self.trials, self.done, self._fresh, self._begin = trials, 0, 0, time.monotonic()

    def add(self, *, fresh: bool) -> None:
        """One trial ended; not ``fresh`` if it was in the journal before."""
        self.done += 1
        self._fresh += fresh

    @property
    def left(self) -> str:
        """Like ``1:05 left``; empty while there is nothing to tell by."""
        if not self._fresh:
            return ""
        seconds = (time.monotonic() - self._begin) / self._fresh * (self.trials - self.done)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"


def describe(record: dict[str, Any]) -> str:
    """An outcome in a few words."""
    if record["status"] == "ok":
        figures = record.get("validation", {}).get(record["score"], {})
        of_pixels = "pixel_auroc" in figures
        return f"{'reward' if of_pixels else 'AUROC'} {record['value']:.3f} ({record['score']})"
    return f"{record['status']}: {record.get('error', '')}"


class Display:
    """Implements `autoad_core.search.Progress`."""

    def __init__(self, console: Console, bars: Progress | None) -> None:
        self._console, self._bars = console, bars
        self._task: TaskID | None = None
        self._estimate = Estimate(0)
        self._best: tuple[float, str] | None = None
        self._name = ""
        self._last_line = 0.0

    def phase(self, name: str, trials: int) -> None:
        """A new bar, or a plain line."""
        self._estimate, self._best, self._name = Estimate(trials), None, PHASES[name]
        if self._bars:
            self._task = self._bars.add_task(self._name, total=trials, best="", left="")
        else:
            self._console.print(f"{self._name}: {trials} trials", highlight=False)

    def trial(self, record: dict[str, Any], *, fresh: bool) -> None:
        """Move the bar; say when a better model was found."""
        self._estimate.add(fresh=fresh)
        better = record["status"] == "ok" and (self._best is None or record["value"] > self._best[0])
        if better:
            self._best = (record["value"], str(Spec.from_dict(record["spec"])))
        best = f"best {self._best[0]:.3f}" if self._best else ""
        if self._bars and self._task is not None:
            self._bars.update(self._task, advance=1, best=best, left=self._estimate.left)
            if better and fresh and self._best:
                self._console.print(f"[dim]trial {record['id']:>4}[/]  {self._best[0]:.3f}  {self._best[1]}")
        elif fresh and (better or time.monotonic() - self._last_line > PLAIN_EVERY_SECONDS):
            self._last_line = time.monotonic()
            where = f"{self._name} {self._estimate.done}/{self._estimate.trials}"
            self._console.print(
                f"{where}  {describe(record)}  {best}  {self._estimate.left}", highlight=False
            )

    def note(self, text: str) -> None:
        """A line that stays."""
        self._console.print(f"note: {text}", highlight=False, markup=False)


@contextmanager
def display() -> Iterator[Display]:
    """A display for the length of a search."""
    console = Console(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        yield Display(console, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[best]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield Display(console, bars)
