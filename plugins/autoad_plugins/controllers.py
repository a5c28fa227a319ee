"""Built-in controllers: declarations only. Importing this module imports none of them."""

from __future__ import annotations

from collections.abc import Iterator

from autoad_core import Component, hookimpl


@hookimpl
def autoad_controllers() -> Iterator[Component]:
    yield Component(
        name="random",
        target="autoad_plugins._random:RandomSearch",
        summary="Uniform random search without repeats: what every other strategy has to beat",
    )
    yield Component(
        name="regularized-evolution",
        target="autoad_plugins._evolution:RegularizedEvolution",
        summary="Ageing evolution by tournaments and single mutations (Real et al. 2019)",
    )
    yield Component(
        name="local-search",
        target="autoad_plugins._local_search:LocalSearch",
        summary="Hill climbing over single changes, with restarts (White et al. 2021)",
    )
    yield Component(
        name="bayesian-lstm",
        target="autoad_plugins._bayesian_lstm:BayesianLstm",
        summary="Curiosity-guided Bayesian LSTM with self-imitation (Li et al. 2022)",
    )
    yield Component(
        name="tpe",
        target="autoad_plugins._tpe:Tpe",
        summary="Tree-structured Parzen estimator (Bergstra et al. 2011), by Optuna",
        requires=("optuna",),
        extra="autoad[optuna]",
    )
