"""AutoAD's controllers in a study of one's own: pip install 'autoad[optuna]'; python examples/optuna_study.py.

The objective is anything that depends on finite choices; here the accuracy of a small classifier of handwritten digits.
"""

import optuna
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from autoad_core.component import Kind
from autoad_core.discovery import discover
from autoad_core.space import Choice, Space
from autoad_plugins.optuna_sampler import ControllerSampler

SCALERS = {"length": Normalizer(), "largest": Normalizer("max"), "standard": StandardScaler()}
SPACE = Space(
    (
        Choice("scaler", tuple(SCALERS)),
        Choice("neighbours", (1, 3, 5, 9, 15)),
        Choice("weights", ("uniform", "distance")),
        Choice("metric", ("euclidean", "manhattan", "cosine")),
    )
)
DIGITS = load_digits(return_X_y=True)


def accuracy(trial: optuna.Trial) -> float:
    """Of three-fold cross-validation."""
    chosen = {choice.name: trial.suggest_categorical(choice.name, choice.options) for choice in SPACE.choices}
    neighbours = KNeighborsClassifier(
        chosen["neighbours"], weights=chosen["weights"], metric=chosen["metric"]
    )
    return float(cross_val_score(make_pipeline(SCALERS[chosen["scaler"]], neighbours), *DIGITS, cv=3).mean())


if __name__ == "__main__":
    controller = discover().registry.get(Kind.CONTROLLER, "bayesian-lstm").build({}, space=SPACE, seed=0)
    study = optuna.create_study(direction="maximize", sampler=ControllerSampler(SPACE, controller))
    study.optimize(accuracy, n_trials=20)
    print(f"{study.best_value:.4f} by {study.best_params}")
