"""A child as a detector: scales and scores against scipy and hand sums, and what training promises to its parts."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from autoad_core import Component, Kind
from autoad_core import detector as detector_module
from autoad_core import model as model_module
from autoad_core.config import Train, parse
from autoad_core.detector import CALIBRATION_IMAGES, HYPOTHESIS, Detector, Scale, measured
from autoad_core.discovery import discover
from autoad_core.experiment import make_space
from autoad_core.geometry import measure
from autoad_core.model import bfloat16_is_fast, parameters
from autoad_core.protocols import Batch, Distance, Hypothesis
from autoad_core.registry import Entry, Origin, Registry
from autoad_core.spec import Layer, Spec
from autoad_core.training import TrainingFailed, fit, seed_everything, settle

BUILT_IN = discover(builtin_only=True).registry
SHAPE = (1, 8, 8)
busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be

HYPOTHESES = [e.id for e in BUILT_IN.of(Kind.HYPOTHESIS)]
DISTANCES = [e.id for e in BUILT_IN.of(Kind.DISTANCE)]


def digits(n: int) -> Tensor:
    """(n, 1, 8, 8) in [0, 1]."""
    return torch.from_numpy(load_digits().images[:n, None].astype(np.float32) / 16)


def layer(channels: int = 8, kernel: int = 3, pooling_kernel: int = 3, **changes: Any) -> Layer:
    rest = {"pooling": "average", "normalization": "batch", "activation": "relu", **changes}
    return Layer(channels=channels, kernel=kernel, pooling_kernel=pooling_kernel, **rest)


def spec(hypothesis: str = "reconstruction", distance: str = "l2", *layers: Layer) -> Spec:
    return Spec(hypothesis, distance, layers or (layer(), layer(4, pooling_kernel=1))).resolve(REGISTRY)


class Recorder(nn.Module):
    """A hypothesis that writes down what it is told; a squared norm."""

    view = "mean"
    calls: list[tuple[str, Any]]

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.calls = []
        self.weight = nn.Parameter(torch.ones(dim))
        self.register_buffer("fitted", torch.zeros(dim))

    def start(self, codes: Tensor) -> None:
        self.calls.append(("start", codes))

    def refresh(self, codes: Tensor) -> None:
        self.calls.append(("refresh", codes))

    def loss(self, batch: Batch) -> Tensor:
        self.calls.append(("loss", batch))
        return (batch.code * self.weight).square().mean()

    def finish(self, codes: Tensor) -> None:
        self.calls.append(("finish", codes))
        self.calls.append(("gradients", torch.is_grad_enabled()))
        self.fitted.copy_(codes.mean(0))

    def score(self, batch: Batch) -> Tensor:
        self.calls.append(("score", batch))
        return (batch.code - self.fitted).square().sum(1)


class FlatRecorder(Recorder):
    view = "flat"


class Poison:
    """A distance that becomes NaN or infinite, in the loss and in the score, as its name says."""

    reduction = "sum"

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return (image - reconstruction).square().sum(1) * self.value


def nan() -> Poison:
    return Poison(float("nan"))


def infinite() -> Poison:
    return Poison(float("inf"))


class Mean:
    """A distance whose map is averaged, not summed."""

    reduction = "mean"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return (image - reconstruction).square().sum(1)


def extended() -> Registry:
    registry, origin = Registry(), Origin("test", "test", "1")
    for entry in BUILT_IN:
        registry.add(entry)
    for kind, name, target in (
        (Kind.HYPOTHESIS, "recorder", "Recorder"),
        (Kind.HYPOTHESIS, "flat-recorder", "FlatRecorder"),
        (Kind.DISTANCE, "nan", "nan"),
        (Kind.DISTANCE, "infinite", "infinite"),
        (Kind.DISTANCE, "average", "Mean"),
    ):
        component = Component(name=name, target=f"{__name__}:{target}", summary="")
        registry.add(Entry(kind, component, origin))
    return registry


REGISTRY = extended()


def build(made: Spec, seed: int = 0, **options: Any) -> Detector:
    seed_everything(seed)
    return Detector(made, SHAPE, REGISTRY, **options)


def trained(made: Spec, n: int = 100, epochs: int = 2, seed: int = 0, **options: Any) -> Detector:
    detector = build(made, seed, **options)
    fit(detector, digits(n), epochs, Train(batch_size=32))
    return detector


# Scales

values = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50).map(
    lambda v: np.array(v, dtype=np.float32)
)


@busy
@given(values)
def test_a_scale_is_the_median_and_the_median_absolute_deviation(v: Any) -> None:
    scale = Scale.of(v)
    assert scale.median == np.median(v)
    mad = scipy.stats.median_abs_deviation(v, scale=1.0)
    if mad > 1e-3:
        assert scale.mad == pytest.approx(mad, rel=1e-5)
    assert 0 < scale.mad < np.inf


def test_a_term_that_mostly_repeats_is_scaled_by_its_standard_deviation() -> None:
    v = np.array([1, 1, 1, 1, 5], dtype=np.float32)
    assert Scale.of(v) == Scale(1.0, pytest.approx(1.6, rel=1e-6))


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e9])
def test_a_constant_term_is_not_scaled(constant: float) -> None:
    assert Scale.of(np.full(9, constant, np.float32)) == Scale(constant, 1.0)


@pytest.mark.parametrize("level", [0.1, -3.0, 1e-9, 1e9])
def test_a_term_that_varies_by_rounding_alone_is_not_scaled(level: float) -> None:
    """Or the rounding errors of a collapsed child would count as much as a term that means something."""
    v = np.full(1024, level, np.float32)
    v[::3] = np.nextafter(v[::3], np.float32(np.inf))
    v[::5] = np.nextafter(v[::5], np.float32(-np.inf))
    assert Scale.of(v).mad == 1
    v = np.float32(level) * (1 + np.linspace(-1e-4, 1e-4, 1024).astype(np.float32))
    assert Scale.of(v).mad == (pytest.approx(abs(level) * 5e-5, rel=0.01) if abs(level) > 1e-6 else 1)


def test_an_outlier_does_not_move_a_scale() -> None:
    rng = np.random.default_rng(0)
    v = rng.normal(size=1000).astype(np.float32)
    assert Scale.of(np.append(v[:-1], np.float32(1e9))).mad == pytest.approx(Scale.of(v).mad, rel=0.01)
    assert Scale.of(v).mad == pytest.approx(0.6745, abs=0.05)  # of a Gaussian


# Scores


def test_a_score_is_the_sum_of_its_standardised_terms() -> None:
    detector = trained(spec("cluster", "l21+ssim"), distances=["autoad/l2", "autoad/relative"])
    images = digits(300)[200:]
    raw = detector.raw_terms(images)
    assert set(raw) == {"autoad/l21", "autoad/ssim", "autoad/l2", "autoad/relative", HYPOTHESIS}
    calibration = detector.raw_terms(digits(100))

    def standard(term: str) -> Any:
        known = calibration[term].astype(np.float64)
        return (raw[term] - np.median(known)) / scipy.stats.median_abs_deviation(known)

    own = standard("autoad/l21") + standard("autoad/ssim") + standard(HYPOTHESIS)
    found = detector.score(raw, ("distance", "hypothesis"))
    assert found.dtype == np.float32
    assert found == pytest.approx(own, rel=1e-4, abs=1e-4)
    both = standard("autoad/l2") + standard("autoad/relative")
    assert detector.score(raw, ("autoad/l2", "autoad/relative")) == pytest.approx(both, rel=1e-4, abs=1e-4)
    assert detector.score(raw, ("autoad/ssim",)) == pytest.approx(standard("autoad/ssim"), rel=1e-4, abs=1e-4)


def test_terms_are_those_of_each_component() -> None:
    detector = trained(spec("cluster", "l1+average"), distances=["autoad/l2"])
    images = digits(20)
    raw = detector.raw_terms(images)
    with torch.no_grad():
        reconstruction, code = detector.network(images)
        error = images - reconstruction
        hypothesis = detector.hypothesis.score(Batch(images, reconstruction, code.mean((2, 3))))
    assert raw["autoad/l1"] == pytest.approx(error.abs().sum((1, 2, 3)).numpy(), rel=1e-5)
    assert raw["autoad/l2"] == pytest.approx(error.square().sum((1, 2, 3)).numpy(), rel=1e-5)
    assert raw["test/average"] == pytest.approx(error.square().sum(1).mean((1, 2)).numpy(), rel=1e-5)
    assert raw[HYPOTHESIS] == pytest.approx(hypothesis.numpy(), rel=1e-5)
    assert all(v.dtype == np.float32 and v.shape == (20,) for v in raw.values())


@pytest.mark.parametrize("distance", ["l1", "l21+ssim", "l2+average"])
def test_the_loss_is_the_distances_of_the_spec_and_the_hypothesis(distance: str) -> None:
    """Distances that are only scored are no part of it."""
    detector = build(spec("recorder", distance), distances=["autoad/relative", "test/nan"])
    images = digits(16)
    detector.eval()
    settle(detector, images, start=True)
    with torch.no_grad():
        loss, codes = detector.loss(images)
        batch = detector.seen(detector(images))
        own = [detector.distances[name] for name in detector.spec.distances]
        wanted = sum(measured(d, batch).mean() for d in own) + detector.hypothesis.loss(batch)
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)
    assert torch.equal(codes, batch.code)
    assert not detector.loss(images)[1].requires_grad


def test_a_distance_is_reduced_as_it_says() -> None:
    batch = Batch(torch.ones(2, 3, 4, 5), torch.zeros(2, 3, 4, 5), torch.zeros(2, 1))
    assert measured(Mean(), batch).tolist() == [3, 3]
    assert measured(Poison(1.0), batch).tolist() == [60, 60]


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
def test_terms_do_not_depend_on_the_batches(hypothesis: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = trained(spec(hypothesis, "l21+ssim"), distances=DISTANCES)
    images = digits(200)[150:]
    found = []
    for size in (256, 7, 1):
        monkeypatch.setattr(detector_module, "SCORING_BATCH", size)
        found.append(detector.raw_terms(images))
    for other in found[1:]:
        for name, v in found[0].items():
            assert other[name] == pytest.approx(v, rel=1e-4, abs=1e-5), name


def test_scoring_changes_nothing() -> None:
    detector = trained(spec("cluster"))
    before = {k: v.clone() for k, v in detector.state_dict().items()}
    first = detector.raw_terms(digits(50))
    second = detector.raw_terms(digits(50))
    assert all(np.array_equal(first[k], second[k]) for k in first)
    assert all(torch.equal(v, before[k]) for k, v in detector.state_dict().items())


def test_bfloat16_gives_nearly_the_same_terms() -> None:
    made = spec("cluster", "l21+ssim", layer(16), layer(8, pooling_kernel=1))
    exact = trained(made, 300, 4, distances=DISTANCES)
    rounded = build(made, distances=DISTANCES, bfloat16=True)
    rounded.load_state_dict(exact.state_dict())
    rounded.scales = exact.scales
    rounded.eval()
    images = digits(400)[300:]
    one, two = exact.raw_terms(images), rounded.raw_terms(images)
    for name in one:
        assert two[name].dtype == np.float32
        assert np.isfinite(two[name]).all()
        assert two[name] == pytest.approx(one[name], rel=0.05, abs=0.05 * exact.scales[name].mad), name
        assert not np.array_equal(one[name], two[name]), name  # bfloat16 it was
        assert scipy.stats.spearmanr(one[name], two[name]).statistic > 0.99, name
    assert rounded.codes(images) == pytest.approx(exact.codes(images), abs=0.05)


def test_a_child_trains_in_bfloat16_as_in_float32() -> None:
    losses = []
    for low in (False, True):
        detector = build(spec("centroid", "ssim"), bfloat16=low)
        losses.append(fit(detector, digits(200), 4, Train()))
        assert all(p.dtype == torch.float32 for p in detector.parameters())
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize(
    ("known", "fast"),
    [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx2": True}, False)],
)
def test_bfloat16_is_fast_where_the_processor_has_it(
    known: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module.torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert bfloat16_is_fast() is fast
    monkeypatch.delattr(model_module.torch.cpu, "get_capabilities")  # torch before 2.6
    assert bfloat16_is_fast() is False


def test_the_number_of_parameters_by_hand() -> None:
    detector = build(spec("reconstruction", "l2", layer(8, 3, 2), layer(4, 5, 2)))
    encoder = 1 * 8 * 9 + 8 + 2 * 8 + 8 * 4 * 25 + 4 + 2 * 4
    decoder = 4 * 8 * 25 + 8 + 2 * 8 + 8 * 1 * 9 + 1
    assert parameters(detector) == encoder + decoder


# Training


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
@pytest.mark.parametrize("decoder", ["upsample-first", "paper"])
def test_the_loss_falls_on_an_easy_set(hypothesis: str, decoder: str) -> None:
    """The distance only, where the hypothesis's term depends on what is fitted after each epoch."""
    detector = build(spec(hypothesis, "l2"), decoder=decoder)
    images = digits(256)
    settle(detector, images, start=True)
    settle(detector, images)
    before = float(detector.raw_terms(images)["autoad/l2"].mean())
    losses = fit(detector, images, 8, Train(batch_size=32, learning_rate=0.01))
    assert len(losses) == 8
    assert np.isfinite(losses).all()
    assert float(detector.raw_terms(images)["autoad/l2"].mean()) < 0.6 * before
    assert losses[-1] < losses[0]


def test_the_losses_are_means_over_images_not_over_batches() -> None:
    detector = build(spec("reconstruction", "l2", layer(normalization="none")))
    images = digits(50)
    with torch.no_grad():
        wanted = float(detector.loss(images)[0])
    (found,) = fit(detector, images, 1, Train(batch_size=32, learning_rate=1e-12))
    assert found == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("distance", ["nan", "infinite"])
def test_a_loss_that_is_not_finite_ends_the_training(distance: str) -> None:
    detector = build(spec("reconstruction", distance))
    with pytest.raises(TrainingFailed, match=f"the loss became {'nan' if distance == 'nan' else 'inf'}"):
        fit(detector, digits(20), 3, Train())


def test_codes_that_are_not_finite_end_the_training() -> None:
    detector = build(spec())
    with torch.no_grad():
        next(detector.network.parameters()).fill_(float("inf"))
    for start in (True, False):
        with pytest.raises(TrainingFailed, match="the encoder gives codes that are not finite"):
            settle(detector, digits(20), start=start)


@pytest.mark.parametrize(("name", "dim"), [("recorder", 4), ("flat-recorder", 16)])
def test_the_hooks_of_a_hypothesis_are_called_in_the_promised_order(name: str, dim: int) -> None:
    detector = build(spec(name))
    untrained = detector.eval().codes(digits(50))
    fit(detector, digits(50), 3, Train(batch_size=20))
    hypothesis: Any = detector.hypothesis
    assert isinstance(hypothesis, Hypothesis)
    assert hypothesis.dim == dim
    kinds = [kind for kind, _ in hypothesis.calls]
    epoch = ["loss"] * 3 + ["refresh"]  # 20 + 20 + 10 images
    assert kinds == ["start", *epoch * 3, "finish", "gradients", "score"]
    told = dict(hypothesis.calls)
    for kind, value in hypothesis.calls:
        if kind in ("start", "refresh", "finish"):
            assert value.shape == (50, dim)
            assert value.dtype == torch.float32
            assert not value.requires_grad
        elif kind in ("loss", "score"):
            assert value.code.shape[1:] == (dim,)
            assert value.image.shape == value.reconstruction.shape
            assert len(value.image) == len(value.code)
            assert value.reconstruction.dtype == value.code.dtype == torch.float32
    assert torch.equal(told["start"], untrained)
    assert torch.equal(told["finish"], detector.codes(digits(50)))
    assert told["gradients"] is False


def test_refresh_gets_the_codes_that_the_steps_saw() -> None:
    detector = build(spec("recorder"))
    fit(detector, digits(50), 2, Train(batch_size=20))
    hypothesis: Any = detector.hypothesis
    seen: list[Tensor] = []
    refreshed = 0
    for kind, value in hypothesis.calls:
        if kind == "loss":
            seen.append(value.code.detach())
        if kind == "refresh":
            assert torch.equal(value, torch.cat(seen))
            seen, refreshed = [], refreshed + 1
    assert refreshed == 2


def test_every_epoch_sees_every_image_once_in_another_order() -> None:
    detector = build(spec("recorder"))
    images = torch.arange(50.0).div(64)[:, None, None, None].expand(50, *SHAPE).contiguous()
    fit(detector, images, 3, Train(batch_size=20))
    hypothesis: Any = detector.hypothesis
    seen = (
        torch.cat([v.image[:, 0, 0, 0] for kind, v in hypothesis.calls if kind == "loss"]).mul(64).view(3, 50)
    )
    assert torch.equal(seen.sort(1).values, torch.arange(50.0).expand(3, 50))
    assert len({tuple(order.tolist()) for order in seen}) == 3


def test_what_a_hypothesis_trains_is_trained_with_the_network() -> None:
    detector = trained(spec("recorder"))
    weight = detector.hypothesis.weight  # type: ignore[attr-defined]
    assert (weight.detach() != 1).any()


def test_scales_come_from_the_first_training_images() -> None:
    images = torch.rand(CALIBRATION_IMAGES + 200, *SHAPE, generator=torch.Generator().manual_seed(0))
    detector = build(spec())
    settle(detector, images, start=True)
    settle(detector, images)
    raw = detector.raw_terms(images[:CALIBRATION_IMAGES])
    assert detector.scales == {name: Scale.of(v) for name, v in raw.items()}
    assert detector.scales != {name: Scale.of(v) for name, v in detector.raw_terms(images).items()}


class Watched(torch.optim.Adam):
    """Adam that writes down its learning rate at each step."""

    rates: list[float]

    def step(self, closure: Any = None) -> Any:
        type(self).rates.append(self.param_groups[0]["lr"])
        return super().step(closure)


def rates(epochs: int, monkeypatch: pytest.MonkeyPatch, batches: int = 2) -> list[list[float]]:
    """The learning rates of each epoch."""
    Watched.rates = []
    monkeypatch.setattr(torch.optim, "Adam", Watched)
    fit(build(spec()), digits(20 * batches), epochs, Train(batch_size=20, learning_rate=0.02))
    assert len(Watched.rates) == epochs * batches
    return [Watched.rates[i : i + batches] for i in range(0, len(Watched.rates), batches)]


@pytest.mark.parametrize("epochs", [4, 8, 12])
def test_the_learning_rate_falls_at_50_and_75_percent(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [rate for epoch in rates(epochs, monkeypatch) for rate in epoch]
    wanted = [0.02 * (1 if e < epochs / 2 else 0.1 if e < 3 * epochs / 4 else 0.01) for e in range(epochs)]
    assert found == pytest.approx([rate for rate in wanted for _ in range(2)])


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 7, 10])
def test_the_learning_rate_begins_in_full_and_never_rises(
    epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [epoch[0] for epoch in rates(epochs, monkeypatch, 1)]
    assert found[0] == 0.02
    assert found == sorted(found, reverse=True)
    for e, rate in enumerate(found):  # within one epoch of what was promised
        steps = round(np.log10(0.02 / rate))
        assert sum((e + 1) / epochs > share for share in (0.5, 0.75)) >= steps
        assert sum((e - 1) / epochs >= share for share in (0.5, 0.75)) <= steps


# Determinism


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
def test_the_same_seed_gives_the_same_model_bit_for_bit(hypothesis: str) -> None:
    made = spec(hypothesis, "l21+ssim")
    one = trained(made, seed=5)
    random.seed(99)
    np.random.seed(99)
    torch.rand(10)
    two = trained(made, seed=5)
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    assert one.scales == two.scales
    raw = [d.raw_terms(digits(50)) for d in (one, two)]
    assert all(np.array_equal(raw[0][k], raw[1][k]) for k in raw[0])
    other = trained(made, seed=6)
    assert not all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


# No score is constant or infinite, anywhere in the space

POINTS = list(itertools.product(HYPOTHESES, DISTANCES))


@pytest.mark.parametrize(("hypothesis", "distance"), POINTS, ids=[f"{h[7:]}-{d[7:]}" for h, d in POINTS])
def test_scores_are_finite_and_not_constant_after_training(hypothesis: str, distance: str) -> None:
    """Three random points for each hypothesis and distance, at the default learning rate and at the paper's."""
    space = make_space(
        parse(
            {
                "space": {
                    "layers": 3,
                    "hypothesis": [hypothesis],
                    "distance": [distance],
                    "channels": [3, 8, 16],
                }
            }
        ),
        REGISTRY,
        SHAPE,
    )
    rng = random.Random(f"{hypothesis} {distance}")
    images, strange = digits(120), torch.cat([digits(150)[120:], torch.rand(30, *SHAPE)])
    for rate in (3e-3, 0.1, 0.1):
        point = Spec.from_values(space.decode(space.sample(rng)))
        cut = Spec(point.hypothesis, point.distance, point.layers[: rng.randint(1, 3)])
        detector = build(cut, seed=rng.randrange(1000), decoder=rng.choice(["upsample-first", "paper"]))
        fit(detector, images, 2, Train(batch_size=40, learning_rate=rate))
        raw = detector.raw_terms(strange)
        assert all(np.isfinite(v).all() for v in raw.values()), cut
        own = detector.score(raw, ("distance", "hypothesis"))
        assert np.isfinite(own).all(), cut
        assert np.ptp(own) > 1e-6 * np.abs(own).max(), cut
        assert len(np.unique(own)) > 30, cut


def test_every_distance_of_a_trained_child_is_kept() -> None:
    """One pass gives all of them, and no distance is measured twice."""
    counted: dict[str, int] = {}
    detector = trained(spec("centroid", "l1"), distances=[*DISTANCES, "l1", "autoad/l1"][:-2])

    def counting(name: str, distance: Distance) -> Any:
        def measure_(image: Tensor, reconstruction: Tensor) -> Tensor:
            counted[name] = counted.get(name, 0) + len(image)
            return distance(image, reconstruction)

        return type("Counting", (), {"reduction": distance.reduction, "__call__": staticmethod(measure_)})()

    detector.distances = {k: counting(k, d) for k, d in detector.distances.items()}
    raw = detector.raw_terms(digits(30))
    assert counted == dict.fromkeys(DISTANCES, 30)
    assert set(raw) == {*DISTANCES, HYPOTHESIS}


def test_the_geometry_is_that_of_the_spec() -> None:
    made = spec()
    assert build(made).network.geometry == measure(made.layers, SHAPE)
