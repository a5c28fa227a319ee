"""The ask/tell protocol between the search loop and a search strategy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from autoad_core.space import Arch

Status = Literal["ok", "failed", "skipped", "pruned"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of one proposal.

    Attributes:
        id: Number of the trial; proposals are numbered in the order in which they were asked for.
        arch: Canonical.
        status: ``skipped`` is an architecture dearer than the cost cap, which was never trained.
        value: The reward, larger is better; None unless ``status`` is ok.
        cost: Predicted seconds of training, the same on every machine.

    Raises:
        ValueError: A value without status ok, or the reverse, or one that is not finite.
    """

    id: int
    arch: Arch
    status: Status
    value: float | None = None
    cost: float = 0.0

    def __post_init__(self) -> None:
        if (self.status == "ok") != (self.value is not None) or not math.isfinite(self.value or 0.0):
            raise ValueError(f"outcome {self.id}: status {self.status!r} with value {self.value!r}")


@runtime_checkable
class Controller(Protocol):
    """A search strategy, made by ``make(space, seed, **params)``.

    It owns proposals only: it never trains, times, logs or saves anything, and all its randomness comes from the
    seed. The loop asks ahead of the outcomes: proposal i is asked for when those of trials up to i - L were told.
    """

    def ask(self, n: int) -> Sequence[Arch]:
        """Up to ``n`` canonical members of the space; none when the strategy has nothing left to propose."""

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from outcomes of any status, in the order of their ids, any number at once."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that `ask` depends on, random state included: JSON values and tensors, nested in dicts and lists."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """After this, `ask` and `tell` behave as in the controller that was saved."""


class Fixed:
    """A controller that proposes a list; for the best of a search, trained once more."""

    def __init__(self, archs: Sequence[Arch]) -> None:
        self._archs = list(archs)
        self._asked = 0

    def ask(self, n: int) -> Sequence[Arch]:
        """The next ones."""
        batch = self._archs[self._asked : self._asked + n]
        self._asked += len(batch)
        return batch

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing to learn."""

    def state_dict(self) -> dict[str, Any]:
        """How far it got."""
        return {"asked": self._asked}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._asked = int(state["asked"])
