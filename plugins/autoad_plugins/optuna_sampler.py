"""The other way round from `_tpe`: a controller of AutoAD as a sampler of an Optuna study; needs Optuna.

    space = Space((Choice("lr", (0.1, 0.01, 0.001)), Choice("layers", (1, 2, 3))))
    controller = discover().registry.get(Kind.CONTROLLER, "bayesian-lstm").build({}, space=space, seed=0)
    study = optuna.create_study(direction="maximize", sampler=ControllerSampler(space, controller))

``examples/optuna_study.py`` is whole. The objective asks for the space's choices by ``trial.suggest_categorical(name, options)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autoad_core.controller import Controller, Outcome, Status
from autoad_core.errors import SpaceError
from autoad_core.space import Space

_ENDS: dict[TrialState, Status] = {
    TrialState.COMPLETE: "ok",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "pruned",
}


class ControllerSampler(BaseSampler):
    """Proposes what a controller proposes, and tells it what came out.

    Parameters outside the space are drawn uniformly. Of a study that minimizes, the controller sees the negated values; an
    infinite value counts as a failure. A study has one objective, and trials from before the sampler are not told.

    Args:
        space: Its choices are the study's parameters.
        controller: Made for this space.
    """

    def __init__(self, space: Space, controller: Controller) -> None:
        self._space, self._controller = space, controller
        self._others = RandomSampler(seed=0)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All choices of the space, those that may not exist included."""
        return {c.name: CategoricalDistribution(c.options) for c in self._space.choices}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The controller's next proposal; nothing when it has none left."""
        archs = self._controller.ask(1)
        return dict(self._space.decode(archs[0])) if archs else {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A uniform value."""
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the controller; a trial with parameters that are no point of the space is passed over."""
        try:
            arch = self._space.encode({k: v for k, v in trial.params.items() if k in self._names})
        except SpaceError:
            return
        value = values[0] if state == TrialState.COMPLETE and values and math.isfinite(values[0]) else None
        if value is not None and study.direction == StudyDirection.MINIMIZE:
            value = -value
        status = _ENDS[state] if value is not None or state != TrialState.COMPLETE else "failed"
        self._controller.tell([Outcome(trial.number, arch, status, value)])

    @property
    def _names(self) -> set[str]:
        return {c.name for c in self._space.choices}
