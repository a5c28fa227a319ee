"""Built-in activations: those of the published search space, straight from ``torch.nn``."""

from __future__ import annotations

from collections.abc import Iterator

from autoad_core import Component, hookimpl

_PUBLISHED = {
    "sigmoid": ("Sigmoid", "1 / (1 + exp(-x))"),
    "tanh": ("Tanh", "Hyperbolic tangent"),
    "relu": ("ReLU", "max(0, x)"),
    "linear": ("Identity", "x itself: no activation"),
    "softplus": ("Softplus", "log(1 + exp(x))"),
    "leakyrelu": ("LeakyReLU", "max(0.01 x, x)"),
    "relu6": ("ReLU6", "min(max(0, x), 6)"),
    "elu": ("ELU", "x where positive, exp(x) - 1 elsewhere"),
}


@hookimpl
def autoad_activations() -> Iterator[Component]:
    for name, (layer, summary) in _PUBLISHED.items():
        yield Component(name=name, target=f"torch.nn:{layer}", summary=summary, in_paper=True)
