"""A search for pixel maps as a user types it, its pictures, and what is refused."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoad_core.pictures import Look, coloured, panels, uncanvassed
from commandline import autoad, error_line

SEARCH = """
data:
  dataset: {name: folder, params: {path: plates, size: 48}}
space: {layers: 1, channels: [4, 8], kernel: [3]}
search: {trials: 4, random_trials: 2, promote: 1, keep: 1, lag: 2}
reward: {level: pixel, smoothing: 1.5}
train: {epochs: 4, batch_size: 8, patch: 24}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``plates``, 48x72, with spots and masks of twice the size; ``run``, a search among them."""
    folder = tmp_path_factory.mktemp("pixels")
    rng = np.random.default_rng(0)
    for part, kind, count in (("train", "good", 60), ("test", "good", 50), ("test", "spot", 20)):
        (folder / "plates" / part / kind).mkdir(parents=True)
        for i in range(count):
            plate = 90 + 30 * np.sin(np.arange(72) / 5) + rng.normal(0, 6, (48, 72))
            if kind == "spot":
                y, x = rng.integers(4, 36), rng.integers(4, 60)
                plate[y : y + 7, x : x + 7] += 70
                mask = np.zeros((96, 144), np.uint8)
                mask[2 * y : 2 * y + 14, 2 * x : 2 * x + 14] = 255
                file = folder / "plates" / "ground_truth" / "spot" / f"{i:03}_mask.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(file)
            pixels = plate.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "plates" / part / kind / f"{i:03}.png")
    (folder / "search.yaml").write_text(SEARCH)
    autoad("search", "search.yaml", "--run", "run", cwd=folder, check=0)
    return folder


@pytest.mark.slow
def test_a_search_for_maps_finds_the_spots(place: Path) -> None:
    result = json.loads((place / "run" / "result.json").read_text())
    assert result["metric"] == "au_pro"
    best = result["models"][0]["test"]["metrics"]
    assert best["pixel_auroc"]["value"] > 0.95
    assert best["au_pro"]["value"] > 0.8
    assert {"PCA", "centre of the image", "mean pixel"} <= {row["name"] for row in result["baselines"]}
    shown = autoad("show", "run", cwd=place, check=0).stdout
    assert shown.startswith("AU-PRO, with 95 % bootstrap intervals")
    assert re.search(r"trial \d, test: pixel AUROC (0\.9|1\.0)", shown)


@pytest.mark.slow
def test_verdicts_and_pictures_of_new_images(place: Path) -> None:
    paths = ["plates/test/spot", "plates/test/good/00[0-4].png"]
    done = autoad("predict", "run", *paths, "--heatmaps", "maps", "--false-alarms", "0.1", cwd=place, check=0)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    spots = [row for row in rows if "spot" in row["path"]]
    assert len(rows) == 25
    assert sum(row["verdict"] == "anomalous" for row in spots) > 15
    assert all(float(row["p_value"]) <= 0.1 for row in rows if row["verdict"] == "anomalous")
    assert "can promise nothing about the pixels" in done.stderr
    names = sorted(file.name for file in (place / "maps").iterdir())
    assert len(names) == 25
    assert names[0] == "good_000.png"
    with Image.open(place / "maps" / "spot_000.png") as picture:
        assert picture.size == (3 * 72 + 2 * 8, 48)  # image, map and mask
    with Image.open(place / "maps" / "good_000.png") as picture:
        assert picture.size == (2 * 72 + 8, 48)
    few = autoad("predict", "run", *paths, "--false-alarms", "0.01", cwd=place, check=0)
    assert "25 normal validation images can promise no rate of false alarms below 0.038" in few.stderr
    assert {row["verdict"] for row in csv.DictReader(io.StringIO(few.stdout))} == {""}


@pytest.mark.slow
def test_evaluate_measures_maps_on_the_masks(place: Path) -> None:
    done = autoad("evaluate", "run", "--dataset", "plates", "--json", cwd=place, check=0)
    found = json.loads(done.stdout)
    assert found["images"] == {"normal": 110, "anomalous": 20}
    assert found["metrics"]["pixel_auroc"]["value"] > 0.95
    assert {"auroc", "au_pro", "rpro", "pixel_aupr"} <= found["metrics"].keys()


@pytest.mark.slow
def test_refinements_of_a_search_stay_with_its_models(place: Path) -> None:
    """Maps, p-values and figures of a model come after its refinements, unless others are asked for."""
    few = SEARCH.replace("trials: 4", "trials: 2") + "refine: [{name: dense-crf, params: {edge_reach: 5}}]\n"
    (place / "refine.yaml").write_text(few)
    autoad("search", "refine.yaml", "--run", "refined", cwd=place, check=0)
    result = json.loads((place / "refined" / "result.json").read_text())
    best, (refined,) = result["models"][0], result["refined"]
    assert refined["name"] == f"{best['name']}, refined by dense-crf"
    assert refined["test"] != best["test"]
    assert f"{refined['name']}, test: pixel AUROC" in autoad("show", "refined", cwd=place, check=0).stdout

    def scores(*options: str) -> tuple[list[dict[str, str]], str]:
        paths = ["plates/test/spot", "plates/test/good/00[0-4].png"]
        done = autoad("predict", "refined", *paths, *options, cwd=place, check=0)
        return list(csv.DictReader(io.StringIO(done.stdout))), done.stderr

    own, raw = scores(), scores("--refine", "none")
    assert [row["score"] for row in own[0]] != [row["score"] for row in raw[0]]
    assert all(row["verdict"] for row in own[0] + raw[0])
    assert sum(row["verdict"] == "anomalous" for row in own[0][:20]) > 10
    other, note = scores("--refine", "dense-crf")  # of other parameters
    assert "no scores of normal images after these refinements" in note
    assert all(row["score"] and not row["verdict"] for row in other)
    told = autoad("evaluate", "refined", "--dataset", "plates", "--json", cwd=place, check=0)
    assert json.loads(told.stdout)["metrics"]["au_pro"]["value"] > 0.8


@pytest.mark.slow
def test_refinements_that_cannot_be_are_refused_at_once(place: Path) -> None:
    for wrong, what in (
        ("refine: [dense-crd]", "refine: no refinement is called 'dense-crd'; did you mean dense-crf?"),
        ("refine: [{name: dense-crf, params: {reach: -1}}]", "reach must be positive"),
        ("reward: {level: image}\nrefine: [dense-crf]", "refine: needs reward.level 'pixel'"),
    ):
        kept = SEARCH if "level: image" not in wrong else SEARCH.replace("reward", "#")
        (place / "wrong.yaml").write_text(kept + wrong)
        refused = autoad("search", "wrong.yaml", "--run", "wrong", cwd=place, check=2)
        assert what in error_line(refused)
        assert not (place / "wrong").exists()
    refused = autoad("predict", "run", "plates/test/spot", "--refine", "no", cwd=place, check=2)
    assert "--refine: no refinement is called 'no'" in error_line(refused)


@pytest.mark.slow
def test_pixels_need_masks_and_maps_need_pixels(place: Path, tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(SEARCH.replace("plates", str(place / "plates" / "test")))
    refused = autoad("search", "search.yaml", "--run", "run", cwd=tmp_path, check=1)
    assert "no anomaly for validation has a mask, and scoring pixels (reward.level)" in error_line(refused)
    assert not (tmp_path / "run").exists()
    wrong = (
        (place / "search.yaml").read_text().replace("level: pixel", "level: image, scores: {a: [l2@place]}")
    )
    (tmp_path / "search.yaml").write_text(wrong)
    refused = autoad("search", tmp_path / "search.yaml", "--run", "other", cwd=place, check=2)
    assert "reward.scores.a: 'l2@place' needs reward.level 'pixel'" in error_line(refused)


# Bad input


def tile(rng: np.random.Generator, spot: int | None = None) -> tuple[Image.Image, Image.Image]:
    """64x96, with or without a bright spot, and its mask."""
    pixels = 120 + 20 * np.sin(np.arange(96) / 6)[None, :, None] + rng.normal(0, 6, (64, 96, 3))
    mask = np.zeros((64, 96), np.uint8)
    if spot is not None:
        pixels[10 + 2 * spot : 19 + 2 * spot, 12 + 5 * spot : 21 + 5 * spot] += 90
        mask[10 + 2 * spot : 19 + 2 * spot, 12 + 5 * spot : 21 + 5 * spot] = 255
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), Image.fromarray(mask)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``tiles`` in which much is odd, and ``search.yaml``."""
    folder = tmp_path_factory.mktemp("odd")
    rng = np.random.default_rng(0)
    good, also_good, spots, masks = (
        folder / "tiles" / name for name in ("train/good", "test/good ", "test/Spot", "ground_truth/Spot")
    )
    for place in (good, also_good, spots, masks):
        place.mkdir(parents=True)
    for i in range(20):
        tile(rng)[0].save(good / f"{i:02}.png")
    with_alpha = tile(rng)[0]
    with_alpha.putalpha(90)
    with_alpha.save(good / "alpha.png")
    Image.new("RGB", (10_000, 10_000), (120, 120, 120)).save(good / "huge.png", compress_level=1)
    (good / "broken.png").write_bytes(b"nothing")
    for i in range(8):
        tile(rng)[0].save(also_good / f"{i:02}.png")
    for i in range(12):
        image, mask = tile(rng, i)
        image.save(spots / f"{i:02}.png")
        match i:
            case 0:
                mask.resize((192, 128)).save(masks / "00_mask.png")  # of another size
            case 1:
                pass  # none
            case 2:
                mask.point(lambda v: int(0.6 * v)).save(masks / "02_mask.png")  # grey
            case 3:
                mask.convert("RGB").save(masks / "03_mask.jpg", quality=80)
            case 4:
                one = Image.new("L", mask.size)
                one.putpixel((35, 20), 255)
                one.save(masks / "04_mask.png")
            case 5:
                mask.resize((50, 90)).save(masks / "05_mask.png")  # of other proportions
            case 6:
                (masks / "06_mask.png").write_bytes(b"nothing")
            case _:
                mask.save(masks / f"{i:02}_mask.png")
    mask.save(masks / "99_mask.png")  # of no image
    (folder / "search.yaml").write_text(
        "data: {dataset: {name: folder, params: {path: tiles, size: 64}}}\n"
        "space: {layers: 1, channels: [8], kernel: [3]}\n"
        "search: {trials: 1, random_trials: 0, keep: 1}\n"
        "reward: {level: pixel}\n"
        "train: {epochs: 1, batch_size: 8, patch: 32}\n"
    )
    return folder


@pytest.mark.slow
def test_what_is_odd_about_a_folder_is_one_line_each_and_nothing_is_lost(odd: Path) -> None:
    checked = autoad("check", "tiles", cwd=odd, check=0).stdout
    assert "train part, 22 images: good (22)\n" in checked
    assert "test part, 20 images: good (8), Spot (12)\n" in checked
    assert "masks on 9 images" in checked
    done = autoad("search", "search.yaml", "--run", "run", cwd=odd, check=0)
    for line in (
        "tiles/test/good : taken for 'good'",
        "left out: masks without an image: 1, such as tiles/ground_truth/Spot/99_mask.png",
        "tiles/train/good/broken.png: cannot be read as an image (not in a known format)",
        "images of 2 sizes, all brought to one: 41 of 96x64, 1 of 10000x10000",
        "3 masks are missing or cannot be used: tiles/test/Spot/01.png has none; "
        "tiles/ground_truth/Spot/05_mask.png: a mask of 50x90 pixels on an image of 96x64; "
        "tiles/ground_truth/Spot/06_mask.png: cannot be read as an image",
        "3 anomalous images without a mask are left out, since pixels are scored",
    ):
        assert line in checked or "are left out" in line
        assert line in done.stdout
    result = json.loads((odd / "run" / "result.json").read_text())
    images = result["images"]
    assert images["train"]["normal"] == 22
    assert images["validation"]["anomalous"] + images["test"]["anomalous"] == 9
    paths = ["tiles/train/good", "tiles/test/Spot"]
    scored = autoad("predict", "run", *paths, "--heatmaps", "maps", cwd=odd, check=0)
    rows = list(csv.DictReader(io.StringIO(scored.stdout)))
    assert len(rows) == 23 + 12
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["broken.png"]
    with Image.open(odd / "maps" / "Spot_03.png") as picture:
        assert picture.size == (3 * 96 + 2 * 8, 64)  # with its JPEG mask
    with Image.open(odd / "maps" / "good_huge.png") as picture:
        assert picture.size == (2 * 1024 + 8, 1024)


@pytest.mark.slow
def test_a_folder_without_ground_truth_says_what_is_missing(odd: Path) -> None:
    (odd / "tiles" / "ground_truth").rename(odd / "aside")
    refused = autoad("search", "search.yaml", "--run", "none", cwd=odd, check=1)
    (odd / "aside").rename(odd / "tiles" / "ground_truth")
    assert "has a mask, and scoring pixels (reward.level) needs some" in error_line(refused)
    assert "ground_truth/TYPE" in error_line(refused)
    assert not (odd / "none").exists()


# Pictures


def test_the_contour_runs_around_what_lies_above_the_threshold() -> None:
    image = np.full((1, 40, 60), 0.5, np.float32)
    scores = np.zeros((40, 60), np.float32)
    scores[10:20, 30:45] = 4
    mask = np.zeros((80, 120), bool)
    mask[20:40, 60:90] = True
    drawn = panels(image, scores, Look(dark=0.0, contour=2.0), mask)
    assert drawn.shape == (40, 3 * 60 + 16, 3)
    left, heated, right = drawn[:, :60], drawn[:, 68:128], drawn[:, 136:]
    assert (left == 128).all()
    contour = (heated == (0, 255, 255)).all(2)
    expected = np.zeros((40, 60), bool)
    expected[9:21, 30:45] = expected[10:20, 29:46] = True  # no diagonal neighbours
    expected[10:20, 30:45] = False
    assert np.array_equal(contour, expected)
    assert (heated[0, 0] == 128).all()  # what is usual stays as it is
    assert heated[15, 35].tolist() == np.round(0.3 * 128 + 0.7 * np.array([252, 255, 164])).tolist()
    assert right[:, :, 0].max() == 255
    assert (right[11:19, 31:44] > 250).all()


def test_colours_go_from_dark_to_bright() -> None:
    level = np.linspace(0, 1, 50, dtype=np.float32)[None]
    light = coloured(level)[0] @ (0.299, 0.587, 0.114)
    assert (np.diff(light) > 0).all()
    assert coloured(np.array([[0.0, 1.0]], np.float32)).tolist() == [[[0, 0, 4], [252, 255, 164]]]


def test_large_images_are_drawn_smaller_and_small_maps_larger() -> None:
    drawn = panels(np.zeros((3, 300, 2000), np.float32), np.ones((30, 200), np.float32), Look(0.0, 2.0))
    assert drawn.shape == (154, 2 * 1024 + 8, 3)


def test_the_part_of_a_map_that_an_image_fills() -> None:
    scores = np.arange(24, dtype=np.float32).reshape(4, 6)
    assert np.array_equal(uncanvassed(scores, (40, 60)), scores)
    assert np.array_equal(uncanvassed(scores, (100, 100)), scores[:, :4])
    assert np.array_equal(uncanvassed(scores, (10, 60)), scores[:1])
