"""The search space as plain data: an ordered tuple of named, finite choices.

An architecture is a tuple of option indices, one per choice. Nothing here knows torch, controllers or
plugins, so a space can be printed, hashed, and enumerated in a test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from autoad_core.errors import SpaceError

Arch = tuple[int, ...]
Option = str | int | float
Rule = Callable[[Mapping[str, Option]], Mapping[str, Option]]


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision. ``when=("hypothesis", ("autoad/cluster",))`` makes it conditional on an earlier one.

    Raises:
        ValueError: No options, a repeated option, or an option that is not a str, int or float.
    """

    name: str
    options: tuple[Option, ...]
    when: tuple[str, tuple[Option, ...]] | None = None

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError(f"choice {self.name!r} has no options")
        if not all(type(o) in (str, int, float) for o in self.options):
            raise ValueError(f"choice {self.name!r}: options must be str, int or float: {self.options}")
        if len(set(self.options)) != len(self.options):
            raise ValueError(f"choice {self.name!r} repeats an option: {self.options}")


@dataclass(frozen=True, slots=True)
class Space:
    """Ordered choices, and the rule that tells which of their values mean the same model.

    Args:
        choices: A choice may depend only on choices before it.
        rule: Maps the active values of a point to those of its canonical twin: a pure, idempotent function
            that changes values to other options of the same choice, and never a choice that another depends on. None
            where every point is its own.

    Raises:
        ValueError: Two choices of one name, or a condition on an unknown choice or option.
    """

    choices: tuple[Choice, ...]
    rule: Rule | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        seen: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in seen:
                raise ValueError(f"two choices are called {choice.name!r}")
            if choice.when is not None:
                parent, values = choice.when
                if parent not in seen:
                    raise ValueError(f"{choice.name!r} depends on {parent!r}, which is not before it")
                if unknown := set(values) - set(seen[parent].options):
                    raise ValueError(f"{choice.name!r}: {parent!r} has no option {sorted(map(str, unknown))}")
            seen[choice.name] = choice

    def decode(self, arch: Arch) -> dict[str, Option]:
        """The active values of the canonical twin of ``arch``, by name.

        Raises:
            SpaceError: Wrong length, or an index outside a choice's options.
        """
        if len(arch) != len(self.choices):
            raise SpaceError(f"an architecture has {len(self.choices)} choices here, got {len(arch)}")
        values: dict[str, Option] = {}
        for choice, i in zip(self.choices, arch, strict=True):
            if self._active(choice, values):
                if not 0 <= i < len(choice.options):
                    raise SpaceError(f"{choice.name}: index {i} is outside 0..{len(choice.options) - 1}")
                values[choice.name] = choice.options[i]
        return dict(self.rule(values)) if self.rule else values

    def encode(self, values: Mapping[str, Option]) -> Arch:
        """The canonical indices of named values; the inverse of `decode`. Inactive choices become 0.

        Raises:
            SpaceError: An unknown name, a missing name, or a value that is not an option.
        """
        known = {choice.name for choice in self.choices}
        if unknown := sorted(set(values) - known):
            raise SpaceError(f"{unknown[0]}: the space has no such choice")
        arch = self._indices(values)
        return self._indices(self.rule(values)) if self.rule else arch

    def canonical(self, arch: Arch) -> Arch:
        """The one tuple that stands for every tuple of the same model. Idempotent."""
        return self.encode(self.decode(arch))

    def sample(self, rng: random.Random) -> Arch:
        """A point uniform over index tuples, canonical."""
        return self.canonical(tuple(rng.randrange(len(c.options)) for c in self.choices))

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Each distinct canonical point that differs from ``arch`` in one choice."""
        here = self.canonical(arch)
        seen = {here}
        for position, choice in enumerate(self.choices):
            for i in range(len(choice.options)):
                there = self.canonical((*here[:position], i, *here[position + 1 :]))
                if there not in seen:
                    seen.add(there)
                    yield there

    @property
    def size(self) -> int:
        """Number of index tuples: an upper bound on the distinct models."""
        return math.prod(len(c.options) for c in self.choices)

    def _indices(self, values: Mapping[str, Option]) -> Arch:
        out: list[int] = []
        for choice in self.choices:
            if not self._active(choice, values):
                out.append(0)
                continue
            if choice.name not in values:
                raise SpaceError(f"{choice.name}: no value given")
            if values[choice.name] not in choice.options:
                options = ", ".join(map(str, choice.options))
                raise SpaceError(f"{choice.name}: {values[choice.name]!r} is not one of {options}")
            out.append(choice.options.index(values[choice.name]))
        return tuple(out)

    @staticmethod
    def _active(choice: Choice, values: Mapping[str, Option]) -> bool:
        return choice.when is None or values.get(choice.when[0]) in choice.when[1]
