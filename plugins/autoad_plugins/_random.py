"""Uniform random search, and the source of fresh points that every built-in controller draws from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import islice, product
from typing import Any

from autoad_core.controller import Outcome
from autoad_core.space import Arch, Space

_TRIES = 100  # draws in a row that may repeat a point before another source is asked
_SMALL = 10_000  # index tuples up to which a space is listed to find what is left of it


class Fresh:
    """Points of a space that it has not given before.

    Attributes:
        rng: All the randomness a controller has.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self.rng = random.Random(seed)
        self._space = space
        self._given: dict[Arch, None] = {}  # a set in order of proposal, so that equal searches save equally

    def __contains__(self, arch: Arch) -> bool:
        return arch not in self._given

    def take(self, arch: Arch) -> bool:
        """Give ``arch``, a canonical point; False if it was given before."""
        fresh = arch in self
        self._given[arch] = None
        return fresh

    def draw(self, propose: Callable[[], Arch] | None = None, tries: int = _TRIES) -> Arch | None:
        """The first fresh point that ``propose`` gives in some ``tries``, else a uniform one; None when every point was given.

        A space of more than 10,000 index tuples is never known to be used up: where 100 draws find nothing
        fresh, a point is given again.
        """
        sources = (
            [(self._uniform, _TRIES)] if propose is None else [(propose, tries), (self._uniform, _TRIES)]
        )
        for source, most in sources:
            for _ in range(most):
                arch = source()
                if self.take(arch):
                    return arch
        if self._space.size > _SMALL:
            return arch
        left = [arch for arch in self._points if arch in self]
        if not left:
            return None
        arch = self.rng.choice(left)
        self.take(arch)
        return arch

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        version, words, gauss = self.rng.getstate()
        return {"rng": [version, list(words), gauss], "given": [list(arch) for arch in self._given]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the saved one stopped."""
        version, words, gauss = state["rng"]
        self.rng.setstate((version, tuple(words), gauss))
        self._given = {tuple(arch): None for arch in state["given"]}

    def _uniform(self) -> Arch:
        return self._space.sample(self.rng)

    @cached_property
    def _points(self) -> tuple[Arch, ...]:
        tuples = product(*(range(len(choice.options)) for choice in self._space.choices))
        return tuple(dict.fromkeys(self._space.canonical(arch) for arch in tuples))


class RandomSearch:
    """Points uniform over the index tuples of the space, none of them twice. Learns nothing from outcomes."""

    def __init__(self, space: Space, seed: int) -> None:
        self._fresh = Fresh(space, seed)

    def ask(self, n: int) -> Sequence[Arch]:
        """See `autoad_core.controller.Controller.ask`."""
        return list(islice(iter(self._fresh.draw, None), n))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        return self._fresh.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the saved one stopped."""
        self._fresh.load_state_dict(state)
