"""The tree-structured Parzen estimator (Bergstra et al. 2011) by Optuna's sampler; needs the extra ``optuna``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.samplers import TPESampler
from optuna.trial import TrialState, create_trial

from autoad_core.controller import Outcome
from autoad_core.space import Arch, Option, Space
from autoad_plugins._random import Fresh

optuna.logging.set_verbosity(optuna.logging.WARNING)

CANDIDATES = (
    24  # drawn from the density of good points; the most promising one is suggested, as is Optuna's default
)
TRIES = (
    20  # suggestions before a uniform point is taken; after the first, of one candidate, so that they differ
)


class Tpe:
    """Optuna's `TPESampler`; a conditional choice is asked for where it exists.

    Every proposal has a sampler with a seed of its own, so that there is no hidden state to save. No point is proposed twice.

    Args:
        space: Where to search.
        seed: Of all randomness.
        startup: Uniform proposals before the first by the estimator.

    Raises:
        ValueError: ``startup`` is less than 1.
    """

    def __init__(self, space: Space, seed: int, startup: int = 10) -> None:
        if startup < 1:
            raise ValueError(f"startup must be at least 1, got {startup}")
        self._space, self._seed = space, seed
        self._startup = startup
        self._fresh = Fresh(space, seed)
        self._waiting: dict[Arch, int] = {}  # proposed, not told; Optuna's number of the trial
        self._study = self._new_study()

    def ask(self, n: int) -> Sequence[Arch]:
        """See `autoad_core.controller.Controller.ask`."""
        return list(islice(iter(self._propose, None), n))

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """See `autoad_core.controller.Controller.tell`."""
        for outcome in outcomes:
            number = self._waiting.pop(outcome.arch, None)
            if number is None:
                continue
            if outcome.value is None:
                self._study.tell(number, state=TrialState.FAIL)
            else:
                self._study.tell(number, outcome.value)

    def state_dict(self) -> dict[str, Any]:
        """JSON values."""
        trials = [[dict(t.params), t.state.name, t.value] for t in self._study.get_trials(deepcopy=False)]
        waiting = [[list(arch), number] for arch, number in self._waiting.items()]
        return {"seed": self._seed, "fresh": self._fresh.state_dict(), "trials": trials, "waiting": waiting}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the saved one stopped."""
        self._seed = state["seed"]
        self._fresh.load_state_dict(state["fresh"])
        self._waiting = {tuple(arch): number for arch, number in state["waiting"]}
        self._study = self._new_study()
        options = {c.name: CategoricalDistribution(c.options) for c in self._space.choices}
        for params, name, value in state["trials"]:
            trial = create_trial(
                state=TrialState[name],
                value=value,
                params=params,
                distributions={key: options[key] for key in params},
            )
            self._study.add_trial(trial)

    def _propose(self) -> Arch | None:
        candidates = iter([CANDIDATES])
        arch = self._fresh.draw(lambda: self._suggest(next(candidates, 1)), TRIES)
        self._settle(arch)
        return arch

    def _suggest(self, candidates: int) -> Arch:
        """A point as Optuna sees it, and its trial waiting."""
        asked = self._count()
        self._study.sampler = TPESampler(
            n_startup_trials=self._startup,
            n_ei_candidates=candidates,
            seed=random.Random(f"{self._seed}:{asked}").getrandbits(32),
        )
        trial = self._study.ask()
        values: dict[str, Option] = {}
        for choice in self._space.choices:
            if choice.when is None or values.get(choice.when[0]) in choice.when[1]:
                found = trial.suggest_categorical(choice.name, choice.options)
                assert found is not None  # an option of ours
                values[choice.name] = found
        arch = self._space.encode(values)
        if arch in self._fresh:
            self._waiting[arch] = trial.number
        else:
            self._study.tell(trial.number, state=TrialState.FAIL)
        return arch

    def _settle(self, arch: Arch | None) -> None:
        """A point that did not come from the estimator: Optuna learns of it all the same."""
        if arch is None or arch in self._waiting:
            return
        values = self._space.decode(arch)
        options = {c.name: CategoricalDistribution(c.options) for c in self._space.choices}
        trial = create_trial(
            state=TrialState.RUNNING, params=values, distributions={key: options[key] for key in values}
        )
        self._study.add_trial(trial)
        self._waiting[arch] = self._count() - 1

    def _count(self) -> int:
        return len(self._study.get_trials(deepcopy=False))  # a copy of all trials would take most of the time

    def _new_study(self) -> optuna.Study:
        return optuna.create_study(direction="maximize")
