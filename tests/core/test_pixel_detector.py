"""Children that score pixels: what their hypothesis gets, what is usual of a term, maps against a reckoning by hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from autoad_core import pixel_metrics
from autoad_core.component import Kind
from autoad_core.config import Train
from autoad_core.discovery import discover
from autoad_core.errors import ModelError
from autoad_core.judges import Contestant, PixelJudge
from autoad_core.modelfile import Model, load, save
from autoad_core.pixel_baselines import simple_maps
from autoad_core.pixel_detector import PixelDetector, Pixels, build
from autoad_core.protocols import Batch
from autoad_core.score_maps import Standard, blurred
from autoad_core.spec import Layer, Spec
from autoad_core.split import Part, Split
from autoad_core.training import fit, patches, seed_everything
from autoad_core.trial import TRUTH, Images, Job, Task, run_trial

REGISTRY = discover(builtin_only=True).registry
SHAPE = (1, 40, 52)
PIXELS = Pixels(patch=24, metric="au_pro", area=9)
SCORES = {
    "own": ("distance", "hypothesis", "~1.5"),
    "own@place": ("distance@place", "hypothesis@place", "~1.5"),
    "one": ("autoad/l2",),
    "place": ("code", "~2"),
}


def layer(channels: int, kernel: int, **changes: Any) -> Layer:
    rest = {"kernel": 3, "pooling": "average", "normalization": "none", "activation": "tanh"}
    return Layer(channels=channels, pooling_kernel=kernel, **{**rest, **changes})


def detector(hypothesis: str = "reconstruction", pixels: Pixels = PIXELS, **options: Any) -> PixelDetector:
    spec = Spec(hypothesis, "l1+ssim", (layer(6, 3), layer(5, 2, normalization="batch"))).resolve(REGISTRY)
    seed_everything(0)
    made = build(spec, SHAPE, REGISTRY, pixels, distances=["autoad/l2"], **options)
    assert isinstance(made, PixelDetector)
    return made


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """A bright disc in the middle, and noise."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(40) - 20, torch.arange(52) - 26, indexing="ij")
    disc = (rows**2 + columns**2 < 150).float() * 0.6
    return (disc + 0.2 + 0.05 * torch.randn(count, 1, 40, 52, generator=generator)).clamp(0, 1)


def trained(hypothesis: str = "reconstruction", **options: Any) -> PixelDetector:
    made = detector(hypothesis, **options)
    fit(made, pictures(40), 3, Train(batch_size=10))
    return made


# What is seen


def test_a_patch_is_cut_from_its_image_and_every_place_is_as_likely() -> None:
    images = torch.arange(3 * 2 * 5 * 6, dtype=torch.float32).reshape(3, 2, 5, 6)
    torch.manual_seed(0)
    chosen = torch.tensor([2, 0]).repeat(3000)
    found = patches(images, chosen, (4, 3))
    assert found.shape == (6000, 2, 4, 3)
    counts = dict.fromkeys(itertools.product((0, 2), range(2), range(4)), 0)
    for image, patch in zip(chosen.tolist(), found, strict=True):
        at = int(patch[0, 0, 0]) - 60 * image
        top, left = divmod(at, 6)
        assert torch.equal(patch, images[image, :, top : top + 4, left : left + 3])
        counts[image, top, left] += 1
    # 16 places with 375 each expected; a chi-squared of 15 degrees beyond 50 comes once in 100,000 seeds.
    assert sum((c - 375) ** 2 / 375 for c in counts.values()) < 50
    assert torch.equal(patches(images, torch.tensor([1]), (5, 6)), images[1:2])


def test_a_hypothesis_gets_each_position_as_an_image_with_its_vector() -> None:
    made = detector()
    images = pictures(2)
    with torch.no_grad():
        batch = made(images)
        seen = made.seen(batch)
    down, across = made.network.geometry.stride
    _, _, height, width = batch.code.shape
    assert (down, across, height, width) == (6, 6, 7, 9)  # 40 and 52 are no multiples of 6
    assert len(seen.image) == len(seen.code) == 2 * 7 * 9
    for n, (b, i, j) in enumerate(itertools.product(range(2), range(7), range(9))):
        assert torch.equal(seen.code[n], batch.code[b, :, i, j])
        rows = [min(6 * i + k, 39) for k in range(6)]  # edges are repeated
        columns = [min(6 * j + k, 51) for k in range(6)]
        assert torch.equal(seen.image[n], images[b][:, rows][:, :, columns])
        assert torch.equal(seen.reconstruction[n], batch.reconstruction[b][:, rows][:, :, columns])


def test_the_map_of_a_hypothesis_lies_where_its_positions_lie() -> None:
    """Against interpolation by hand between the middles of the positions."""
    made = trained("centroid")
    images = pictures(1, seed=5)
    with torch.no_grad():
        batch = made(images)
        scores = made.hypothesis.score(made.seen(batch)).view(7, 9).double().numpy()
    found = made.raw_terms(images)["hypothesis"][0]
    assert found.shape == (40, 52)
    for y, x in ((0, 0), (2, 3), (20, 25), (33, 44), (39, 51)):
        i, j = ((p + 0.5) / 6 - 0.5 for p in (y, x))
        (i0, fi), (j0, fj) = ((int(np.floor(max(p, 0))), max(p, 0) % 1) for p in (i, j))
        i1, j1 = min(i0 + 1, 6), min(j0 + 1, 8)
        upper = scores[i0, j0] * (1 - fj) + scores[i0, j1] * fj
        lower = scores[i1, j0] * (1 - fj) + scores[i1, j1] * fj
        assert found[y, x] == pytest.approx(upper * (1 - fi) + lower * fi, rel=1e-4)


@pytest.mark.parametrize("hypothesis", [e.id for e in REGISTRY.of(Kind.HYPOTHESIS)])
def test_every_hypothesis_gives_finite_maps_of_images_of_any_size(hypothesis: str) -> None:
    made = trained(hypothesis)
    for size in ((40, 52), (24, 24), (13, 90), (1, 1)):
        raw = made.raw_terms(torch.rand(2, 1, *size))
        assert raw.keys() - {"code"} == {"autoad/l1", "autoad/ssim", "autoad/l2", "hypothesis"}
        assert ("code" in raw) == (size == SHAPE[1:])
        for values in raw.values():
            assert values.shape == (2, *size)
            assert np.isfinite(values).all()
        assert np.isfinite(made.score(raw, SCORES["own"])).all()


def test_upsampling_goes_back_to_the_pixels_that_were_pooled() -> None:
    """A position of the code shows in its own pixels and their neighbours, at any size of the image."""
    made = detector().eval()
    network = made.network
    for length in (40, 64, 203):
        with torch.no_grad():
            code = network.encode(torch.full((1, 1, length, 12), 0.5))
            before = network.decode(code, (length, 12))
            for i in (0, code.shape[2] // 2, code.shape[2] - 1):
                changed = code.clone()
                changed[:, :, i] += 5
                rows = (network.decode(changed, (length, 12)) - before).abs().amax((0, 1, 3)) > 1e-6
                first, last = np.flatnonzero(rows)[[0, -1]]
                # Convolutions of 3 reach one position of 3 pixels and one pixel further.
                assert max(0, 6 * i - 4) <= first <= 6 * i
                assert min(length, 6 * i + 6) - 1 <= last <= min(length - 1, 6 * i + 9)


# Tiles


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pixel_detector", "tiles"):
        monkeypatch.setattr(f"autoad_core.{module}.TILE", 96)


@pytest.mark.parametrize("size", [(97, 200), (300, 60), (231, 333)])
@pytest.mark.parametrize("hypothesis", ["reconstruction", "mahalanobis"])
def test_tiles_give_what_the_whole_image_gives(
    size: tuple[int, int], hypothesis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trained(hypothesis)
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    whole = made.raw_terms(images)
    monkeypatch.setattr("autoad_core.pixel_detector.TILE", 96)
    monkeypatch.setattr("autoad_core.tiles.TILE", 96)
    calls = []
    real = made.network.forward
    monkeypatch.setattr(made.network, "forward", lambda x: (calls.append(x.shape), real(x))[1])
    found = made.raw_terms(images)
    assert len(calls) > 2
    assert all(min(shape[2:]) <= 108 for shape in calls)
    for name, values in found.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("small_tiles")
def test_no_seams_where_a_network_looks_at_the_whole_of_what_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instance normalization sees each tile by itself, and neighbours differ; blending makes a slope of the step."""
    spec = Spec("reconstruction", "l2", (layer(6, 3, normalization="instance"), layer(5, 1))).resolve(
        REGISTRY
    )
    seed_everything(0)
    made = build(spec, SHAPE, REGISTRY, PIXELS)
    fit(made, pictures(40), 2, Train(batch_size=10))
    # Brighter to the right, so that tiles differ in what is usual within them.
    image = torch.linspace(0, 1, 400)[None, None, None].repeat(1, 1, 60, 1)
    image = (image + 0.1 * torch.rand(1, 1, 60, 400, generator=torch.Generator().manual_seed(1))).clamp(0, 1)

    def highest_step() -> float:
        with torch.no_grad():
            reconstruction = made(image).reconstruction[0, 0, :, 9:-9]  # without the image's own border
        positions = reconstruction.unfold(1, 3, 3).mean((0, 2))  # of 3 pixels that one position stands for
        return float(positions.diff().abs().max())

    blended = highest_step()
    monkeypatch.setattr("autoad_core.tiles.RAMP", 1)
    assert blended < highest_step() / 3


def test_what_a_pixel_depends_on_lies_within_reach() -> None:
    made = detector().eval()
    reach = made.network.geometry.reach
    image = torch.rand(1, 1, 90, 90, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[0, 0, 45, 45] += 0.5
    with torch.no_grad():
        difference = (made.network(changed)[0] - made.network(image)[0]).abs()[0, 0] > 1e-7
    rows, columns = np.nonzero(difference.numpy())
    assert np.abs(rows - 45).max() <= reach
    assert np.abs(columns - 45).max() <= reach
    assert max(np.abs(rows - 45).max(), np.abs(columns - 45).max()) > reach // 2  # and not much less


def test_images_smaller_than_a_patch_are_trained_on_whole() -> None:
    made = detector(pixels=Pixels(64, "au_pro", 9))
    assert made.layout == SHAPE
    fit(made, pictures(8), 1, Train(batch_size=4))
    assert np.isfinite(made.raw_terms(pictures(2))["autoad/l2"]).all()


def test_maps_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trained("density")
    whole = made.raw_terms(pictures(7, seed=1))
    monkeypatch.setattr("autoad_core.detector.SCORING_PIXELS", 2 * 40 * 52)
    for name, values in made.raw_terms(pictures(7, seed=1)).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-4, atol=1e-5)


# What is usual


def test_terms_are_standardised_over_all_pixels_or_at_their_place() -> None:
    rng = np.random.default_rng(0)
    train = {k: rng.gamma(2, s, (30, 11, 13)).astype(np.float32) for k, s in (("a", 1.0), ("b", 1e3))}
    train["a"][:, 3:6] += 50  # a place where much is usual
    halves = [{k: torch.from_numpy(v[part]) for k, v in train.items()} for part in (slice(12), slice(12, 30))]
    standard = Standard.of(halves)
    raw = {k: rng.gamma(2, s, (4, 11, 13)).astype(np.float32) for k, s in (("a", 1.0), ("b", 1e3))}

    def everywhere(k: str) -> Any:
        median = np.median(train[k].astype(np.float64))
        return (raw[k] - median) / np.median(np.abs(train[k] - median))

    def place(k: str) -> Any:
        wide = train[k].astype(np.float64)
        deviation = np.sqrt(gaussian_filter(wide.var(0), 2, mode="nearest"))
        return np.abs(raw[k] - wide.mean(0)) / (deviation + 0.1 * np.median(deviation))

    found = standard.score(raw, ["a", "b@place"])
    np.testing.assert_allclose(found, everywhere("a") + place("b"), rtol=1e-3)
    smooth = standard.score(raw, ["a@place", "~1.2"])
    expected = [gaussian_filter(one, 1.2, mode="nearest") for one in place("a")]
    np.testing.assert_allclose(smooth, expected, rtol=1e-3)
    with pytest.raises(ValueError, match=r"maps of \(5, 5\) and places of \(11, 13\)"):
        standard.score({"a": np.zeros((1, 5, 5), np.float32)}, ["a@place"])


def test_large_terms_that_hardly_vary_lose_nothing_at_their_place() -> None:
    rng = np.random.default_rng(0)
    maps = (1e4 + 0.01 * rng.normal(size=(200, 4, 4))).astype(np.float32)
    _, deviation = Standard.of([{"a": torch.from_numpy(maps)}]).places["a"]
    assert float(deviation.mean()) == pytest.approx(1.1 * maps.astype(np.float64).std(0).mean(), rel=0.02)


@pytest.mark.parametrize("sigma", [0.0, 0.4, 2.0, 7.0])
def test_smoothing_is_scipys(sigma: float) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 9, 31)).astype(np.float32)
    expected = maps if not sigma else [gaussian_filter(m, sigma, mode="nearest") for m in maps]
    np.testing.assert_allclose(blurred(torch.from_numpy(maps), sigma).numpy(), expected, atol=1e-5)


def test_what_is_unusual_only_at_its_place_is_seen_at_its_place() -> None:
    """The disc is missing: nowhere is anything that training images have nowhere."""
    made = trained()
    missing = torch.full((1, 1, 40, 52), 0.2)
    raw, normal = made.raw_terms(missing), made.raw_terms(pictures(5, seed=3))
    everywhere, place = (made.score(raw, SCORES[k])[0] for k in ("own", "own@place"))
    assert place[15:25, 20:32].min() > made.score(normal, SCORES["own@place"]).max()
    assert everywhere[20, 26] < made.score(normal, SCORES["own"]).max()


# Models


def test_a_model_of_pixels_gives_the_same_maps_after_saving_and_loading(tmp_path: Path) -> None:
    made = trained("cluster")
    save(Model(made, SCORES, "own@place"), tmp_path / "m", {})
    torch.manual_seed(5)
    model = load(tmp_path / "m", REGISTRY)
    assert isinstance(model.detector, PixelDetector)
    assert model.detector.pixels == PIXELS
    images = pictures(3, seed=2)
    for name, definition in SCORES.items():
        np.testing.assert_array_equal(model(images, name), made.score(made.raw_terms(images), definition))
    np.testing.assert_array_equal(model.image_scores(images), model(images, "own@place").max((1, 2)))


@pytest.mark.parametrize(
    "change",
    [
        {"pixels": {"patch": 10**6, "metric": "au_pro", "area": 4}},
        {"scores": {"own": ["hypothesis", "~nan"]}, "score": "own"},
        {"scores": {"own": ["hypothesis", "~-1"]}, "score": "own"},
        {"scores": {"own": ["~2"]}, "score": "own"},
        {"scores": {"own": ["~2", "hypothesis"]}, "score": "own"},
        {"refine": [{"name": "dense-crf", "params": {}}] * 9},
        {"refine": [{"no": "name"}]},
        {"pixels": {"patch": 24}},
        {"pixels": None},
        {"scores": {"own": ["nothing@place"]}, "score": "own"},
    ],
)
def test_tampered_settings_of_pixels_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    save(Model(trained(), SCORES, "own"), tmp_path / "m", {})
    spec = json.loads((tmp_path / "m" / "spec.json").read_text())
    (tmp_path / "m" / "spec.json").write_text(json.dumps(spec | change))
    with pytest.raises(ModelError):
        load(tmp_path / "m", REGISTRY)


# Trials


def spotted(count: int, seed: int) -> tuple[torch.Tensor, list[Any]]:
    """Pictures with a dark spot on the disc, and masks three times as fine."""
    images, masks = pictures(count, seed), []
    rng = np.random.default_rng(seed)
    for image in images:
        y, x = rng.integers(14, 22), rng.integers(20, 28)
        image[:, y : y + 5, x : x + 5] = 0.15
        mask = np.zeros((120, 156), bool)
        mask[3 * y : 3 * y + 15, 3 * x : 3 * x + 15] = True
        masks.append(mask)
    return images, masks


def part(normal: int, anomalous: int, seed: int) -> Part:
    images, masks = spotted(anomalous, seed)
    return Part(
        torch.cat([pictures(normal, seed + 100), images]).numpy(),
        np.repeat([0, 1], [normal, anomalous]),
        (*[np.zeros((40, 52), bool)] * normal, *masks),
    )


def task(folder: Path, **changes: Any) -> Task:
    shown = part(10, 8, 1)
    arrays = {"train": pictures(40).numpy(), "validation": shown.images, "groups": shown.groups}
    arrays |= {name: np.stack([getattr(t, name) for t in shown.truths()]) for name in TRUTH}
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    made = Task(
        folder=folder,
        shape=SHAPE,
        groups=("spot",),
        distances=("autoad/l2", "autoad/l1"),
        scores=SCORES,
        aggregate="minimum",
        train=Train(batch_size=8, epochs=8),
        decoder="upsample-first",
        bfloat16=False,
        versions={},
        shared=folder / "shared",
        pixels=PIXELS,
    )
    return Task(**{**{k: getattr(made, k) for k in made.__dataclass_fields__}, **changes})


@pytest.mark.parametrize("metric", ["au_pro", "mean", "rpro"])
def test_a_trial_is_worth_what_its_maps_show(metric: str, tmp_path: Path) -> None:
    made = task(tmp_path, pixels=Pixels(24, metric, 9))
    images = Images.open(tmp_path)
    job = Job(0, detector("mahalanobis").spec, 1, 1.0)
    result = run_trial(made, job, images, REGISTRY, tmp_path / "model")
    assert result["status"] == "ok"
    assert result["validation"].keys() == SCORES.keys()
    figures = result["validation"][result["score"]]
    assert result["value"] == figures["value"] == figures[metric]
    assert result["value"] == max(found["value"] for found in result["validation"].values())
    assert figures["pixel_auroc"] > 0.9
    maps = load(tmp_path / "model", REGISTRY)(images.validation)
    threshold = pixel_metrics.area_threshold(list(maps[:10]), 9)
    again = pixel_metrics.figures(list(maps), part(10, 8, 1).truths(), threshold)
    assert figures == pytest.approx({"value": figures["value"], **again}, abs=1e-5)
    twice = run_trial(made, job, images, REGISTRY, tmp_path / "twice")
    assert {k: v for k, v in twice.items() if k != "clock"} == {
        k: v for k, v in result.items() if k != "clock"
    }


@pytest.mark.parametrize("scores", [{"place": ("code", "~2")}, {"own@place": SCORES["own@place"]}])
def test_a_child_that_was_not_trained_is_told_so(scores: dict[str, tuple[str, ...]], tmp_path: Path) -> None:
    made = task(tmp_path, scores=scores, train=Train(batch_size=8, epochs=1, learning_rate=1e-30))
    spec = Spec("reconstruction", "l1", (layer(6, 3),)).resolve(REGISTRY)  # nothing but weights to be trained
    result = run_trial(made, Job(0, spec, 1, 1.0), Images.open(tmp_path), REGISTRY, tmp_path / "m")
    assert any("no better than the same net untrained" in warning for warning in result["warnings"])


def test_scores_that_are_not_finite_are_not_given(tmp_path: Path) -> None:
    made = trained()
    made.code_places.whitening.fill_(1e38)
    save(Model(made, SCORES, "place"), tmp_path / "m", {})
    with pytest.raises(ModelError, match="scores that are not finite"):
        load(tmp_path / "m", REGISTRY)(pictures(1))
    made.places[:, 1] = 0
    save(Model(made, SCORES, "place"), tmp_path / "m", {})
    with pytest.raises(ModelError, match="a deviation at a place is not positive"):
        load(tmp_path / "m", REGISTRY)


# The table


@pytest.fixture(scope="module")
def judge() -> PixelJudge:
    shown, hidden = part(10, 8, 1), part(12, 6, 7)
    split = Split(("spot",), Part(pictures(40).numpy(), np.zeros(40, np.int64)), shown, hidden)
    return PixelJudge(split, shown, PIXELS, 0)


def test_a_row_is_judged_on_masks_and_by_the_threshold_of_validation(judge: PixelJudge) -> None:
    def score(images: Any) -> Any:
        return np.abs(images[:, 0] - judge.split.train.images.mean((0, 1)))

    row = judge.row(Contestant("by hand", score, {"more": 1}))
    assert (row["name"], row["more"]) == ("by hand", 1)
    threshold = pixel_metrics.area_threshold(list(score(judge.split.validation.images[:10])), 9)
    for name, images in (("validation", judge.split.validation), ("test", judge.split.test)):
        expected = pixel_metrics.figures(list(score(images.images)), images.truths(), threshold)
        metrics = row[name]["metrics"]
        assert {k: v["value"] for k, v in metrics.items()} == pytest.approx(expected)
        assert all(v["low"] <= v["value"] <= v["high"] for v in metrics.values())
        assert row[name]["reward"] == metrics["au_pro"]
    assert judge.value(score(judge.sample.images)) == row["validation"]["reward"]["value"]


def test_types_that_only_the_test_knows_stand_by_themselves() -> None:
    """The reward is that of the types that validation has; each type has its own figure."""
    shown, hidden = part(10, 8, 1), part(12, 6, 7)
    held = Part(hidden.images, np.where(np.arange(18) >= 15, 2, hidden.groups), hidden.masks)
    train = Part(pictures(40).numpy(), np.zeros(40, np.int64))
    judge = PixelJudge(Split(("spot", "held out"), train, shown, held), shown, PIXELS, 0)

    def score(images: Any) -> Any:
        return np.abs(images[:, 0] - train.images.mean((0, 1)))

    row = judge.row(Contestant("by hand", score, {}))["test"]
    truths = hidden.truths()
    for name, rows in (
        ("reward", range(15)),
        ("held out", [*range(12), *range(15, 18)]),
        ("metrics", range(18)),
    ):
        chosen = [score(hidden.images)[i] for i in rows]
        expected = pixel_metrics.summary(chosen, [truths[i] for i in rows])["au_pro"]
        found = {"metrics": row["metrics"]["au_pro"], "reward": row["reward"], **row["sets"]}[name]
        assert found["value"] == pytest.approx(expected)
        assert found["low"] <= expected <= found["high"]
    assert row["sets"]["spot"] == row["reward"]


def test_the_simple_methods_have_maps(judge: PixelJudge) -> None:
    made = trained()
    found = simple_maps(judge, made.distances, ["autoad/l1", "autoad/ssim"], SCORES, [0.5, 1.5])
    assert [c.name for c in found] == ["PCA", "nearest neighbours", "mean pixel", "centre of the image"]
    rows = {c.name: judge.row(c)["test"]["metrics"] for c in found}
    assert rows["PCA"]["au_pro"]["value"] > 0.9
    assert rows["nearest neighbours"]["au_pro"]["value"] > 0.9
    assert rows["centre of the image"]["image_auroc"]["value"] == 0.5
    assert rows["centre of the image"]["pixel_auroc"]["value"] > 0.8  # the spots lie in the middle
    assert found[0].more["score"].startswith(("own", "one"))
    assert found[1].more["score"] in ("~0.5", "~1.5")


def test_neighbours_are_the_nearest_and_pixels_differ_from_them_by_what_they_do() -> None:
    from autoad_core.baselines import knn_maps

    rng = np.random.default_rng(0)
    train, images = (rng.uniform(size=(n, 2, 3, 4)).astype(np.float32) for n in (20, 3))
    for image, found in zip(images, knn_maps(train, images), strict=True):
        squares = ((train - image) ** 2).sum((1, 2, 3))
        nearest = train[np.argsort(squares)[:5]]
        np.testing.assert_allclose(found, ((nearest - image) ** 2).sum(1).mean(0), rtol=1e-5)


def test_a_hypothesis_of_images_sees_no_positions() -> None:
    """The image level gets what it always got."""
    spec = Spec("centroid", "l2", (layer(6, 3),)).resolve(REGISTRY)
    made = build(spec, SHAPE, REGISTRY, None)
    batch = made(pictures(2))
    assert isinstance(made.seen(batch), Batch)
    assert made.seen(batch).code.shape == (2, 6)
    assert made.layout == SHAPE
