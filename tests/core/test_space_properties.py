"""What holds at every point of the search space: it builds, it trains, and equal points are equal models.

Random points are drawn with fixed seeds: 12,000 for what is arithmetic alone (500 for each N and shape), 720 that are
built and take a step (30 for each), 288 that are built beside their canonical twin, and all 512 combinations of poolings.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from autoad_core import Arch, Choice, Component, Kind, Space
from autoad_core.assemble import LayerOptions, assemble, component_ids, single_point
from autoad_core.config import parse
from autoad_core.cost import flops
from autoad_core.detector import Detector
from autoad_core.discovery import discover
from autoad_core.experiment import make_space
from autoad_core.geometry import Shape, measure
from autoad_core.model import Autoencoder, parameters
from autoad_core.protocols import Batch
from autoad_core.registry import Entry, Origin, Registry
from autoad_core.spec import Spec
from autoad_core.training import settle

REGISTRY = discover(builtin_only=True).registry
SHAPES: tuple[Shape, ...] = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64))
CASES = [(n, shape) for n in range(1, 7) for shape in SHAPES]
WIDTHS = (3, 8, 16, 32, 64, 128, 256)


def paper_space(layers: int, shape: Shape, **space: Any) -> Space:
    return make_space(parse({"preset": "paper", "space": {"layers": layers, **space}}), REGISTRY, shape)


def literal_points(space: Space, seed: int) -> Iterator[Arch]:
    """Uniform over index tuples, not canonical."""
    rng = random.Random(seed)
    while True:
        yield tuple(rng.randrange(len(c.options)) for c in space.choices)


def literal_spec(space: Space, arch: Arch) -> Spec:
    """What the indices say, letter by letter: no rule makes it canonical."""
    values = {c.name: c.options[i] for c, i in zip(space.choices, arch, strict=True)}
    active = {c.name for c in space.choices if c.when is None or values[c.when[0]] in c.when[1]}
    return Spec.from_values({k: v for k, v in values.items() if k in active})


def cheap(spec: Spec, shape: Shape) -> bool:
    """So small that thousands can be built; nothing but time is saved by this."""
    geometry = measure(spec.layers, shape)
    weights = sum(
        s.channels_in * x.channels * x.kernel**2 for s, x in zip(geometry.stages, spec.layers, strict=True)
    )
    return flops(spec, geometry) < 4e7 and weights < 1e5


def build(spec: Spec, shape: Shape, decoder: str = "upsample-first") -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(spec, shape, REGISTRY, decoder)


# Size


@pytest.mark.parametrize(("layers", "shape"), CASES)
def test_the_published_space_has_6n_plus_2_choices_and_the_published_size(layers: int, shape: Shape) -> None:
    space = paper_space(layers, shape)
    assert len(space.choices) == 6 * layers + 2
    assert space.size == 4 * 4 * (7 * 4 * 2 * 4 * 3 * 8) ** layers


def test_the_published_options_are_all_there() -> None:
    names = {
        c.name: [str(o).removeprefix("autoad/") for o in c.options]
        for c in paper_space(1, (1, 28, 28)).choices
    }
    assert set(names["hypothesis"]) == {"reconstruction", "centroid", "cluster", "density"}
    assert set(names["distance"]) == {"l1", "l2", "l21", "ssim"}
    assert names["layer1.channels"] == [str(w) for w in WIDTHS]
    assert names["layer1.kernel"] == names["layer1.pooling_kernel"] == ["1", "3", "5", "7"]
    assert set(names["layer1.pooling"]) == {"max", "average"}
    assert set(names["layer1.normalization"]) == {"batch", "instance", "none"}
    activations = {"sigmoid", "tanh", "relu", "linear", "softplus", "leakyrelu", "relu6", "elu"}
    assert set(names["layer1.activation"]) == activations


def test_without_the_preset_every_component_is_an_option() -> None:
    space = make_space(parse({}), REGISTRY, (1, 28, 28))
    options = {o for c in space.choices for o in c.options}
    for kind in (Kind.ACTIVATION, Kind.NORMALIZATION, Kind.POOLING, Kind.HYPOTHESIS, Kind.DISTANCE):
        assert {e.id for e in REGISTRY.of(kind)} <= options


# Arithmetic, thousands of points


@pytest.mark.parametrize(("layers", "shape"), CASES)
def test_arithmetic_of_random_points(layers: int, shape: Shape) -> None:
    space = paper_space(layers, shape)
    numbers = shape[0] * shape[1] * shape[2]
    for arch in itertools.islice(literal_points(space, layers), 500):
        twin = space.canonical(arch)
        assert space.encode(space.decode(arch)) == twin
        assert space.canonical(twin) == twin
        assert space.decode(twin) == space.decode(arch)
        spec, literal = Spec.from_values(space.decode(arch)), literal_spec(space, arch)
        geometry = measure(spec.layers, shape)
        assert geometry == measure(literal.layers, shape)  # the twin has the sizes of the point itself
        c, h, w = geometry.code
        assert 1 <= c * h * w <= numbers // 2
        assert all(min(stage.after) >= 1 for stage in geometry.stages)
        assert Spec.from_dict(spec.to_dict()) == spec
        assert space.encode(spec.to_values()) == twin


@settings(deadline=None)
@given(st.data())
def test_any_point_of_any_space_is_canonical_after_one_step(data: st.DataObject) -> None:
    """Any sizes, square or not, and any subset of the options."""
    kernels = st.lists(st.sampled_from([1, 2, 3, 5, 7, 11]), min_size=1, max_size=4, unique=True)
    subset = {
        "channels": data.draw(st.lists(st.sampled_from(WIDTHS), min_size=1, unique=True)),
        "pooling_kernel": data.draw(kernels),
        "pooling": data.draw(st.permutations(["max", "average"])),
        "normalization": data.draw(
            st.lists(st.sampled_from(["batch", "instance", "none"]), min_size=1, unique=True)
        ),
    }
    shape = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 40)), data.draw(st.integers(2, 40)))
    space = paper_space(data.draw(st.integers(1, 6)), shape, **subset)
    arch = tuple(data.draw(st.integers(0, len(c.options) - 1)) for c in space.choices)
    twin = space.canonical(arch)
    assert space.canonical(twin) == space.encode(space.decode(twin)) == twin
    assert measure(Spec.from_values(space.decode(arch)).layers, shape) == measure(
        literal_spec(space, arch).layers, shape
    )


# Every point builds and takes a step


@pytest.mark.parametrize(("layers", "shape"), CASES)
def test_every_point_builds_and_takes_a_step(layers: int, shape: Shape) -> None:
    space = paper_space(layers, shape)
    points = (literal_spec(space, a) for a in literal_points(space, 100 + layers))
    chosen = itertools.islice((s for s in points if cheap(s, shape)), 30)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(layers))
    for i, spec in enumerate(chosen):
        torch.manual_seed(i)
        detector = Detector(spec, shape, REGISTRY, decoder=("upsample-first", "paper")[i % 2])
        settle(detector, images, start=True)
        detector.train()
        reconstruction, code = detector.network(images)
        assert reconstruction.shape == images.shape
        assert ((reconstruction >= 0) & (reconstruction <= 1)).all()
        assert tuple(code.shape[1:]) == detector.network.geometry.code
        assert 2 * code[0].numel() <= images[0].numel()
        loss, _ = detector.loss(images)
        loss.backward()
        assert torch.isfinite(loss), spec
        for name, parameter in detector.named_parameters():
            assert parameter.grad is not None, (name, spec)
            assert torch.isfinite(parameter.grad).all(), (name, spec)


def test_the_widest_points_build_and_take_a_step() -> None:
    """The draw above leaves out what is dear; on small images the widest is not."""
    space = paper_space(6, (1, 8, 8), channels=[256], kernel=[7], pooling_kernel=[1, 3])
    for arch in itertools.islice(literal_points(space, 1), 2):
        spec = literal_spec(space, arch)
        spec = replace(spec, layers=spec.layers[:2])
        detector = Detector(spec, (1, 8, 8), REGISTRY)
        images = torch.rand(2, 1, 8, 8)
        settle(detector, images, start=True)
        loss, _ = detector.loss(images)
        loss.backward()
        assert torch.isfinite(loss)
        assert 2 * detector.network.encode(images)[0].numel() <= 64


# Equal canonical means equal module


@pytest.mark.parametrize(("layers", "shape"), CASES)
def test_a_point_is_the_same_module_as_its_canonical_twin(layers: int, shape: Shape) -> None:
    space = paper_space(layers, shape)
    points = (a for a in literal_points(space, 200 + layers) if a != space.canonical(a))
    specs = ((literal_spec(space, a), Spec.from_values(space.decode(a))) for a in points)
    chosen = itertools.islice((pair for pair in specs if cheap(pair[0], shape)), 12)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(layers))
    for i, (literal, canonical) in enumerate(chosen):
        assert literal != canonical
        decoder = ("upsample-first", "paper")[i % 2]
        one, two = build(literal, shape, decoder), build(canonical, shape, decoder)
        assert {k: v.shape for k, v in one.state_dict().items()} == {
            k: v.shape for k, v in two.state_dict().items()
        }
        for mode in (True, False):
            with torch.no_grad():
                ours, theirs = one.train(mode)(images), two.train(mode)(images)
            assert torch.equal(ours[0], theirs[0]), (literal, canonical)
            assert torch.equal(ours[1], theirs[1]), (literal, canonical)


def pooling_combinations() -> tuple[Space, list[Arch]]:
    """N = 3 on 28x28, all else fixed: 2 types and 4 kernels in three layers."""
    fixed: dict[str, Any] = {
        "channels": [3],
        "kernel": [3],
        "normalization": ["none"],
        "activation": ["tanh"],
    }
    space = paper_space(3, (1, 28, 28), hypothesis=["reconstruction"], distance=["l2"], **fixed)
    return space, [tuple(a) for a in itertools.product(*(range(len(c.options)) for c in space.choices))]


def test_exactly_171_of_512_pooling_combinations_differ() -> None:
    space, combinations = pooling_combinations()
    assert len(combinations) == 512
    assert len({space.canonical(a) for a in combinations}) == 171


def test_pooling_combinations_are_told_apart_exactly_where_the_modules_differ() -> None:
    """The outputs of the 512 networks as they are written, none made canonical, fall into the same 171 classes."""
    space, combinations = pooling_combinations()
    image = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    classes: dict[bytes, set[Arch]] = {}
    for arch in combinations:
        network = build(literal_spec(space, arch), (1, 28, 28))
        with torch.no_grad():
            reconstruction, code = network(image)
        classes.setdefault(code.numpy().tobytes() + reconstruction.numpy().tobytes(), set()).add(
            space.canonical(arch)
        )
    assert len(classes) == 171
    assert all(len(canonical) == 1 for canonical in classes.values())


def instance_and_none(layers: int, kernels: list[int]) -> Space:
    return paper_space(
        layers,
        (1, 8, 8),
        channels=[3],
        kernel=[3],
        pooling=["max"],
        pooling_kernel=kernels,
        normalization=["batch", "instance", "none"],
        activation=["relu"],
        hypothesis=["reconstruction"],
        distance=["l2"],
    )


def test_instance_normalization_on_one_pixel_is_no_normalization() -> None:
    """In the encoder of the first layer, and wherever the decoder's map has one pixel too."""
    space = instance_and_none(2, [8])
    index = {c.name: i for i, c in enumerate(space.choices)}

    def point(first: int, second: int) -> Arch:
        arch = [0] * len(space.choices)
        arch[index["layer1.normalization"]], arch[index["layer2.normalization"]] = first, second
        return space.canonical(tuple(arch))

    assert len({point(a, b) for a in (1, 2) for b in (1, 2)}) == 1
    assert len({point(a, b) for a in range(3) for b in range(3)}) == 4


def test_instance_normalization_counts_where_the_decoder_has_a_larger_map() -> None:
    """Layer 2 pools 2x2 to one pixel: its encoder cannot tell instance from none, its decoder can."""
    space = instance_and_none(2, [4])
    index = [c.name for c in space.choices].index("layer2.normalization")
    archs = [tuple(n if i == index else 0 for i in range(len(space.choices))) for n in (1, 2)]
    assert space.canonical(archs[0]) != space.canonical(archs[1])
    images = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        outputs = [build(literal_spec(space, a), (1, 8, 8))(images)[0] for a in archs]
    assert not torch.equal(*outputs)


# Components with choices of their own


class Shell(nn.Module):
    """A hypothesis with two choices of its own."""

    view = "flat"

    def __init__(self, dim: int, radius: float = 1.0, steps: int = 1) -> None:
        super().__init__()
        self.radius, self.steps = radius, steps
        self.register_buffer("centre", torch.zeros(dim))

    def start(self, codes: Tensor) -> None: ...

    def refresh(self, codes: Tensor) -> None: ...

    def loss(self, batch: Batch) -> Tensor:
        return self.score(batch).mean()

    def finish(self, codes: Tensor) -> None: ...

    def score(self, batch: Batch) -> Tensor:
        return ((batch.code - self.centre).square().sum(1) - self.radius**2).square()


class Power:
    """A distance with a choice of its own."""

    reduction = "sum"

    def __init__(self, exponent: int = 2) -> None:
        self.exponent = exponent

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return ((image - reconstruction).abs() ** self.exponent).sum(1)


def extended() -> Registry:
    """The built-ins, and a third party's hypothesis and distance."""
    registry, origin = Registry(), Origin("test", "third-party", "1.0")
    for entry in REGISTRY:
        registry.add(entry)
    shell = Component(
        name="shell",
        target=f"{__name__}:Shell",
        summary="A shell",
        choices=(Choice("radius", (0.5, 1.0, 2.0)), Choice("steps", (1, 2))),
    )
    power = Component(
        name="power",
        target=f"{__name__}:Power",
        summary="A power of the error",
        choices=(Choice("exponent", (3, 4)),),
    )
    registry.add(Entry(Kind.HYPOTHESIS, shell, origin))
    registry.add(Entry(Kind.DISTANCE, power, origin))
    return registry


EXTENDED = extended()


def extended_space(shape: Shape = (1, 8, 8), **space: Any) -> Space:
    space = {
        "layers": 2,
        "hypothesis": ["reconstruction", "shell"],
        "distance": ["l1", "power", "l1+power"],
        "channels": [3, 8],
        **space,
    }
    return make_space(parse({"space": space}), EXTENDED, shape)


def test_own_choices_enter_the_space_once_each() -> None:
    space = extended_space()
    names = [c.name for c in space.choices]
    assert names[:5] == [
        "hypothesis",
        "distance",
        "hypothesis.shell.radius",
        "hypothesis.shell.steps",
        "distance.power.exponent",
    ]
    assert len(names) == 6 * 2 + 2 + 3
    assert space.size == 2 * 3 * 3 * 2 * 2 * (2 * 4 * 2 * 4 * 3 * 8) ** 2


def test_own_choices_of_what_is_not_chosen_do_not_matter() -> None:
    space = extended_space()
    for arch in itertools.islice(literal_points(space, 3), 2000):
        values = space.decode(arch)
        shell = values["hypothesis"] == "third-party/shell"
        power = "third-party/power" in str(values["distance"]).split("+")
        assert ("hypothesis.shell.radius" in values) == ("hypothesis.shell.steps" in values) == shell
        assert ("distance.power.exponent" in values) == power
        twin = space.canonical(arch)
        assert space.encode(values) == twin
        if not shell:
            assert twin[2:4] == (0, 0)
        assert Spec.from_dict(Spec.from_values(values).to_dict()).to_values() == values


def test_own_choices_reach_the_component() -> None:
    space = extended_space()
    found = set()
    for arch in itertools.islice(literal_points(space, 4), 60):
        spec = literal_spec(space, arch)
        detector = Detector(spec, (1, 8, 8), EXTENDED)
        if spec.hypothesis == "third-party/shell":
            assert isinstance(detector.hypothesis, Shell)
            assert detector.hypothesis.radius == spec.params["hypothesis.shell.radius"]
            assert detector.hypothesis.steps == spec.params["hypothesis.shell.steps"]
        for name, distance in detector.distances.items():
            if name == "third-party/power":
                assert isinstance(distance, Power)
                assert distance.exponent == spec.params["distance.power.exponent"]
        found.add((spec.hypothesis, *spec.params.items()))
        settle(detector, torch.rand(4, 1, 8, 8), start=True)
        loss, _ = detector.loss(torch.rand(4, 1, 8, 8))
        loss.backward()
        assert torch.isfinite(loss)
    assert len(found) > 10


def test_a_space_of_one_architecture_has_that_architecture() -> None:
    space = extended_space()
    for arch in itertools.islice(literal_points(space, 5), 200):
        spec = Spec.from_values(space.decode(arch))
        single = single_point(EXTENDED, (1, 8, 8), spec)
        assert single.size == 1
        assert Spec.from_values(single.decode((0,) * len(single.choices))) == spec


def test_a_space_may_have_other_options_in_every_layer() -> None:
    def options(channels: int) -> LayerOptions:
        return LayerOptions(
            channels=(channels,),
            kernel=(3,),
            pooling=("autoad/max",),
            pooling_kernel=(1, 2),
            normalization=("autoad/none",),
            activation=("autoad/relu",),
        )

    hypotheses = component_ids(REGISTRY, Kind.HYPOTHESIS, ["cluster"], paper=False)
    distances = component_ids(REGISTRY, Kind.DISTANCE, ["l21+ssim"], paper=True)
    assert (hypotheses, distances) == (("autoad/cluster",), ("autoad/l21+autoad/ssim",))
    space = assemble(REGISTRY, (1, 8, 8), hypotheses, distances, [options(8), options(3)])
    spec = Spec.from_values(space.decode((0,) * len(space.choices)))
    assert [layer.channels for layer in spec.layers] == [8, 3]
    assert spec.distances == ("autoad/l21", "autoad/ssim")
    assert parameters(build(spec, (1, 8, 8))) == 8 * 9 + 8 + 24 * 9 + 3 + 24 * 9 + 8 + 8 * 9 + 1


# Other sizes


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("decoder", ["upsample-first", "paper"])
def test_a_model_takes_images_of_any_size(layers: int, decoder: str) -> None:
    """As the model that is laid out for that size does, with the same weights, where both have the same pools."""
    small, size = (3, 32, 32), (50, 81)
    space = paper_space(layers, small, channels=[3, 8])
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    compared = 0
    for arch in islice(literal_points(space, layers), 40):
        spec = literal_spec(space, arch)
        ours, theirs = build(spec, small, decoder).eval(), build(spec, (3, *size), decoder).eval()
        with torch.no_grad():
            reconstruction, code = ours(x)
            assert reconstruction.shape == x.shape
            assert torch.isfinite(reconstruction).all()
            pools = [[s.pool for s in net.geometry.stages] for net in (ours, theirs)]
            if pools[0] == pools[1] and ours.geometry.squeeze == theirs.geometry.squeeze:
                expected = theirs(x)
                assert code.shape[1:] == theirs.geometry.code
                torch.testing.assert_close((reconstruction, code), expected)
                compared += 1
    assert compared > 5
