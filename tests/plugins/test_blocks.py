"""Activations, normalizations and poolings: the published ones, by their formulas, defined on the smallest maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from autoad_core import Component, Kind
from autoad_core.testing import (
    ActivationContract,
    NormalizationContract,
    PoolingContract,
    check_plugin,
)
from autoad_plugins import activations, normalizations, poolings
from autoad_plugins._blocks import BatchNorm, InstanceNorm, average_pool, max_pool

FORMULAS: dict[str, Callable[[float], float]] = {
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "relu": lambda x: max(0.0, x),
    "linear": lambda x: x,
    "softplus": lambda x: math.log1p(math.exp(x)),
    "leakyrelu": lambda x: x if x > 0 else 0.01 * x,
    "relu6": lambda x: min(max(0.0, x), 6.0),
    "elu": lambda x: x if x > 0 else math.expm1(x),
}


def factory(module: str, kind: Kind, name: str) -> Callable[..., nn.Module]:
    made: Callable[..., nn.Module] = check_plugin(f"autoad_plugins.{module}").registry.get(kind, name).load()
    return made


def names(declared: Iterable[Component]) -> list[str]:
    return [component.name for component in declared if component.in_paper]


def test_the_published_space_is_declared_and_nothing_else() -> None:
    assert names(activations.autoad_activations()) == list(FORMULAS)
    assert names(normalizations.autoad_normalizations()) == ["batch", "instance", "none"]
    assert names(poolings.autoad_poolings()) == ["max", "average"]
    assert len([*activations.autoad_activations()]) == 8


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_follow_their_formulas(name: str) -> None:
    activation = factory("activations", Kind.ACTIVATION, name)()
    xs = [-30.0, -2.5, -0.1, 0.0, 0.3, 5.9, 6.1, 30.0]
    expected = [FORMULAS[name](x) for x in xs]
    assert activation(torch.tensor(xs)).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_keep_the_contract(name: str) -> None:
    make = staticmethod(factory("activations", Kind.ACTIVATION, name))
    contract: ActivationContract = type("Contract", (ActivationContract,), {"make": make})()
    contract.test_keeps_any_shape_and_is_finite_with_finite_gradients()
    contract.test_is_elementwise()


class TestBatch(NormalizationContract):
    make = staticmethod(BatchNorm)


class TestInstance(NormalizationContract):
    make = staticmethod(InstanceNorm)
    identity_on_1x1 = True


class TestNone(NormalizationContract):
    make = staticmethod(nn.Identity)
    identity_on_1x1 = True


class TestMax(PoolingContract):
    make = staticmethod(max_pool)


class TestAverage(PoolingContract):
    make = staticmethod(average_pool)


def test_declared_identities_on_1x1_are_the_true_ones() -> None:
    declared = {c.name: c.identity_on_1x1 for c in normalizations.autoad_normalizations()}
    assert declared == {"batch": False, "instance": True, "none": True}


def test_none_takes_the_channels_and_changes_nothing() -> None:
    x = torch.randn(2, 3, 4, 4)
    assert factory("normalizations", Kind.NORMALIZATION, "none")(3)(x).equal(x)


def test_batch_norm_follows_its_formula() -> None:
    x = torch.randn(8, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
    mean, variance = x.numpy().mean((0, 2, 3), keepdims=True), x.numpy().var((0, 2, 3), keepdims=True)
    found = BatchNorm(3).train()(x).detach().numpy()
    np.testing.assert_allclose(found, (x.numpy() - mean) / np.sqrt(variance + 1e-5), atol=1e-5)


def test_batch_norm_takes_one_pixel_in_training_by_the_running_statistics() -> None:
    norm = BatchNorm(2).train()
    norm(torch.randn(64, 2, 3, 3) * 2 + 5)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    lone = torch.tensor([3.0, 7.0]).reshape(1, 2, 1, 1).requires_grad_()
    found = norm(lone)
    found.sum().backward()
    assert all(value.equal(before[name]) for name, value in norm.state_dict().items())
    assert found.equal(norm.eval()(lone))
    assert found[0, 0, 0, 0] != found[0, 1, 0, 0]  # the value gets through
    assert lone.grad is not None
    assert (lone.grad > 0).all()


def test_batch_norm_still_learns_from_one_pixel_of_several_images() -> None:
    norm = BatchNorm(1).train()
    found = norm(torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1))
    assert found.flatten().tolist() == pytest.approx([-1, 1], abs=1e-4)
    assert norm.running_mean is not None
    assert norm.running_mean.item() == pytest.approx(0.2)


def test_instance_norm_is_of_each_image_and_has_no_parameters() -> None:
    norm = InstanceNorm(3).train()
    assert not norm.state_dict()
    x = torch.randn(4, 3, 2, 7)
    flat = x.flatten(2).numpy()
    expected = (flat - flat.mean(2, keepdims=True)) / np.sqrt(flat.var(2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(x).flatten(2).numpy(), expected, atol=1e-5)
    for line in (x[..., :1], x[:, :, :1]):
        assert norm(line).mean((2, 3)).abs().max() < 1e-5
    lone = x[:, :, :1, :1]
    assert norm(lone).equal(lone)


def windows(x: Tensor, kernel: tuple[int, int], reduce: Callable[[Any], Any]) -> list[list[float]]:
    """The reduction of each window of one (H, W) map, cut off where the map ends, by plain loops."""
    rows, columns = (range(0, size, step) for size, step in zip(x.shape, kernel, strict=True))
    return [[float(reduce(x[i : i + kernel[0], j : j + kernel[1]].numpy())) for j in columns] for i in rows]


@given(st.tuples(st.integers(1, 12), st.integers(1, 12)), st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_poolings_reduce_each_window_inside_the_image(size: tuple[int, int], kernel: tuple[int, int]) -> None:
    kernel = (min(kernel[0], size[0]), min(kernel[1], size[1]))
    x = torch.randn(size, generator=torch.Generator().manual_seed(sum(size))) - 3  # padding with 0 would show
    for make, reduce in ((max_pool, np.max), (average_pool, np.mean)):
        found = make(kernel)(x[None, None])[0, 0]
        np.testing.assert_allclose(found.numpy(), windows(x, kernel, reduce), rtol=1e-5)


def test_a_kernel_of_one_is_no_layer_at_all() -> None:
    assert isinstance(max_pool((1, 1)), nn.Identity)
    assert isinstance(average_pool((1, 1)), nn.Identity)
