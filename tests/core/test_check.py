"""What `examine` says about sets whose faults are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from autoad_core.check import Finding, examine
from autoad_core.data import ArrayDataset, Bools, Floats, Ints

CLASSES = ("good", "hole", "crack")


def dataset(
    good: int = 60, test_good: int = 30, kinds: tuple[int, ...] = (30, 30), **changes: Any
) -> ArrayDataset:
    """Noise with nothing odd about it: a training part, and a test part with two kinds of anomalies."""
    labels = np.repeat([0, 0, *range(1, 1 + len(kinds))], [good, test_good, *kinds])
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 1, 8, 8), dtype=np.uint8)
    mask = np.zeros((len(labels), 8, 8), bool)
    mask[labels > 0, :4, :4] = True
    parts = (np.arange(len(labels)) >= good).astype(np.int64)
    plain = ArrayDataset(images, labels, CLASSES[: 1 + len(kinds)], parts, mask)
    return replace(plain, **changes)


def classes(labels: np.ndarray, names: str, **changes: Any) -> ArrayDataset:
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 3, 4, 4), dtype=np.uint8)
    return replace(ArrayDataset(images, labels, tuple(names)), **changes)


def said(findings: tuple[Finding, ...], level: str) -> list[str]:
    return [finding.text for finding in findings if finding.level == level]


def odd(data: Any, **options: Any) -> str:
    """The one warning there is; none is an empty text."""
    warnings = said(examine(data, **options), "warning")
    assert len(warnings) <= 1, warnings
    return "".join(warnings)


def test_a_sound_set_is_described_and_nothing_is_odd() -> None:
    findings = examine(dataset())
    assert said(findings, "info") == [
        "150 images, 8x8 pixels, grey",
        "train part, 60 images: good (60)",
        "test part, 90 images: good (30), hole (30), crack (30)",
        "pixel values from 0.00 to 1.00, mean 0.50",
        "masks on 60 images, which cover 25.0% of the image in the median",
    ]
    assert not said(findings, "warning")


def test_sets_of_classes_are_described() -> None:
    few = examine(classes(np.arange(40) % 2, "ab"))
    assert said(few, "info")[:2] == ["40 images, 4x4 pixels, colour", "classes, 40 images: a (20), b (20)"]
    many = examine(classes(np.arange(75) % 25, "abcdefghijklmnopqrstuvwxy"))
    assert said(many, "info")[1] == "classes, 75 images: 25 classes, 3 to 3 in each"
    assert not said(few + many, "warning")


def test_no_images_at_all() -> None:
    empty = ArrayDataset(np.empty((0, 1, 4, 4), np.uint8), np.empty(0, np.int64), ("good",))
    assert "there are no images" in odd(empty)


def test_notes_of_the_data_set_are_passed_on() -> None:
    assert odd(dataset(notes=("skipped: x.png",))) == "skipped: x.png"


def test_few_images_no_anomalies_and_no_good_test_images() -> None:
    assert odd(dataset(good=19)) == "only 19 good images to train on; below 20 results mean little"
    assert odd(classes(np.zeros(19, np.int64), "a")).startswith("only 19 such images")
    assert "no anomalous images: models cannot be compared" in odd(dataset(kinds=(), test_good=0))
    assert "the test part has no good images" in odd(dataset(test_good=0))


def test_copies_are_found_within_and_across_parts_and_classes() -> None:
    images = dataset().images.copy()
    images[7] = images[3]
    assert odd(dataset(images=images)) == "1 images are exact copies of others, e.g. number 3 and number 7"
    images = dataset().images.copy()
    images[[60, 61]] = images[3]
    assert said(examine(dataset(images=images)), "warning") == [
        "2 images are exact copies of others, e.g. number 3 and number 60",
        "2 images of the test part are also in the training part; scores would be too good",
    ]
    images = dataset().images.copy()
    images[[70, 100, 130]] = images[70]  # good, hole and crack
    assert "2 images occur under more than one class; correct their labels" in said(
        examine(dataset(images=images)), "warning"
    )


def test_files_are_named_where_there_are_some() -> None:
    @dataclass(frozen=True)
    class WithFiles(ArrayDataset):
        files: tuple[str, ...] = ()

    images = dataset().images.copy()
    images[7] = images[3]
    plain = dataset(images=images)
    data = WithFiles(images, plain.labels, CLASSES, plain.parts, files=tuple(f"{i}.png" for i in range(150)))
    assert odd(data).endswith("e.g. 3.png and 7.png")


def test_values_that_no_image_should_have() -> None:
    floats = dataset().read(np.arange(150))
    for bad in (-0.1, 1.1, np.nan):
        images = floats.copy()
        images[5, 0, 0, 0] = bad
        assert "not all within 0 and 1" in odd(dataset(images=images))
    assert "the brightest pixel of all is 0.062" in odd(dataset(images=floats / np.float32(16)))
    images = floats.copy()
    images[2] = 0.5
    assert odd(dataset(images=images)) == "1 images are of one value all over, e.g. number 2"


def test_masks_that_contradict_the_labels() -> None:
    mask = np.zeros((150, 8, 8), bool)
    mask[90:, :4, :4] = True
    mask[100] = False
    assert (
        odd(dataset(mask=mask))
        == "1 anomalous images have an empty mask, so for pixel metrics they are normal"
    )
    mask[100] = True
    mask[:2, 0, 0] = True
    assert "2 good images have a mask that marks something" in odd(dataset(mask=mask))


def test_order_by_class_is_seen_but_not_in_folders() -> None:
    labels = np.arange(200) % 4
    assert not odd(classes(labels, "abcd"))
    assert not odd(classes(np.random.default_rng(0).permutation(labels), "abcd"))
    assert "images are stored class by class" in odd(classes(np.sort(labels), "abcd"))
    assert not odd(classes(np.zeros(200, np.int64), "a"))


def test_unequal_and_empty_classes() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1], [300, 30]))
    assert odd(classes(labels, "ab")) == "class a has 300 images, but class b only 30"
    assert not odd(classes((np.arange(299) % 10 == 0).astype(np.int64), "ab"))
    assert odd(classes(np.arange(40) % 2, "abc")) == "class a has 20 images, but class c only 0"


def test_brightness_that_tells_the_parts_or_the_anomalies() -> None:
    floats = dataset().read(np.arange(150)) * np.float32(0.8)
    images = floats.copy()
    images[60:] += np.float32(0.2)  # the whole test part
    assert odd(dataset(images=images)) == (
        "mean brightness alone tells good images of the two parts apart: test images are brighter (AUROC 1.00)"
    )
    images = floats.copy()
    images[120:] *= np.float32(0.5)  # cracks
    assert odd(dataset(images=images)) == (
        "mean brightness alone tells anomalies from good images: crack is darker (AUROC 1.00)"
    )
    assert "crack is darker" in odd(dataset(images=images, parts=None))
    plain = classes(np.arange(80) % 2, "ab", parts=np.repeat([0, 1], 40))
    lit = plain.read(np.arange(80)) * np.repeat([0.5, 1], 40)[:, None, None, None]
    assert "tells the two parts apart: test images are brighter" in odd(
        replace(plain, images=lit.astype(np.float32))
    )


def test_chance_is_not_taken_for_brightness() -> None:
    # 200 sets without any difference; each of three tests is three standard errors wide, 0.3 % to err.
    found = 0
    for seed in range(200):
        images = np.random.default_rng(seed).integers(0, 256, (150, 1, 8, 8), dtype=np.uint8)
        found += bool(said(examine(dataset(test_good=10, good=80, images=images)), "warning"))
    assert found <= 8  # expected 1.8 at most; more than 8 has a chance of 1e-4


@dataclass(frozen=True)
class Counted:
    """A set that notes what is read of it."""

    inner: ArrayDataset
    rows: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, indices: Ints) -> Floats:
        self.rows.extend(indices.tolist())
        return self.inner.read(indices)

    def masks(self, indices: Ints) -> Bools | None:
        return self.inner.masks(indices)


def test_large_sets_are_sampled_with_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoad_core.check._CHUNK", 1000)
    data = Counted(dataset(), [])
    findings = examine(data, budget=64 * 100, seed=1)
    assert len(data.rows) == len(set(data.rows)) == 100
    assert any(text.endswith("from a sample of 100 images") for text in said(findings, "info"))
    again = Counted(dataset(), [])
    assert examine(again, budget=64 * 100, seed=1) == findings
    assert again.rows == data.rows
    whole = Counted(dataset(), [])
    examine(whole)
    assert whole.rows == list(range(150))


@pytest.mark.data
def test_the_light_gives_the_screws_away(data_root: Any) -> None:
    from autoad_plugins._folder import make

    warnings = said(examine(make(data_root / "mvtec_ad" / "screw", None, 0)), "warning")
    assert len(warnings) == 2
    assert all("mean brightness alone tells" in text for text in warnings)
