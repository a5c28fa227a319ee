"""One trial in this process: what it gives back, what it warns of, and how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from autoad_core import Component, Kind, modelfile, sharing
from autoad_core import trial as trial_module
from autoad_core.config import Train
from autoad_core.detector import HYPOTHESIS
from autoad_core.discovery import discover
from autoad_core.metrics import group_aurocs
from autoad_core.protocols import Batch
from autoad_core.registry import Entry, Origin, Registry
from autoad_core.spec import Layer, Spec
from autoad_core.trial import Images, Job, Task, failed, run_trial, trial_seed

SHAPE = (1, 8, 8)
LONG = Train(epochs=24, batch_size=16, learning_rate=0.01)


class Constant(nn.Module):
    """A hypothesis whose score says nothing."""

    view = "mean"

    def __init__(self, dim: int) -> None:
        super().__init__()

    def start(self, codes: Tensor) -> None: ...

    def refresh(self, codes: Tensor) -> None: ...

    def loss(self, batch: Batch) -> Tensor:
        return batch.code.new_zeros(())

    def finish(self, codes: Tensor) -> None: ...

    def score(self, batch: Batch) -> Tensor:
        return torch.full((len(batch.code),), 3.0)


class Recorder(Constant):
    """Writes down in which order it is told what."""

    calls: ClassVar[list[tuple[str, int]]] = []

    def start(self, codes: Tensor) -> None:
        self.calls.append(("start", len(codes)))

    def finish(self, codes: Tensor) -> None:
        self.calls.append(("finish", len(codes)))


class Sick(Constant):
    """A hypothesis whose score is NaN where an image is bright."""

    def score(self, batch: Batch) -> Tensor:
        return batch.image.mean((1, 2, 3)).sub(0.3).neg().sqrt()


class Hungry(Constant):
    """Asks for more memory than there is."""

    def finish(self, codes: Tensor) -> None:
        torch.empty(2**60)


class Starving(Constant):
    def finish(self, codes: Tensor) -> None:
        raise MemoryError


class Broken(Constant):
    def finish(self, codes: Tensor) -> None:
        raise RuntimeError("the shapes in memory do not fit")


class NotANumber:
    """A distance without a value."""

    reduction = "sum"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return (image - reconstruction).square().sum(1) * float("nan")


class Nothing(NotANumber):
    """A distance that teaches nothing: its gradient is zero, and it ranks by brightness."""

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        return image.sum(1) + 0 * reconstruction.sum(1)


def extended() -> Registry:
    registry, origin = Registry(), Origin("test", "test", "1")
    for entry in discover(builtin_only=True).registry:
        registry.add(entry)
    hypotheses = ("Constant", "Recorder", "Sick", "Hungry", "Starving", "Broken")
    for kind, names in ((Kind.HYPOTHESIS, hypotheses), (Kind.DISTANCE, ("NotANumber", "Nothing"))):
        for name in names:
            component = Component(name=name.lower(), target=f"{__name__}:{name}", summary="")
            registry.add(Entry(kind, component, origin))
    return registry


REGISTRY = extended()


def images() -> tuple[Any, Any, Any]:
    """150 zeros to train on; zeros, ones (group 1) and fours (group 2) to validate."""
    digits = load_digits()
    pixels = digits.images[:, None].astype(np.float32) / 16
    zeros, ones, fours = (pixels[digits.target == k] for k in (0, 1, 4))
    validation = np.concatenate([zeros[150:], ones[:40], fours[:20]])
    return zeros[:150], validation, np.repeat([0, 1, 2], [len(zeros) - 150, 40, 20])


def task(folder: Path, **changes: Any) -> Task:
    train, validation, groups = images()
    for name, values in (("train", train), ("validation", validation), ("groups", groups)):
        np.save(folder / f"{name}.npy", values)
    made = Task(
        folder=folder,
        shape=SHAPE,
        groups=("ones", "fours"),
        distances=("autoad/l2", "autoad/ssim"),
        scores={"own": ("distance", "hypothesis"), "sum": ("autoad/l2", "autoad/ssim", "hypothesis")},
        aggregate="minimum",
        train=Train(epochs=2, batch_size=32, learning_rate=0.01),
        decoder="upsample-first",
        bfloat16=False,
        versions={"autoad/l2": "0.1.0"},
        shared=folder / "shared",
    )
    return replace(made, **changes)


def job(hypothesis: str = "reconstruction", distance: str = "l2", **changes: Any) -> Job:
    layer = Layer(
        channels=8, kernel=3, pooling="max", pooling_kernel=3, normalization="batch", activation="relu"
    )
    spec = Spec(hypothesis, distance, (layer, replace(layer, channels=4, pooling_kernel=1))).resolve(REGISTRY)
    return replace(Job(7, spec, 11, 1.0), **changes)


Runner = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """Run a trial on the tiny set; its model goes to ``tmp_path / "model"``."""

    def carry_out(one: Job, **changes: Any) -> dict[str, Any]:
        made = task(tmp_path, **changes)
        return run_trial(made, one, Images.open(tmp_path), REGISTRY, tmp_path / "model")

    return carry_out


# Results


def test_a_trial_gives_its_reward_and_all_that_led_to_it(run: Runner, tmp_path: Path) -> None:
    result = run(job(), train=LONG)
    assert set(result) == {
        "status",
        "value",
        "score",
        "validation",
        "terms",
        "warnings",
        "parameters",
        "clock",
    }
    assert result["status"] == "ok"
    assert result["score"] in ("own", "sum")
    assert result["value"] == result["validation"][result["score"]]["value"] > 0.9
    assert set(result["validation"]) == {"own", "sum", "autoad/l2", "autoad/ssim", HYPOTHESIS}
    for figures in result["validation"].values():
        assert set(figures) == {"ones", "fours", "value"}
        assert figures["value"] == min(figures["ones"], figures["fours"])
    assert set(result["terms"]) == {"autoad/l2", "autoad/ssim", HYPOTHESIS}
    assert all(set(scale) == {"median", "mad"} for scale in result["terms"].values())
    assert result["warnings"] == []
    assert result["parameters"] == 72 + 8 + 16 + 288 + 4 + 8 + 288 + 8 + 16 + 72 + 1
    assert result["clock"]["seconds"] > 0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_trial_starts_from_shared_weights_and_leaves_its_own(run: Runner, tmp_path: Path) -> None:
    """With a step of nearly nothing it ends where it started: at another trial's weights, not at those of its seed."""
    run(job(pool=0))
    donor = load_file(tmp_path / "model" / "weights.safetensors")
    sharing.advance(tmp_path / "shared", 0, 0, [7], 2)
    still = Train(epochs=1, batch_size=32, learning_rate=1e-12)
    result = run(job(id=8, seed=12, pool=2), train=still)
    found = load_file(tmp_path / "model" / "weights.safetensors")
    trained = [k for k in found if k.endswith((".weight", ".bias")) and k in donor]
    assert trained
    for key in trained:
        torch.testing.assert_close(found[key], donor[key], rtol=0, atol=1e-6)
    assert result["shared"] == result["parameters"]
    assert sharing.child_file(tmp_path / "shared", 8).exists()
    assert "shared" not in run(job(seed=12), train=still)
    apart = load_file(tmp_path / "model" / "weights.safetensors")
    assert any(not torch.allclose(apart[k], donor[k], atol=1e-2) for k in trained)


def test_the_reward_is_that_of_the_saved_model_by_scikit_learn(run: Runner, tmp_path: Path) -> None:
    result = run(job("centroid", "ssim"), aggregate="mean")
    model = modelfile.load(tmp_path / "model", REGISTRY)
    _, validation, groups = images()
    raw = model.detector.raw_terms(torch.from_numpy(validation))
    for name, definition in model.scores.items():
        scores = model.detector.score(raw, definition)
        wanted = {
            group: roc_auc_score(groups[rows] > 0, scores[rows])
            for number, group in enumerate(("ones", "fours"), start=1)
            for rows in [(groups == 0) | (groups == number)]
        }
        wanted["value"] = np.mean(list(wanted.values()))
        assert result["validation"][name] == pytest.approx(wanted, abs=1e-9)
    assert model.score == result["score"]
    best = max(result["validation"][name]["value"] for name in model.scores)
    assert result["value"] == best


def test_a_trial_is_the_same_every_time_but_for_its_clock(run: Runner) -> None:
    one, two, other = run(job("cluster")), run(job("cluster")), run(job("cluster", seed=12))
    for result in (one, two, other):
        del result["clock"]
    assert one == two
    assert one["validation"] != other["validation"]


def test_a_smaller_budget_trains_less(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = trial_module.fit

    def spy(detector: Any, train: Tensor, epochs: int, settings: Train) -> list[float]:
        seen.append((epochs, len(train)))
        return real(detector, train, epochs, settings)

    monkeypatch.setattr(trial_module, "fit", spy)
    for fraction in (1.0, 0.5, 0.1):
        assert run(job(fraction=fraction), train=Train(epochs=8))["status"] == "ok"
    assert seen == [(8, 150), (4, 150), (1, 120)]


def test_training_never_sees_validation(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _, _ = images()
    seen = []
    real = trial_module.fit
    monkeypatch.setattr(trial_module, "fit", lambda d, x, e, s: (seen.append(x), real(d, x, e, s))[1])
    run(job())
    assert np.array_equal(seen[0].numpy(), train)


def test_images_are_mapped_not_read(tmp_path: Path) -> None:
    task(tmp_path)
    opened = Images.open(tmp_path)
    train, validation, groups = images()
    assert np.array_equal(opened.train.numpy(), train)
    assert np.array_equal(opened.validation.numpy(), validation)
    assert np.array_equal(opened.groups, groups)
    opened.train[0] = 5  # copy on write
    assert np.array_equal(np.load(tmp_path / "train.npy"), train)


def test_a_group_without_images_is_left_out() -> None:
    scores = np.array([0.1, 0.2, 0.9, 0.15], np.float32)
    groups = np.array([0, 0, 1, 1])
    assert group_aurocs(scores, groups, ("a", "held out"), "minimum") == {"a": 0.75, "value": 0.75}
    both = group_aurocs(scores, np.array([0, 0, 1, 2]), ("a", "b"), "minimum")
    assert both == {"a": 1.0, "b": 0.5, "value": 0.5}
    assert group_aurocs(scores, np.array([0, 0, 1, 2]), ("a", "b"), "mean")["value"] == 0.75


# Warnings


def test_a_constant_term_is_warned_of(run: Runner) -> None:
    assert "the term hypothesis is constant" in run(job("constant"))["warnings"]
    assert not any("constant" in warning for warning in run(job("centroid"))["warnings"])


def test_no_better_than_untrained_is_warned_of(run: Runner) -> None:
    """A distance that does not depend on the network: training cannot help, and the AUROCs are equal."""
    result = run(job("constant", "nothing"), scores={"own": ("distance", "hypothesis")})
    (warning,) = (w for w in result["warnings"] if "untrained" in w)
    value = f"{result['value']:.3f}"
    assert warning == f"no better than the same net untrained (AUROC {value} against {value})"


def test_better_than_untrained_is_not_warned_of(run: Runner) -> None:
    assert not any("untrained" in warning for warning in run(job(), train=LONG)["warnings"])


def test_a_reconstruction_like_the_mean_image_is_warned_of(run: Runner) -> None:
    text = "the reconstruction is no better than the mean image"
    assert text in run(job(fraction=0.01), train=Train(epochs=1, learning_rate=1e-6))["warnings"]
    assert text in run(job("constant", "nothing"))["warnings"]
    assert text not in run(job(), train=LONG)["warnings"]


def test_the_untrained_net_is_the_same_net_seed_for_seed(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison builds it once more, with the weights that the trained one began with."""
    built = []
    real = trial_module._build

    def spy(*args: Any) -> Any:
        detector = real(*args)
        built.append({k: v.clone() for k, v in detector.state_dict().items()})
        return detector

    monkeypatch.setattr(trial_module, "_build", spy)
    run(job("cluster"))
    assert len(built) == 2
    assert all(torch.equal(v, built[1][k]) for k, v in built[0].items())


def test_the_untrained_net_is_fitted_as_the_trained_one_is(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "UNTRAINED_IMAGES", 100)
    Recorder.calls.clear()
    run(job("recorder"))
    assert Recorder.calls == [("start", 150), ("finish", 150), ("start", 100), ("finish", 100)]


def test_trained_and_untrained_are_compared_on_the_same_images(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of each group, so that a large validation costs nothing; by the score that gave the reward."""
    monkeypatch.setattr(trial_module, "UNTRAINED_IMAGES", 15)
    seen = []
    real = trial_module.evaluate

    def spy(detector: Any, raw: Any, few: Any, made: Task, only: str | None = None) -> Any:
        seen.append((len(raw["autoad/l2"]), few.groups.tolist(), only))
        return real(detector, raw, few, made, only)

    monkeypatch.setattr(trial_module, "evaluate", spy)
    score = run(job())["score"]
    few = (45, [0] * 15 + [1] * 15 + [2] * 15, score)
    assert seen[1:] == [few, few]
    assert seen[0][0] == len(images()[1])
    assert seen[0][2] is None


# Failures


@pytest.mark.parametrize(
    ("one", "error"),
    [
        (job("reconstruction", "notanumber"), "the loss became nan"),
        (job("reconstruction", "l2+notanumber"), "the loss became nan"),
        (job("sick"), "a score is not finite"),
    ],
)
def test_what_is_not_a_number_is_a_failed_trial(one: Job, error: str, run: Runner, tmp_path: Path) -> None:
    result = run(one)
    assert result.pop("clock").keys() == {"began", "seconds"}
    assert result == {"status": "failed", "value": None, "error": error, "warnings": []}
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("hypothesis", ["hungry", "starving"])
def test_too_little_memory_is_a_failed_trial_that_says_so(hypothesis: str, run: Runner) -> None:
    result = run(job(hypothesis))
    assert result["status"] == "failed"
    assert result["error"] == "out of memory: it needed more than memory_limit"
    assert result["warnings"] == ["ended by a limit of the machine, so a repetition may differ"]
    assert result["clock"].keys() == {"began", "seconds"}


def test_a_fault_of_a_component_is_not_taken_for_want_of_memory(run: Runner) -> None:
    with pytest.raises(RuntimeError, match="the shapes in memory do not fit"):
        run(job("broken"))


def test_a_failure_says_what_and_whether_a_limit_ended_it() -> None:
    assert failed("x") == {"status": "failed", "value": None, "error": "x", "warnings": []}
    assert failed("x", limit=True)["warnings"] == [
        "ended by a limit of the machine, so a repetition may differ"
    ]


# Seeds


def test_trials_have_seeds_of_their_own() -> None:
    seeds = {(run, number): trial_seed(run, number) for run in range(50) for number in range(200)}
    assert len(set(seeds.values())) == 50 * 200
    assert all(0 <= seed < 2**63 for seed in seeds.values())
    assert trial_seed(1, 23) != trial_seed(12, 3)
    bits = np.array([[seed >> b & 1 for b in range(63)] for seed in seeds.values()])
    assert np.abs(bits.mean(0) - 0.5).max() < 0.03  # six standard errors of 10,000 draws


def test_the_seeds_of_a_run_do_not_change_from_version_to_version() -> None:
    assert trial_seed(0, 0) == 7689419447139100721
    assert trial_seed(2**63 - 1, 10**6) == trial_seed(2**63 - 1, 10**6)
