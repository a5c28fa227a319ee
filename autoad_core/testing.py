"""Contract tests for plugin authors. Subclass one, say how to make the component, run pytest:

    from autoad_core.testing import DistanceContract, check_plugin
    from autoad_hello import Cosine

    def test_plugin() -> None:
        check_plugin("autoad_hello")

    class TestCosine(DistanceContract):
        make = staticmethod(Cosine)

Every test states one promise that the core relies on. The built-in components pass the same classes. ``make`` is
called as the core calls the target of a `Component`: see the hook of its kind in `autoad_core.component`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from autoad_core.component import GROUP
from autoad_core.controller import Controller, Outcome, Status
from autoad_core.data import Dataset, Ints
from autoad_core.discovery import Plugins, discover
from autoad_core.protocols import Batch, Distance, Refinement
from autoad_core.space import Arch, Choice, Option, Space

if TYPE_CHECKING:
    from torch import Tensor, nn

_LOAD = """
import sys
from importlib.metadata import EntryPoint
from autoad_core.discovery import discover
discover([EntryPoint("under-test", *sys.argv[1:])], strict=True)
sys.exit(3 if "torch" in sys.modules else 0)
"""


def check_plugin(module: str) -> Plugins:
    """Load one plugin as the command line would, and raise the first fault instead of skipping it.

    Raises:
        AssertionError: It declares nothing, or declaring imports torch.
        Exception: Whatever a declaration or a target raises.
    """
    plugins = discover([EntryPoint("under-test", module, GROUP)], strict=True)
    entries = list(plugins.registry)
    assert entries, f"{module} declares no component; is @hookimpl missing?"
    for entry in entries:
        entry.load()
    # In a fresh process, because this one has imported the targets.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", _LOAD, module, GROUP], env=environment, check=False)
    assert done.returncode != 3, f"{module} imports torch; keep tensor code in a module of its own"
    assert done.returncode == 0, f"{module} cannot be loaded in a fresh process"
    return plugins


class ActivationContract:
    """``make()``: an elementwise module."""

    make: ClassVar[Callable[..., nn.Module]]

    def test_keeps_any_shape_and_is_finite_with_finite_gradients(self) -> None:
        for shape in ((4,), (2, 3), (2, 3, 5, 4), (1, 1, 1, 1)):
            _apply(self.make(), 10 * _normal(*shape), shape)
            _apply(self.make(), 0 * _normal(*shape), shape)  # where roots and logarithms end

    def test_is_elementwise(self) -> None:
        x, module = _normal(64), self.make().eval()
        maps = module(x.reshape(4, 4, 2, 2))
        _same(module(x[::3]), maps.flatten()[::3], "an element's value depends on the others")


class NormalizationContract:
    """``make(channels)``: a module that keeps the shape of (B, C, H, W)."""

    make: ClassVar[Callable[..., nn.Module]]
    identity_on_1x1: ClassVar[bool] = False  # as declared in the `Component`

    def test_keeps_the_shape_and_is_finite_with_finite_gradients(self) -> None:
        for b, c, h, w in ((4, 3, 5, 7), (4, 8, 1, 1), (2, 1, 28, 28)):
            _apply(self.make(c).train(), _normal(b, c, h, w), (b, c, h, w))
            _apply(self.make(c).train(), _normal(1, c, h, w), (1, c, h, w))
            _apply(self.make(c).eval(), _normal(1, c, h, w), (1, c, h, w))

    def test_survives_constant_maps(self) -> None:
        _apply(self.make(3).train(), _normal(1).expand(4, 3, 5, 5), (4, 3, 5, 5))

    def test_images_are_evaluated_apart(self) -> None:
        module, x = self._trained(), _normal(4, 3, 5, 5)
        _same(module(x[:1]), module(x)[:1], "in eval mode, an image's map depends on the others of the batch")

    def test_state_dict_carries_everything(self) -> None:
        module, x = self._trained(), _normal(4, 3, 5, 5)
        _same(_reloaded(module, self.make(3))(x), module(x), "a reloaded normalization differs")

    def test_is_the_identity_on_1x1_if_it_says_so(self) -> None:
        x = _normal(4, 3, 1, 1)
        if self.identity_on_1x1:
            _same(self.make(3).train()(x), x, "identity_on_1x1 is declared, but a map of 1x1 changes")

    def _trained(self) -> nn.Module:
        module = self.make(3).train()
        module(5 + 2 * _normal(8, 3, 5, 5))
        return module.eval()


class PoolingContract:
    """``make(kernel)``: stride equals the kernel, (B, C, H, W) to (B, C, ceil(H / kh), ceil(W / kw))."""

    make: ClassVar[Callable[..., nn.Module]]

    def test_output_is_the_ceiling_and_finite_with_finite_gradients(self) -> None:
        for h, w in ((1, 1), (5, 7), (8, 8), (28, 3)):
            for kernel in ((1, 1), (2, 3), (3, 3), (5, 1), (7, 7)):
                kh, kw = min(kernel[0], h), min(kernel[1], w)
                _apply(self.make((kh, kw)), _normal(2, 3, h, w), (2, 3, ceil(h / kh), ceil(w / kw)))

    def test_kernel_of_one_is_the_identity(self) -> None:
        x = _normal(2, 3, 5, 7)
        _same(self.make((1, 1))(x), x, "kernel (1, 1) changes the map")

    def test_images_are_pooled_apart(self) -> None:
        x, module = _normal(4, 3, 5, 5), self.make((2, 2)).eval()
        _same(module(x[:1]), module(x)[:1], "an image's map depends on the others of the batch")


class DistanceContract:
    """``make()``: see `autoad_core.protocols.Distance`."""

    make: ClassVar[Callable[..., Distance]]
    _shapes = ((3, 1, 28, 28), (2, 3, 5, 7), (1, 1, 1, 1), (2, 3, 12, 1))

    def test_names_its_reduction(self) -> None:
        assert self.make().reduction in ("sum", "mean"), "reduction must be 'sum' or 'mean'"

    def test_map_is_finite_and_not_negative(self) -> None:
        for shape in self._shapes:
            for pair in _image_pairs(*shape):
                found, wanted = self.make()(*pair), (shape[0], *shape[2:])
                assert tuple(found.shape) == wanted, f"map is {tuple(found.shape)}, not {wanted}"
                assert found.isfinite().all(), f"not finite on images {shape}"
                assert (found > -1e-5).all(), f"negative on images {shape}"

    def test_is_zero_on_equal_images_and_only_there(self) -> None:
        for shape in self._shapes:
            x, y = next(_image_pairs(*shape))
            assert self.make()(x, x).abs().max() < 1e-4, f"not zero on equal images {shape}"
            assert self.make()(x, y).sum() > 1e-4, f"zero on images {shape} that differ"

    def test_gradients_are_finite_in_both_arguments(self) -> None:
        for shape in self._shapes:
            for pair in _image_pairs(*shape):
                leaves = [side.clone().requires_grad_() for side in pair]
                self.make()(*leaves).sum().backward()
                for leaf in leaves:
                    assert leaf.grad is not None, "not differentiable in both arguments"
                    assert leaf.grad.isfinite().all(), f"a gradient is not finite on images {shape}"

    def test_images_are_compared_apart(self) -> None:
        x, y = next(_image_pairs(4, 3, 12, 12))
        distance = self.make()
        _same(distance(x[:1], y[:1]), distance(x, y)[:1], "an image's map depends on the others of the batch")


class HypothesisContract:
    """``make(dim)``: see `autoad_core.protocols.Hypothesis`."""

    make: ClassVar[Callable[..., Any]]
    _dims = (1, 3, 64)

    def test_names_its_view(self) -> None:
        assert self.make(3).view in ("mean", "flat"), "view must be 'mean' or 'flat'"

    def test_loss_is_a_finite_scalar_with_finite_gradients(self) -> None:
        for d in self._dims:
            self._fitted(_codes(64, d))

    def test_scores_are_finite_and_not_constant(self) -> None:
        for d in self._dims:
            scores = self._fitted(_codes(64, d)).score(_batch(32, d))
            assert scores.shape == (32,), f"scores of 32 images have shape {tuple(scores.shape)}"
            assert str(scores.dtype) == "torch.float32", f"scores are {scores.dtype}, not float32"
            assert scores.isfinite().all(), f"scores are not finite on codes of {d} numbers"
            assert scores.std() > 0, f"scores are constant on codes of {d} numbers"

    def test_what_is_far_from_training_scores_higher(self) -> None:
        for d in self._dims:
            module, usual = self._fitted(_codes(64, d)), _batch(32, d)
            far = Batch(usual.image, 1 - usual.image.round(), -50 * usual.code.abs() - 50)
            assert module.score(far).min() > module.score(usual).median(), "the strange scores like the usual"

    def test_survives_degenerate_codes(self) -> None:
        usual = _codes(16, 3)
        huge = usual.clone()
        huge[0] = 1e4
        for codes in (0 * usual, 0 * usual + 1, usual[:, :1].expand(16, 3), usual[:2], huge):
            scores = self._fitted(codes).score(_batch(16, 3))
            assert scores.isfinite().all(), f"scores are not finite after training on {codes}"

    def test_state_dict_carries_everything(self) -> None:
        for d in self._dims:
            module, batch = self._fitted(_codes(64, d)), _batch(8, d)
            loaded = _reloaded(module, self.make(d))
            assert loaded.score(batch).equal(module.score(batch)), "a reloaded hypothesis scores differently"

    def test_scoring_changes_nothing(self) -> None:
        module, batch = self._fitted(_codes(64, 3)), _batch(8, 3)
        state = {name: value.clone() for name, value in module.state_dict().items()}
        first, second = module.score(batch), module.score(batch)
        assert first.equal(second), "scoring one batch twice gives different scores"
        assert batch.code.equal(_batch(8, 3).code), "scoring changes the codes"
        for name, value in module.state_dict().items():
            assert value.equal(state[name]), f"scoring changes {name}"

    def test_images_are_scored_apart(self) -> None:
        for d in self._dims:
            module, batch = self._fitted(_codes(64, d)), _batch(8, d)
            first = Batch(batch.image[:1], batch.reconstruction[:1], batch.code[:1])
            _same(module.score(first), module.score(batch)[:1], "a score depends on the others of the batch")

    def test_randomness_is_torchs_global_generator(self) -> None:
        first, second = (self._fitted(_codes(64, 3)).score(_batch(8, 3)) for _ in range(2))
        assert first.equal(second), "two trainings of one seed score differently"

    def _fitted(self, codes: Tensor) -> Any:
        """The hypothesis after a short training on (n, D) codes, every loss on the way checked."""
        with _global_seed(0):
            module = self.make(codes.shape[1]).train()
            module.start(codes)
            for _ in range(2):
                for part in (codes[:1], *codes.split(16)):
                    self._step(module, part)
                module.refresh(codes)
            module.finish(codes)
        return module.eval()

    def _step(self, module: Any, codes: Tensor) -> None:
        import torch

        batch = _batch(*codes.shape)
        leaves = [codes.clone().requires_grad_(), batch.reconstruction.requires_grad_(), *module.parameters()]
        loss = module.loss(Batch(batch.image, leaves[1], leaves[0]))
        assert loss.shape == (), f"the loss has shape {tuple(loss.shape)}, not that of a scalar"
        assert loss.isfinite(), f"the loss is {loss.item()} on codes {codes}"
        if not loss.requires_grad:  # no loss term
            return
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True), strict=True):
            if gradient is not None:
                assert gradient.isfinite().all(), f"a gradient of the loss is not finite on codes {codes}"
                leaf.data -= 1e-3 * gradient.sign()  # a step of Adam's size


def _kernel_of_one(values: Mapping[str, Option]) -> dict[str, Option]:
    # Below a kernel of 1 the type of pooling does not matter.
    return dict(values) | ({"type": "max"} if values["kernel"] == 1 else {})


SPACE = Space(
    (
        Choice("hypothesis", ("reconstruction", "centroid", "cluster")),
        Choice("clusters", (2, 4, 8), when=("hypothesis", ("cluster",))),
        Choice("kernel", (1, 3, 5, 7)),
        Choice("type", ("max", "average")),
    ),
    _kernel_of_one,
)


_FAILURES: tuple[Status, ...] = ("failed", "skipped", "pruned")
_MIXED: tuple[Status, ...] = ("ok", "ok", "failed", "ok", "skipped")


def _outcome(i: int, arch: Arch, ends: Sequence[Status] = _MIXED) -> Outcome:
    status = ends[i % len(ends)]
    return Outcome(i, arch, status, -float(sum(arch)) if status == "ok" else None)


class ControllerContract:
    """``make(space=..., seed=...)``: see `autoad_core.controller.Controller`."""

    make: ClassVar[Callable[..., Controller]]
    _lags = (1, 8)  # proposal i is asked for when the outcomes up to i - lag were told

    def test_proposals_are_canonical_members_of_the_space(self) -> None:
        for lag in self._lags:
            for arch in _search(self._new(0), 30, lag):
                assert type(arch) is tuple, f"{arch!r} is not a tuple"
                assert SPACE.canonical(arch) == arch, f"{arch} is not canonical"

    def test_proposes_at_most_n(self) -> None:
        for n in (0, 1, 5):
            assert len(self._new(0).ask(n)) <= n, f"more than {n} proposals"

    def test_same_seed_same_search(self) -> None:
        for lag in self._lags:
            first, second = (_search(self._new(7), 30, lag) for _ in range(2))
            assert first == second, "two searches of one seed differ"

    def test_ignores_global_random_state(self) -> None:
        found = []
        for seed in (1, 2):
            with _global_seed(seed):
                found.append(_search(self._new(7), 30, 8))
        assert found[0] == found[1], "the search depends on a global generator"

    def test_resume_equals_never_stopped(self) -> None:
        for lag in self._lags:
            for stop in (0, 5, 20):
                stopped, resumed = self._new(3), self._new(99)
                head = _search(stopped, stop, lag)
                resumed.load_state_dict(_saved(stopped.state_dict()))
                whole = _search(self._new(3), stop + 15, lag)
                assert _search(resumed, 15, lag, head) == whole, f"resumed after {stop}, the search differs"

    def test_survives_failures(self) -> None:
        for lag in self._lags:
            for status in _FAILURES:
                found = _search(self._new(0), 20, lag, ends=[status])
                assert len(found) == 20, f"only {len(found)} proposals among outcomes {status!r}"

    def test_outcomes_may_come_together(self) -> None:
        controller = self._new(0)
        archs = list(controller.ask(6))
        controller.tell([])
        controller.tell([_outcome(i, arch) for i, arch in enumerate(archs)])
        assert controller.ask(3), "nothing is proposed after six outcomes told at once"

    def test_small_spaces_do_not_break_it(self) -> None:
        for options in (1, 2, 3):
            space = Space((Choice("only", tuple(range(options))), Choice("fixed", ("x",))))
            for arch in _search(self.make(space=space, seed=0), 12, 1):
                assert space.canonical(arch) == arch, f"{arch} is outside a space of {options} points"

    def _new(self, seed: int) -> Controller:
        return self.make(space=SPACE, seed=seed)


class RefinementContract:
    """``make()``: see `autoad_core.protocols.Refinement`. Where it needs parameters, ``make`` fills them in."""

    make: ClassVar[Callable[..., Refinement]]

    def test_gives_levels_of_the_same_shape(self) -> None:
        for shape in ((2, 3, 48, 64), (1, 1, 40, 32)):
            images, levels = self._given(shape)
            before = images.clone(), levels.clone()
            found = self.make()(images, levels)
            assert found.shape == levels.shape, f"maps {tuple(levels.shape)} became {tuple(found.shape)}"
            assert str(found.dtype) == "torch.float32", f"levels are {found.dtype}"
            assert found.isfinite().all(), "a level is not finite"
            assert (found >= 0).all(), "a level lies below 0"
            assert images.equal(before[0]), "it changes the images"
            assert levels.equal(before[1]), "it changes the levels that it was given"

    def test_gives_the_same_twice_and_one_by_one(self) -> None:
        images, levels = self._given((3, 3, 40, 40))
        refinement = self.make()
        together = refinement(images, levels)
        assert self.make()(images, levels).equal(together), "the same images are refined differently"
        for i in range(3):
            alone = refinement(images[i : i + 1], levels[i : i + 1])[0]
            assert (alone - together[i]).abs().max() < 1e-3, "an image's refinement depends on its batch"

    def test_what_is_usual_everywhere_stays_usual(self) -> None:
        images, levels = self._given((1, 3, 40, 40))
        assert (self.make()(images, 0 * levels) <= 0.5).all(), "an anomaly comes from a map without any"

    def _given(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Images with an object in them, and levels with a peak."""
        import torch

        generator = torch.Generator().manual_seed(0)
        images = 0.3 + 0.1 * torch.rand(shape, generator=generator)
        images[:, :, 10:30, 8:24] += 0.5
        levels = torch.rand(shape[0], *shape[2:], generator=generator)
        levels[:, 12:20, 10:18] += 2
        return images, levels


class DatasetContract:
    """``make(root=..., shape=..., seed=...)``: see `autoad_core.data.Dataset`.

    It is called with no root: where one is needed, ``make`` fills it in.
    """

    make: ClassVar[Callable[..., Dataset]]

    def test_describes_every_image(self) -> None:
        data = self._new()
        assert isinstance(data, Dataset), "an attribute or a method of Dataset is missing"
        n = len(data.labels)
        assert n > 0, "there are no images"
        assert data.labels.shape == (n,), f"labels have shape {data.labels.shape}"
        assert data.labels.dtype == np.int64, f"labels are {data.labels.dtype}, not int64"
        assert 0 <= data.labels.min() <= data.labels.max() < len(data.classes), "a label names no class"
        assert len(set(data.classes)) == len(data.classes), "two classes have one name"
        if data.parts is not None:
            assert data.parts.shape == (n,), f"parts have shape {data.parts.shape} for {n} images"
            assert np.isin(data.parts, (0, 1)).all(), "parts are 0 for training and 1 for test"
        assert not any("\n" in note for note in data.notes), "a note is one line"

    def test_images_are_as_stated(self) -> None:
        for wanted in (None, (1, 8, 8), (3, 10, 12)):  # which a set may ignore
            data = self._new(wanted)
            images = data.read(_some(data))
            assert images.shape == (4, *data.shape), f"images are {images.shape[1:]}, not {data.shape}"
            assert images.dtype == np.float32, f"images are {images.dtype}, not float32"
            assert 0 <= images.min() <= images.max() <= 1, "pixels lie outside [0, 1]"
            masks = data.masks(_some(data))
            if masks is not None:
                assert len(masks) == 4, f"{len(masks)} masks for 4 images"
                for mask in (m for m in masks if m is not None):
                    assert mask.ndim == 2, f"a mask is {mask.shape}, not (h, w)"
                    assert mask.dtype == np.bool_, f"masks are {mask.dtype}, not bool"

    def test_reads_in_the_order_asked_for(self) -> None:
        data = self._new()
        readers: tuple[Callable[[Ints], Any], ...] = (data.read, data.masks)
        for read in readers:
            together = read(_some(data))
            for k, index in enumerate(_some(data) if together is not None else ()):
                assert np.array_equal(read(np.array([index]))[0], together[k]), "images are out of order"

    def test_reads_none_when_asked_for_none(self) -> None:
        data = self._new()
        assert data.read(np.empty(0, dtype=np.int64)).shape == (0, *data.shape), "images nobody asked for"

    def test_same_seed_same_images(self) -> None:
        found = []
        for seed in (1, 2):
            with _global_seed(seed):
                data = self._new()
                found.append((data.labels, data.read(_some(data))))
        for first, second in zip(*found, strict=True):
            assert np.array_equal(first, second), "two data sets of one seed differ"

    def _new(self, shape: tuple[int, int, int] | None = None) -> Dataset:
        return self.make(root=None, shape=shape, seed=0)


def _search(
    controller: Controller,
    trials: int,
    lag: int,
    before: Sequence[Arch] = (),
    ends: Sequence[Status] = _MIXED,
) -> list[Arch]:
    """All proposals of a search that goes on for some trials after those ``before``; see ``_lags``."""
    archs = list(before)
    for i in range(len(archs), len(archs) + trials):
        if 0 <= i - lag < len(archs):
            controller.tell([_outcome(i - lag, archs[i - lag], ends)])
        archs += controller.ask(1)
    return archs


def _saved(state: dict[str, Any]) -> Any:
    """What comes back from the disk: JSON values, and tensors that lay beside them."""
    from torch import Tensor

    tensors: list[Tensor] = []

    def aside(value: object) -> dict[str, int]:
        assert isinstance(value, Tensor), f"the state holds {value!r}, neither a JSON value nor a tensor"
        tensors.append(value.clone())
        return {"a tensor": len(tensors) - 1}

    def back(found: dict[str, Any]) -> Any:
        return tensors[found["a tensor"]] if "a tensor" in found else found

    return json.loads(json.dumps(state, default=aside), object_hook=back)


def _some(data: Dataset) -> Ints:
    """Four indices, unsorted, one twice."""
    n = len(data.labels)
    return np.array([n - 1, 0, n // 2, 0])


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """The global generators of Python, numpy and torch seeded, and put back afterwards."""
    import torch

    python, legacy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _codes(n: int, d: int) -> Tensor:
    return 2 + _normal(n, d, seed=1)


def _batch(n: int, d: int) -> Batch:
    """Other codes of the same kind, and images with reconstructions near them."""
    image = _normal(n, 1, 8, 8).sigmoid()
    near = image + 0.1 * _normal(n, 1, 8, 8, seed=3)
    return Batch(image, near.clamp(0, 1), 2 + _normal(n, d, seed=2))


def _image_pairs(*shape: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Different, equal, equal but for a column, black on white, black on black."""
    image = _normal(*shape).sigmoid()
    column = image.clone()
    column[..., 0] = 0
    yield image, 1 - image
    yield image, image.clone()
    yield image, column
    yield 0 * image, 0 * image + 1
    yield 0 * image, 0 * image


def _apply(module: nn.Module, x: Tensor, shape: tuple[int, ...]) -> None:
    """Forward and backward: the shape, the values and the gradient are checked."""
    leaf = x.clone().requires_grad_()
    out = module(leaf + 0)  # what works in place cannot work on a leaf
    assert tuple(out.shape) == shape, f"{tuple(x.shape)} became {tuple(out.shape)}, not {shape}"
    assert out.isfinite().all(), f"not finite on {tuple(x.shape)}"
    out.sum().backward()
    assert leaf.grad is not None, "not differentiable"
    assert leaf.grad.isfinite().all(), f"the gradient is not finite on {tuple(x.shape)}"


def _reloaded(module: nn.Module, fresh: nn.Module) -> Any:
    fresh.load_state_dict(module.state_dict(), strict=True)
    return fresh.eval()


def _same(found: Tensor, wanted: Tensor, otherwise: str) -> None:
    assert found.shape == wanted.shape, otherwise
    assert found.allclose(wanted, rtol=1e-3, atol=1e-4), otherwise
