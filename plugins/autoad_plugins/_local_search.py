"""Local search: White, Nolen, Savani, Exploring the loss landscape in neural architecture search, UAI 2021.

A climb starts from the best of a few uniform points, tries the neighbours of the point where it stands in
random order, moves to the first that is better, and ends where none is. Then the next climb starts.

Outcomes come late, so the search asks on without waiting for them:

- A climb moves to whatever turns out better than where it stands, even a neighbour of a point it has left.
- When all neighbours were asked for and some were not told, uniform points fill the gap. They are starts of
  the next climb.
- A neighbour that failed, or was too dear to train, is no better.

No point is proposed twice, so a climb passes by neighbours that an earlier one has tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from autoad_core.controller import Outcome
from autoad_core.space import Arch, Space
from autoad_plugins._random import Fresh


class LocalSearch:
    """Hill climbing by first improvement, with restarts.

    Args:
        space: Where to search.
        seed: Of all randomness.
        starts: Trained uniform points of which the best starts a climb.

    Raises:
        ValueError: ``starts`` is less than 1.
    """

    def __init__(self, space: Space, seed: int, starts: int = 5) -> None:
        if starts < 1:
            raise ValueError(f"starts must be at least 1, got {starts}")
        self._space = space
        self._fresh = Fresh(space, seed)
        self._enough = starts
        self._here: tuple[float, Arch] | None = None  # where the climb stands; None between climbs
        self._untried: list[Arch] = []  # its neighbours, in random order
        self._awaited: list[Arch] = []  # neighbours that this climb asked for and was not told
        self._starts: list[tuple[float, Arch]] = []  # for the next climb

    def ask(self, n: int) -> Sequence[Arch]:
        """See `autoad_core.controller.Controller.ask`."""
        return list(islice(iter(self._propose, None), n))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """See `autoad_core.controller.Controller.tell`."""
        for outcome in outcomes:
            neighbour = outcome.arch in self._awaited
            if neighbour:
                self._awaited.remove(outcome.arch)
            if outcome.value is None:
                continue
            if self._here is not None and outcome.value > self._here[0]:
                self._move((outcome.value, outcome.arch))
            elif not neighbour:
                self._starts.append((outcome.value, outcome.arch))

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "fresh": self._fresh.state_dict(),
            "here": self._here,
            "untried": list(self._untried),
            "awaited": list(self._awaited),
            "starts": list(self._starts),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the saved one stopped."""
        self._fresh.load_state_dict(state["fresh"])
        self._here = None if state["here"] is None else _valued(state["here"])
        self._untried = [tuple(arch) for arch in state["untried"]]
        self._awaited = [tuple(arch) for arch in state["awaited"]]
        self._starts = [_valued(start) for start in state["starts"]]

    def _propose(self) -> Arch | None:
        arch = self._neighbour()
        if arch is None and not self._awaited:  # a local optimum, or no climb yet
            self._restart()
            arch = self._neighbour()
        return arch if arch is not None else self._fresh.draw()

    def _neighbour(self) -> Arch | None:
        while self._untried:
            arch = self._untried.pop()
            if self._fresh.take(arch):
                self._awaited.append(arch)
                return arch
        return None

    def _restart(self) -> None:
        self._here = None
        if len(self._starts) >= self._enough:
            self._move(max(self._starts))
            self._starts.clear()

    def _move(self, there: tuple[float, Arch]) -> None:
        self._here = there
        self._untried = list(self._space.neighbours(there[1]))
        self._fresh.rng.shuffle(self._untried)


def _valued(pair: Sequence[Any]) -> tuple[float, Arch]:
    value, arch = pair
    return value, tuple(arch)
