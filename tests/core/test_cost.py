"""The predicted cost, against counts that torch makes of the network itself."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from autoad_core import Space
from autoad_core.config import parse
from autoad_core.cost import (
    SECONDS_PER_GB,
    SECONDS_PER_GFLOP,
    SECONDS_PER_STEP,
    activation_bytes,
    cost_cap,
    cost_of,
    flops,
    predict_seconds,
)
from autoad_core.discovery import discover
from autoad_core.experiment import make_space
from autoad_core.geometry import Shape, measure
from autoad_core.model import Autoencoder
from autoad_core.spec import Layer, Spec

REGISTRY = discover(builtin_only=True).registry
busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be


def layer(channels: int, kernel: int, pooling_kernel: int, **changes: Any) -> Layer:
    rest = {"pooling": "max", "normalization": "batch", "activation": "relu", **changes}
    return Layer(channels=channels, kernel=kernel, pooling_kernel=pooling_kernel, **rest)


layers = st.builds(layer, st.integers(1, 20), st.sampled_from([1, 3, 5]), st.sampled_from([1, 2, 3, 7]))
specs = st.lists(layers, min_size=1, max_size=4).map(lambda ls: Spec("h", "d", tuple(ls)))
shapes = st.tuples(st.integers(1, 3), st.integers(1, 16), st.integers(2, 16))


def counted(spec: Spec, shape: Shape, decoder: str = "upsample-first") -> int:
    """Floating-point operations of a forward pass of one image, as torch counts them."""
    network = Autoencoder(spec, shape, REGISTRY, decoder).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.rand(1, *shape))
    return int(counter.get_total_flops())


@settings(busy, max_examples=50)
@given(specs, shapes)
def test_flops_are_those_that_torch_counts(spec: Spec, shape: Shape) -> None:
    predicted = flops(spec, measure(spec.layers, shape))
    assert predicted == counted(spec, shape)
    assert predicted >= counted(spec, shape, "paper")  # which convolves before it upsamples


def test_flops_by_hand() -> None:
    spec = Spec("h", "d", (layer(8, 3, 2), layer(4, 5, 2)))
    encoder = 2 * (1 * 8 * 9 * 10 * 10 + 8 * 4 * 25 * 5 * 5)
    assert flops(spec, measure(spec.layers, (1, 10, 10))) == 2 * encoder


def saved_bytes(spec: Spec, shape: Shape) -> int:
    """Bytes of the distinct maps of one image that autograd keeps for the backward pass."""
    network, kept = Autoencoder(spec, shape, REGISTRY), {}
    weights = {p.data_ptr() for p in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights and tensor.ndim == 4:
            kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = network(torch.rand(2, *shape))[0].sum()
        loss.backward()
    return sum(t.numel() * 4 for t in kept.values()) // 2  # two images, since batch norm wants them


def test_activation_bytes_rank_as_what_autograd_keeps() -> None:
    """Not the same number, which depends on torch's kernels: the same order, within a factor of two."""
    rng = random.Random(0)
    pairs = []
    for _ in range(30):
        chosen = [layer(rng.choice([3, 8, 16]), 3, rng.choice([1, 2, 3])) for _ in range(rng.randint(1, 4))]
        spec, shape = Spec("h", "d", tuple(chosen)), (rng.choice([1, 3]), 24, 24)
        pairs.append((activation_bytes(measure(spec.layers, shape)), saved_bytes(spec, shape)))
    ratios = [a / b for a, b in pairs]
    assert max(ratios) / min(ratios) < 2.5
    ranks = torch.tensor(pairs, dtype=torch.float64).T.argsort(1).argsort(1).double()
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.95


def test_activation_bytes_by_hand() -> None:
    geometry = measure([layer(8, 3, 2)], (1, 10, 10))
    encoder = 8 * (100 + 3 * 25)  # convolution, then pooling, normalization, activation
    decoder = 8 * 100 + 3 * 1 * 100  # upsampling, then convolution, normalization, activation
    assert activation_bytes(geometry) == 4 * (encoder + decoder)


@busy
@given(specs, shapes, st.integers(1, 10**6), st.integers(1, 512), st.data())
def test_more_of_anything_never_costs_less(
    spec: Spec, shape: Shape, images: int, batch: int, data: st.DataObject
) -> None:
    """More channels, a larger convolution, a smaller pooling, more images, smaller batches."""
    i = data.draw(st.integers(0, len(spec.layers) - 1))
    here = spec.layers[i]
    change = data.draw(
        st.sampled_from([{"channels": here.channels + 1}, {"kernel": here.kernel + 2}, {"pooling_kernel": 1}])
    )
    changed = (*spec.layers[:i], replace(here, **change), *spec.layers[i + 1 :])
    more = replace(spec, layers=changed)
    cost = cost_of(spec, shape, images, batch)
    assert 0 < cost <= cost_of(more, shape, images, batch)
    if "pooling_kernel" not in change:
        assert cost < cost_of(more, shape, images, batch)
    assert cost < cost_of(spec, shape, images + batch, batch)
    assert cost <= cost_of(spec, shape, images, max(1, batch // 2))


def test_the_model_is_the_sum_of_its_three_terms() -> None:
    spec = Spec("h", "d", (layer(8, 3, 2),))
    geometry = measure(spec.layers, (1, 10, 10))
    wanted = (
        SECONDS_PER_GFLOP * 3 * flops(spec, geometry) * 130 / 1e9
        + SECONDS_PER_GB * activation_bytes(geometry) * 130 / 1e9
        + SECONDS_PER_STEP * 3  # 64 + 64 + 2
    )
    assert predict_seconds(spec, geometry, 130, 64) == pytest.approx(wanted, rel=1e-12)
    assert cost_of(spec, (1, 10, 10), 130, 64) == predict_seconds(spec, geometry, 130, 64)
    assert (SECONDS_PER_GFLOP, SECONDS_PER_GB, SECONDS_PER_STEP) == (8e-3, 1.8, 5e-3)


# The cap

SHAPE = (1, 28, 28)


def space(**options: Any) -> Space:
    return make_space(parse({"preset": "paper", "space": options}), REGISTRY, SHAPE)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.75, 0.95])
def test_the_cap_lets_through_its_quantile_of_the_space(quantile: float) -> None:
    """Of 2,000 other points; the cap's own 1,000 and these have a standard error of 2 % together at most."""
    full, rng = space(), random.Random(123)
    cap = cost_cap(full, SHAPE, quantile, 50_000, 64)
    costs = [cost_of(Spec.from_values(full.decode(full.sample(rng))), SHAPE, 50_000, 64) for _ in range(2000)]
    assert sum(c <= cap for c in costs) / 2000 == pytest.approx(quantile, abs=0.06)


def test_the_cap_grows_with_its_quantile_and_belongs_to_the_space_alone() -> None:
    random.seed(1)
    caps = [cost_cap(space(), SHAPE, q / 10, 50_000, 64) for q in range(1, 11)]
    assert caps == sorted(caps)
    assert caps[-1] == math.inf
    assert all(math.isfinite(c) for c in caps[:-1])
    random.seed(2)
    assert cost_cap(space(), SHAPE, 0.3, 50_000, 64) == caps[2]


def test_the_cap_of_one_architecture_lets_it_through() -> None:
    one = {
        "channels": [8],
        "kernel": [3],
        "pooling_kernel": [2],
        "normalization": ["none"],
        "activation": ["relu"],
    }
    single = space(layers=1, hypothesis=["cluster"], distance=["l1"], pooling=["max"], **one)
    spec = Spec.from_values(single.decode((0,) * 8))
    assert cost_cap(single, SHAPE, 0.01, 1000, 64) == cost_of(spec, SHAPE, 1000, 64)
