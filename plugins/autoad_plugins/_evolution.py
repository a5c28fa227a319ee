"""Regularized evolution: Real, Aggarwal, Huang and Le, AAAI 2019, algorithm 1.

A new point is the best of a few members of the population, drawn with replacement, with one choice changed.
It joins the population at one end, and the oldest member leaves at the other, however good it is.

Where this departs from the algorithm:

- Outcomes come late. A tournament is held among those told so far; while there are none, points are uniform.
- A point that failed, or was too dear to train, is nobody's parent, but it is born: it takes a place in the
  queue and ages the others. So a member lives for ``population`` outcomes of any status, and never outlives
  its time among points that cannot be trained. A queue of failures alone is left by uniform points.
- No point is proposed twice: a mutation that leads to a known point, as one of an inactive choice does, is
  drawn again, with a new tournament.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from autoad_core.controller import Outcome
from autoad_core.space import Arch, Space
from autoad_plugins._random import Fresh


class RegularizedEvolution:
    """Ageing evolution.

    Args:
        space: Where to search.
        seed: Of all randomness.
        population: P of the paper: the first proposals are uniform, and a member lives for so many outcomes.
        sample: S of the paper, the members of a tournament. The defaults are made for 100 to 200 trials; the
            paper has 100 and 25 for 20,000.

    Raises:
        ValueError: ``population`` or ``sample`` is less than 1.
    """

    def __init__(self, space: Space, seed: int, population: int = 20, sample: int = 10) -> None:
        if population < 1 or sample < 1:
            raise ValueError(f"population and sample must be at least 1, got {population} and {sample}")
        self._space = space
        self._fresh = Fresh(space, seed)
        self._open = [i for i, choice in enumerate(space.choices) if len(choice.options) > 1]
        self._population = population
        self._sample = sample
        self._asked = 0
        self._queue: deque[tuple[Arch, float | None]] = deque(maxlen=population)  # value None: not a parent

    def ask(self, n: int) -> Sequence[Arch]:
        """See `autoad_core.controller.Controller.ask`."""
        return list(islice(iter(self._propose, None), n))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """See `autoad_core.controller.Controller.tell`."""
        self._queue.extend((outcome.arch, outcome.value) for outcome in outcomes)

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        queue = [[list(arch), value] for arch, value in self._queue]
        return {"fresh": self._fresh.state_dict(), "asked": self._asked, "queue": queue}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the saved one stopped."""
        self._fresh.load_state_dict(state["fresh"])
        self._asked = state["asked"]
        self._queue = deque(((tuple(arch), value) for arch, value in state["queue"]), self._population)

    def _propose(self) -> Arch | None:
        self._asked += 1
        parents = [(value, arch) for arch, value in self._queue if value is not None]
        if self._asked <= self._population or not parents or not self._open:
            return self._fresh.draw()
        return self._fresh.draw(lambda: self._mutated(self._winner(parents)))

    def _winner(self, parents: list[tuple[float, Arch]]) -> Arch:
        return max(self._fresh.rng.choices(parents, k=self._sample))[1]

    def _mutated(self, arch: Arch) -> Arch:
        position = self._fresh.rng.choice(self._open)
        option = self._fresh.rng.randrange(len(self._space.choices[position].options) - 1)
        option += option >= arch[position]  # any but its own
        return self._space.canonical((*arch[:position], option, *arch[position + 1 :]))
