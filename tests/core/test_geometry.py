"""Sizes inside a model, against closed forms, brute force and what torch's layers give."""

from __future__ import annotations

import itertools
import random
from math import ceil
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from autoad_core.discovery import discover
from autoad_core.geometry import FLAT_CODE, Geometry, SameModel, Shape, effective_pool, measure
from autoad_core.model import Autoencoder
from autoad_core.spec import Layer, Spec

REGISTRY = discover(builtin_only=True).registry
busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be


def layer(channels: int, pooling_kernel: int, kernel: int = 3, **changes: Any) -> Layer:
    rest = {"pooling": "average", "normalization": "none", "activation": "tanh", **changes}
    return Layer(channels=channels, kernel=kernel, pooling_kernel=pooling_kernel, **rest)


shapes = st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 70)).filter(
    lambda s: s[0] * s[1] * s[2] > 1
)
stacks = st.lists(
    st.builds(layer, st.sampled_from([1, 3, 8, 16, 64, 256, 4096]), st.sampled_from([1, 2, 3, 5, 7, 100])),
    min_size=1,
    max_size=6,
)


def code_numbers(code: Shape, squeeze: Shape) -> int:
    sizes = [ceil(n / f) for n, f in zip(code, squeeze, strict=True)]
    return sizes[0] * sizes[1] * sizes[2]


# Closed forms


@pytest.mark.parametrize(
    ("side", "kernels", "sides"),
    [
        (28, [1, 1, 1], [28, 28, 28]),
        (28, [3, 3, 1], [10, 4, 4]),
        (28, [7, 7, 7], [4, 1, 1]),
        (28, [5, 7, 3], [6, 1, 1]),
        (8, [3, 3, 3], [3, 1, 1]),
        (64, [7, 5, 3], [10, 2, 1]),
    ],
)
def test_sides_shrink_by_the_ceiling(side: int, kernels: list[int], sides: list[int]) -> None:
    geometry = measure([layer(3, k) for k in kernels], (1, side, side))
    assert [stage.after for stage in geometry.stages] == [(s, s) for s in sides]
    assert [stage.before for stage in geometry.stages] == [(s, s) for s in [side, *sides[:-1]]]


@busy
@given(stacks, shapes)
def test_sizes_follow_from_layer_to_layer(layers: list[Layer], shape: Shape) -> None:
    geometry = measure(layers, shape)
    channels, size = shape[0], shape[1:]
    for one, stage in zip(layers, geometry.stages, strict=True):
        assert (stage.channels_in, stage.before) == (channels, size)
        assert stage.pool == (min(one.pooling_kernel, size[0]), min(one.pooling_kernel, size[1]))
        assert stage.pool == effective_pool(one.pooling_kernel, size)
        # ceil(H / k) for k <= H is the same composed: ceil(ceil(n / a) / b) = ceil(n / (a b))
        channels, size = stage.channels, stage.after
        assert channels == one.channels
        assert min(size) >= 1
    height = shape[1]
    product = 1
    for stage in geometry.stages:
        product *= stage.pool[0]
        assert stage.after[0] == ceil(height / product)


def test_non_square_images_are_pooled_side_by_side() -> None:
    geometry = measure([layer(3, 5), layer(3, 5)], (1, 3, 40))
    assert [stage.pool for stage in geometry.stages] == [(3, 5), (1, 5)]
    assert [stage.after for stage in geometry.stages] == [(1, 8), (1, 2)]


# The bottleneck


@busy
@given(stacks, shapes)
def test_the_code_is_at_most_half_of_the_image_by_the_smallest_factor(
    layers: list[Layer], shape: Shape
) -> None:
    geometry = measure(layers, shape)
    half = shape[0] * shape[1] * shape[2] // 2
    last = geometry.stages[-1]
    full = (last.channels, *last.after)
    c, h, w = geometry.code
    assert c * h * w == code_numbers(full, geometry.squeeze) <= half
    # Brute force: of all factors on positions, then on channels, none smaller would do.
    by_position = [(1, min(f, full[1]), min(f, full[2])) for f in range(1, max(full[1:]) + 1)]
    by_channel = [(g, full[1], full[2]) for g in range(2, full[0] + 1)]
    assert geometry.squeeze == next(s for s in [*by_position, *by_channel] if code_numbers(full, s) <= half)


def test_no_pool_is_added_where_there_is_a_bottleneck() -> None:
    assert measure([layer(8, 7)], (1, 28, 28)).squeeze == (1, 1, 1)
    assert measure([layer(2, 2)], (1, 8, 8)).squeeze == (1, 1, 1)  # 2 * 4 * 4 is half of 64
    assert measure([layer(3, 2)], (1, 8, 8)).squeeze == (1, 2, 2)


def test_channels_are_pooled_where_positions_do_not_suffice() -> None:
    geometry = measure([layer(256, 8)], (1, 8, 8))
    assert geometry.squeeze == (8, 1, 1)
    assert geometry.code == (32, 1, 1)


def test_the_share_of_points_without_a_bottleneck_is_the_known_one() -> None:
    """21 % on 28x28; the standard error of 4,000 draws is 0.7 %."""
    rng = random.Random(0)
    widths, kernels = (3, 8, 16, 32, 64, 128, 256), (1, 3, 5, 7)
    squeezed = 0
    for _ in range(4000):
        layers = [layer(rng.choice(widths), rng.choice(kernels)) for _ in range(3)]
        squeezed += measure(layers, (1, 28, 28)).squeeze != (1, 1, 1)
    assert squeezed / 4000 == pytest.approx(0.21, abs=0.03)


@settings(busy, max_examples=60)
@given(
    st.lists(
        st.builds(layer, st.sampled_from([1, 3, 8, 40]), st.sampled_from([1, 2, 3, 7])),
        min_size=1,
        max_size=3,
    ),
    st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(2, 20)),
    st.sampled_from(["upsample-first", "paper"]),
)
def test_torch_gives_the_sizes_that_were_measured(layers: list[Layer], shape: Shape, decoder: str) -> None:
    network = Autoencoder(Spec("x", "y", tuple(layers)), shape, REGISTRY, decoder)
    with torch.inference_mode():
        reconstruction, code = network(torch.rand(2, *shape))
    assert tuple(reconstruction.shape[1:]) == shape
    assert tuple(code.shape[1:]) == network.geometry.code
    for view in ("mean", "flat"):
        assert network.view(code, view).shape == (2, network.geometry.code_dim(view))


def test_the_added_pool_averages_what_there_is() -> None:
    """Against a mean over slices: windows at the border hold fewer numbers."""
    network = Autoencoder(Spec("x", "y", (layer(20, 1, 1, activation="linear"),)), (1, 5, 7), REGISTRY)
    assert network.geometry.squeeze == (2, 5, 7)
    image = torch.rand(2, 1, 5, 7)
    with torch.no_grad():
        weight, bias = network.encoder[0][0].weight, network.encoder[0][0].bias
        maps = F.conv2d(image, weight, bias)
        wanted = torch.stack([maps[:, i : i + 2].mean((1, 2, 3)) for i in range(0, 20, 2)], 1)
        assert network.encode(image)[:, :, 0, 0] == pytest.approx(wanted, abs=1e-6)


def test_a_pool_of_positions_keeps_the_border() -> None:
    network = Autoencoder(Spec("x", "y", (layer(2, 1, 1, activation="linear"),)), (1, 5, 5), REGISTRY)
    assert network.geometry.squeeze == (1, 3, 3)
    image = torch.rand(1, 1, 5, 5)
    with torch.no_grad():
        maps = network.encoder[0](image)
        corner = network.encode(image)[0, 0, 1, 1]
        assert float(corner) == pytest.approx(float(maps[0, 0, 3:, 3:].mean()), abs=1e-6)


# Views


def flat_numbers(geometry: Geometry, factor: int) -> int:
    c, h, w = geometry.code
    return c * ceil(h / factor) * ceil(w / factor)


@busy
@given(stacks, shapes)
def test_the_flat_view_is_pooled_as_little_as_need_be(layers: list[Layer], shape: Shape) -> None:
    geometry = measure(layers, shape)
    c, h, w = geometry.code
    factor = geometry.flat_pool
    assert geometry.code_dim("mean") == c
    assert geometry.code_dim("flat") == flat_numbers(geometry, factor)
    assert geometry.code_dim("flat") <= FLAT_CODE or (factor == max(h, w) and geometry.code_dim("flat") == c)
    assert factor == 1 or flat_numbers(geometry, factor - 1) > FLAT_CODE


def test_views_of_a_code() -> None:
    network = Autoencoder(Spec("x", "y", (layer(16, 1),)), (3, 16, 16), REGISTRY)
    assert network.geometry.code == (16, 4, 4)
    assert network.geometry.flat_pool == 1
    code = torch.rand(2, 16, 4, 4)
    assert torch.equal(network.view(code, "flat"), code.flatten(1))
    assert network.view(code, "mean") == pytest.approx(code.flatten(2).mean(2), abs=1e-6)
    assert network.view(code.bfloat16(), "flat").dtype == torch.float32


def test_a_flat_view_that_is_pooled_averages_blocks() -> None:
    network = Autoencoder(Spec("x", "y", (layer(16, 4),)), (3, 32, 32), REGISTRY)
    assert (network.geometry.code, network.geometry.flat_pool) == ((16, 8, 8), 2)
    code = torch.rand(1, 16, 8, 8)
    blocks = code.view(1, 16, 4, 2, 4, 2).mean((3, 5)).flatten(1)
    assert network.view(code, "flat") == pytest.approx(blocks, abs=1e-6)
    assert network.geometry.code_dim("flat") == 256


# The rule of equal models


def rule(side: int, kernels: tuple[int, ...], layers: int = 2) -> SameModel:
    return SameModel(
        size=(side, side),
        poolings=(("max", "average"),) * layers,
        kernels=(kernels,) * layers,
        identities=frozenset({"instance", "none"}),
        normalizations=(("batch", "none", "instance"),) * layers,
    )


def values(*layers: tuple[str, int, str]) -> dict[str, Any]:
    out: dict[str, Any] = {"hypothesis": "x"}
    for i, (pooling, kernel, normalization) in enumerate(layers, start=1):
        out |= {f"layer{i}.pooling": pooling, f"layer{i}.pooling_kernel": kernel}
        out |= {f"layer{i}.normalization": normalization}
    return out


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        # the type of pooling does not matter under a 1x1 kernel
        ([("average", 1, "batch"), ("average", 3, "batch")], [("max", 1, "batch"), ("average", 3, "batch")]),
        # kernels larger than the map of 3x3 act alike
        (
            [("average", 3, "batch"), ("average", 7, "batch")],
            [("average", 3, "batch"), ("average", 3, "batch")],
        ),
        (
            [("average", 3, "batch"), ("average", 5, "batch")],
            [("average", 3, "batch"), ("average", 3, "batch")],
        ),
        # on one pixel no pooling matters, and normalizations that are the identity there are one
        (
            [("average", 9, "instance"), ("average", 7, "instance")],
            [("average", 9, "none"), ("max", 1, "none")],
        ),
        ([("average", 9, "batch"), ("max", 3, "batch")], [("average", 9, "batch"), ("max", 1, "batch")]),
        # 3x3 to one pixel: the decoder of layer 2 still normalizes 3x3
        ([("max", 3, "instance"), ("max", 3, "instance")], [("max", 3, "instance"), ("max", 3, "instance")]),
    ],
)
def test_the_rule_by_hand(given_: list[tuple[str, int, str]], wanted: list[tuple[str, int, str]]) -> None:
    assert rule(9, (1, 3, 5, 7, 9))(values(*given_)) == values(*wanted)


def test_the_rule_changes_nothing_it_was_given() -> None:
    point = values(("average", 1, "batch"), ("average", 9, "none"))
    before = dict(point)
    rule(9, (1, 9))(point)
    assert point == before


def test_the_rule_only_names_options_that_there_are() -> None:
    """A space whose smallest kernel is 2: on one pixel 2 and 4 act alike, and 1 is no option."""
    for kernels in itertools.product((2, 4), repeat=3):
        out = rule(4, (4, 2), layers=3)(values(*(("average", k, "instance") for k in kernels)))
        assert all(out[f"layer{i}.pooling_kernel"] in (2, 4) for i in (1, 2, 3))
        assert out["layer3.pooling_kernel"] == 2


def test_every_layer_goes_by_its_own_options() -> None:
    own = SameModel(
        size=(8, 8),
        poolings=(("max", "average"), ("average", "max"), ("middle",)),
        kernels=((1,), (8, 16), (4, 2, 3)),
        identities=frozenset({"instance", "none"}),
        normalizations=(("none",), ("instance", "none"), ("batch", "instance", "none")),
    )
    out = own(values(("average", 1, "none"), ("max", 16, "none"), ("middle", 3, "none")))
    assert out == values(("max", 1, "none"), ("max", 8, "none"), ("middle", 2, "instance"))
    out = own(values(("average", 1, "none"), ("average", 8, "none"), ("middle", 4, "batch")))
    assert out == values(("max", 1, "none"), ("average", 8, "none"), ("middle", 2, "batch"))
