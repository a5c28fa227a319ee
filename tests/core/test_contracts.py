"""The shipped contract tests pass what is right, and catch, one by one, what authors get wrong."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autoad_core import Arch, Outcome, Space
from autoad_core.data import ArrayDataset, Floats, Ints
from autoad_core.errors import BrokenComponent
from autoad_core.protocols import Batch
from autoad_core.testing import (
    ActivationContract,
    ControllerContract,
    DatasetContract,
    DistanceContract,
    HypothesisContract,
    NormalizationContract,
    PoolingContract,
    check_plugin,
)


def broken(contract: type[Any], make: Callable[..., Any]) -> set[str]:
    """Names, without ``test_``, of the promises that a component breaks, in any way."""
    case = type("Case", (contract,), {"make": staticmethod(make)})()
    found = set()
    for name in dir(case):
        if name.startswith("test_"):
            try:
                getattr(case, name)()
            except Exception:
                found.add(name.removeprefix("test_"))
    return found


# Activations


class NotFinite(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


class Infinitely(nn.Module):
    """Finite, with a gradient that is not."""

    def forward(self, x: Tensor) -> Tensor:
        return x.abs().sqrt()


class OverTheLastAxis(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.softmax(-1)


# Normalizations


class AlwaysBatchStatistics(nn.BatchNorm2d):
    def eval(self) -> AlwaysBatchStatistics:
        return self


class NoEpsilon(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True, correction=0)


class ForgetfulNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = torch.zeros(channels)  # not a buffer

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = x.detach().mean((0, 2, 3))
        return x - self.mean[:, None, None]


class Doubling(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class SaysIdentity(NormalizationContract):
    identity_on_1x1 = True


# Poolings


class MinusBatchMean(nn.Module):
    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(kernel, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x - x.mean(0))  # type: ignore[no-any-return]


# Distances


class L2:
    reduction: Literal["sum", "mean"] = "sum"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return (image - reconstruction).square().sum(1)


class Unnamed(L2):
    reduction = "max"  # type: ignore[assignment]


class OneNumber(L2):
    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return super().__call__(image, reconstruction).sum((1, 2))


class Signed(L2):
    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return (image - reconstruction).sum(1)


class Shifted(L2):
    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return 1 + super().__call__(image, reconstruction)


class Blind(L2):
    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return 0 * super().__call__(image, reconstruction)


class RootAtZero(L2):
    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return super().__call__(image, reconstruction).sqrt()


class OneSided(L2):
    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return super().__call__(image.detach(), reconstruction)


class PerBatch(L2):
    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        found = super().__call__(image, reconstruction)
        return found / (found.sum() + 1)


# Hypotheses


class Ball(nn.Module):
    """Right: squared distance to the mean code."""

    view: Literal["mean", "flat"] = "mean"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dim))
        self.centre: Tensor

    def start(self, codes: Tensor) -> None:
        self.centre.copy_(codes.mean(0))

    def refresh(self, codes: Tensor) -> None: ...

    def loss(self, batch: Batch) -> Tensor:
        return (batch.code - self.centre).square().mean()

    def finish(self, codes: Tensor) -> None:
        self.centre.copy_(codes.mean(0))

    def score(self, batch: Batch) -> Tensor:
        return (batch.code - self.centre).square().sum(1)


class Reconstruction(Ball):
    """Right: no fitting, no loss term."""

    def loss(self, batch: Batch) -> Tensor:
        return torch.zeros(())

    def score(self, batch: Batch) -> Tensor:
        return (batch.image - batch.reconstruction).square().flatten(1).mean(1)


class Sideways(Ball):
    view = "sideways"  # type: ignore[assignment]


class LossPerImage(Ball):
    def loss(self, batch: Batch) -> Tensor:
        return self.score(batch)


class LossWithARoot(Ball):
    def start(self, codes: Tensor) -> None:
        self.centre.copy_(codes[0])

    def loss(self, batch: Batch) -> Tensor:
        return self.score(batch).sqrt().mean()  # no derivative where a code is the centre


class ConstantScore(Ball):
    def score(self, batch: Batch) -> Tensor:
        return torch.ones(len(batch.code))


class DoubleScore(Ball):
    def score(self, batch: Batch) -> Tensor:
        return super().score(batch).double()


class Upside(Ball):
    def score(self, batch: Batch) -> Tensor:
        return -super().score(batch)


class Standardised(Ball):
    """Divides by a standard deviation, which degenerate codes do not have."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.register_buffer("spread", torch.ones(dim))
        self.spread: Tensor

    def finish(self, codes: Tensor) -> None:
        super().finish(codes)
        self.spread.copy_(codes.std(0))

    def score(self, batch: Batch) -> Tensor:
        return ((batch.code - self.centre) / self.spread).square().sum(1)


class Forgetful(Ball):
    def finish(self, codes: Tensor) -> None:
        self.kept = codes.mean(0)  # not a buffer

    def score(self, batch: Batch) -> Tensor:
        return (batch.code - getattr(self, "kept", 0)).square().sum(1)


class GrownBuffer(Ball):
    """A buffer that exists only after fitting, which a strict load refuses."""

    def finish(self, codes: Tensor) -> None:
        self.register_buffer("late", codes.mean(0))


class Adapting(Ball):
    def score(self, batch: Batch) -> Tensor:
        found = super().score(batch)
        self.centre += 0.1 * (batch.code.mean(0) - self.centre)
        return found


class Overwriting(Ball):
    def score(self, batch: Batch) -> Tensor:
        return batch.code.sub_(self.centre).square_().sum(1).clone()


class Relative(Ball):
    def score(self, batch: Batch) -> Tensor:
        found = super().score(batch)
        return found / found.max()


class OwnRandomness(Ball):
    def finish(self, codes: Tensor) -> None:
        self.centre.copy_(torch.from_numpy(np.random.default_rng().normal(size=len(self.centre))))


# Controllers


class Uniform:
    """Right: uniform random search."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space, self.rng = space, random.Random(seed)

    def ask(self, n: int) -> list[Arch]:
        return [self.space.sample(self.rng) for _ in range(n)]

    def tell(self, outcomes: list[Outcome]) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.getstate()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        version, words, gauss = state["rng"]
        self.rng.setstate((version, tuple(words), gauss))


class Literally(Uniform):
    def ask(self, n: int) -> list[Arch]:
        return [tuple(self.rng.randrange(len(c.options)) for c in self.space.choices) for _ in range(n)]


class Lists(Uniform):
    def ask(self, n: int) -> list[Arch]:
        return [list(arch) for arch in super().ask(n)]  # type: ignore[misc]


class Eager(Uniform):
    def ask(self, n: int) -> list[Arch]:
        return super().ask(n + 1)


class Unseeded(Uniform):
    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, random.SystemRandom().randrange(2**32))


class GlobalRandom(Uniform):
    def ask(self, n: int) -> list[Arch]:
        return [self.space.canonical(tuple(random.randrange(len(c.options)) for c in self.space.choices))]


class GlobalTorch(Uniform):
    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed + int(torch.randint(1000, ())))


class NoState(Uniform):
    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class HalfState(Uniform):
    """Repeats its best point, which the state leaves out."""

    best: tuple[float, Arch] | None = None

    def ask(self, n: int) -> list[Arch]:
        return [self.best[1] if self.best and self.rng.random() < 0.5 else self.space.sample(self.rng)]

    def tell(self, outcomes: list[Outcome]) -> None:
        told = [(o.value, o.arch) for o in outcomes if o.value is not None]
        self.best = max([*told, *([self.best] if self.best else [])], default=None)


class NotJson(Uniform):
    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng}


class WithATensor(Uniform):
    """Right, with a tensor in its state."""

    def __init__(self, space: Space, seed: int) -> None:
        super().__init__(space, seed)
        self.steps = torch.zeros(1)

    def ask(self, n: int) -> list[Arch]:
        self.steps += 1
        return super().ask(n)

    def state_dict(self) -> dict[str, Any]:
        return {"nested": [super().state_dict(), self.steps]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state["nested"][0])
        self.steps = state["nested"][1]


class Optimist(Uniform):
    def tell(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self.hope = outcome.value + 1  # type: ignore[operator]


class GivesUp(Uniform):
    failed = False

    def tell(self, outcomes: list[Outcome]) -> None:
        self.failed |= any(outcome.status != "ok" for outcome in outcomes)

    def ask(self, n: int) -> list[Arch]:
        return [] if self.failed else super().ask(n)


class OneByOne(Uniform):
    def tell(self, outcomes: list[Outcome]) -> None:
        (self.last,) = outcomes


class Cyclic(Uniform):
    """Always changes the first choice, which a space with one option does not allow."""

    def ask(self, n: int) -> list[Arch]:
        arch = super().ask(1)[0]
        return [self.space.canonical(((arch[0] + 1) % 3, *arch[1:]))]


# Data sets


def dataset(root: Path | None, shape: tuple[int, int, int] | None, seed: int) -> ArrayDataset:
    """Right: noise in two classes with masks."""
    rng = np.random.default_rng(seed)
    images = rng.random((10, *(shape or (1, 4, 5))), dtype=np.float32)
    labels = np.arange(10) % 2
    return ArrayDataset(images, labels, ("good", "hole"), labels, images[:, 0] > 0.9, ("noise",))


class Wrong:
    """Right but for the attributes and methods given."""

    def __init__(self, **changes: Any) -> None:
        self.changes = changes

    def __call__(self, root: Path | None, shape: tuple[int, int, int] | None, seed: int) -> Any:
        data = dataset(root, shape, seed)
        names = ("shape", "classes", "labels", "parts", "notes", "read", "masks")
        found = {name: getattr(data, name) for name in names}
        return SimpleNamespace(**found | {name: change(data) for name, change in self.changes.items()})


def unseeded(data: ArrayDataset) -> Callable[[Ints], Floats]:
    noise = np.random.random(data.images.shape).astype(np.float32)
    return lambda indices: noise[indices]


A, N, P, D = ActivationContract, NormalizationContract, PoolingContract, DistanceContract
H, C, S = HypothesisContract, ControllerContract, DatasetContract

WRONG: list[tuple[type[Any], Callable[..., Any], str]] = [
    (A, NotFinite, "keeps_any_shape_and_is_finite_with_finite_gradients"),
    (A, nn.Flatten, "keeps_any_shape_and_is_finite_with_finite_gradients"),
    (A, Infinitely, "keeps_any_shape_and_is_finite_with_finite_gradients"),
    (A, OverTheLastAxis, "is_elementwise"),
    (N, nn.BatchNorm2d, "keeps_the_shape_and_is_finite_with_finite_gradients"),  # fails on one map of 1x1
    (N, NoEpsilon, "survives_constant_maps"),
    (N, AlwaysBatchStatistics, "images_are_evaluated_apart"),
    (N, ForgetfulNorm, "state_dict_carries_everything"),
    (SaysIdentity, Doubling, "is_the_identity_on_1x1_if_it_says_so"),
    (P, nn.MaxPool2d, "output_is_the_ceiling_and_finite_with_finite_gradients"),
    (P, Doubling, "kernel_of_one_is_the_identity"),
    (P, MinusBatchMean, "images_are_pooled_apart"),
    (D, Unnamed, "names_its_reduction"),
    (D, OneNumber, "map_is_finite_and_not_negative"),
    (D, Signed, "map_is_finite_and_not_negative"),
    (D, Shifted, "is_zero_on_equal_images_and_only_there"),
    (D, Blind, "is_zero_on_equal_images_and_only_there"),
    (D, RootAtZero, "gradients_are_finite_in_both_arguments"),
    (D, OneSided, "gradients_are_finite_in_both_arguments"),
    (D, PerBatch, "images_are_compared_apart"),
    (H, Sideways, "names_its_view"),
    (H, LossPerImage, "loss_is_a_finite_scalar_with_finite_gradients"),
    (H, LossWithARoot, "loss_is_a_finite_scalar_with_finite_gradients"),
    (H, ConstantScore, "scores_are_finite_and_not_constant"),
    (H, DoubleScore, "scores_are_finite_and_not_constant"),
    (H, Upside, "what_is_far_from_training_scores_higher"),
    (H, Standardised, "survives_degenerate_codes"),
    (H, Forgetful, "state_dict_carries_everything"),
    (H, GrownBuffer, "state_dict_carries_everything"),
    (H, Adapting, "scoring_changes_nothing"),
    (H, Overwriting, "scoring_changes_nothing"),
    (H, Relative, "images_are_scored_apart"),
    (H, OwnRandomness, "randomness_is_torchs_global_generator"),
    (C, Literally, "proposals_are_canonical_members_of_the_space"),
    (C, Lists, "proposals_are_canonical_members_of_the_space"),
    (C, Eager, "proposes_at_most_n"),
    (C, Unseeded, "same_seed_same_search"),
    (C, GlobalRandom, "ignores_global_random_state"),
    (C, GlobalTorch, "ignores_global_random_state"),
    (C, NoState, "resume_equals_never_stopped"),
    (C, HalfState, "resume_equals_never_stopped"),
    (C, NotJson, "resume_equals_never_stopped"),
    (C, Optimist, "survives_failures"),
    (C, GivesUp, "survives_failures"),
    (C, OneByOne, "outcomes_may_come_together"),
    (C, Cyclic, "small_spaces_do_not_break_it"),
    (S, Wrong(labels=lambda d: d.labels.astype(np.int32)), "describes_every_image"),
    (S, Wrong(classes=lambda d: ("good",)), "describes_every_image"),
    (S, Wrong(classes=lambda d: ("good", "good")), "describes_every_image"),
    (S, Wrong(parts=lambda d: d.labels + 1), "describes_every_image"),
    (S, Wrong(notes=lambda d: ("two\nlines",)), "describes_every_image"),
    (S, Wrong(masks=lambda d: None), "describes_every_image"),
    (S, Wrong(shape=lambda d: (1, 4, 5)), "images_are_as_stated"),
    (S, Wrong(read=lambda d: lambda i: d.read(i) * 255), "images_are_as_stated"),
    (S, Wrong(read=lambda d: lambda i: d.read(i).astype(np.float64)), "images_are_as_stated"),
    (S, Wrong(masks=lambda d: lambda i: d.read(i)), "images_are_as_stated"),
    (S, Wrong(read=lambda d: lambda i: d.read(np.sort(i))), "reads_in_the_order_asked_for"),
    (S, Wrong(masks=lambda d: lambda i: d.masks(np.sort(i))), "reads_in_the_order_asked_for"),
    (S, Wrong(read=lambda d: lambda i: np.stack([d.read(k) for k in i])), "reads_none_when_asked_for_none"),
    (S, Wrong(read=unseeded), "same_seed_same_images"),
]
RIGHT: list[tuple[type[Any], Callable[..., Any]]] = [
    (A, nn.Sigmoid),
    (A, lambda: nn.ReLU(inplace=True)),
    (N, nn.Identity),
    (SaysIdentity, nn.Identity),
    (P, lambda kernel: nn.AvgPool2d(kernel, ceil_mode=True, count_include_pad=False)),
    (D, L2),
    (H, Ball),
    (H, Reconstruction),
    (C, Uniform),
    (C, WithATensor),
    (S, dataset),
    (S, Wrong(parts=lambda d: None, masks=lambda d: lambda i: None)),
]


@pytest.mark.parametrize(("contract", "make", "promise"), WRONG)
def test_a_wrong_component_is_caught(contract: type[Any], make: Callable[..., Any], promise: str) -> None:
    assert promise in broken(contract, make)


@pytest.mark.parametrize(("contract", "make"), RIGHT)
def test_a_right_component_passes(contract: type[Any], make: Callable[..., Any]) -> None:
    assert broken(contract, make) == set()


def test_no_promise_is_left_unbroken() -> None:
    """A promise that no wrong component breaks would be a test that tests nothing."""
    wrong = {f"{contract.__name__}.test_{promise}" for contract, _, promise in WRONG}
    for contract in (A, N, P, D, H, C, S):
        for name in dir(contract):
            if name.startswith("test_") and "identity_on_1x1" not in name:
                assert f"{contract.__name__}.{name}" in wrong


PLUGIN = """
from autoad_core import Component, hookimpl
@hookimpl
def autoad_distances():
    yield Component(name="mine", target="{target}", summary="A distance")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Writes an importable module, and forgets it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(name: str, text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_check_plugin_gives_what_it_found(plugin: Callable[[str, str], str]) -> None:
    module = plugin("plugin_right", PLUGIN.format(target="json:dumps"))
    (entry,) = check_plugin(module).registry
    assert entry.component.name == "mine"


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        ("", AssertionError, "declares no component; is @hookimpl missing"),
        ("import torch\n" + PLUGIN.format(target="json:dumps"), AssertionError, "imports torch"),
        (
            PLUGIN.replace("yield", "import torch; yield").format(target="json:dumps"),
            AssertionError,
            "imports torch",
        ),
        (PLUGIN.format(target="json:no_such_name"), BrokenComponent, "no_such_name"),
        (PLUGIN.replace("distances", "distance"), ValueError, "autoad_distance"),
        ("import no_such_module", ModuleNotFoundError, "no_such_module"),
    ],
)
def test_check_plugin_catches(
    plugin: Callable[[str, str], str], text: str, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        check_plugin(plugin("plugin_wrong", text))


def test_check_plugin_catches_what_only_a_fresh_process_shows(
    plugin: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "only_here", ModuleType("only_here"))
    module = plugin("plugin_here", "import only_here\n" + PLUGIN.format(target="json:dumps"))
    with pytest.raises(AssertionError, match="cannot be loaded in a fresh process"):
        check_plugin(module)
    assert "No module named 'only_here'" in capfd.readouterr().err


def test_the_global_generators_are_left_as_they_were() -> None:
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    wanted = random.random(), np.random.random(), torch.rand(())
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    for contract, make in RIGHT:
        broken(contract, make)
    assert (random.random(), np.random.random(), torch.rand(())) == wanted
