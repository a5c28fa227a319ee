"""Protocols: who lands where, in which proportions, and that nothing of the test is ever seen before.

The images of the fake data sets carry their own number in their first pixel, so that each can be told everywhere.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoad_core import Component, Kind
from autoad_core import split as split_module
from autoad_core.config import Data, Ref
from autoad_core.data import ArrayDataset, Dataset, Floats
from autoad_core.errors import BrokenComponent, ConfigError, DataError, UnknownName
from autoad_core.registry import Entry, Origin, Registry
from autoad_core.split import (
    Part,
    Split,
    check_apart,
    image_hashes,
    make_split,
    open_dataset,
    search_sample,
    with_masks,
)

busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be
STEP = 2.0**-16


def numbered(first: int, count: int, shape: tuple[int, int, int] = (1, 4, 4)) -> Floats:
    images = np.full((count, *shape), 0.5, np.float32)
    images[:, 0, 0, 0] = (first + np.arange(count)) * np.float32(STEP)
    return images


def numbers(part: Part, group: int | None = None) -> list[int]:
    """The numbers of a part's images, or of one of its groups."""
    rows = slice(None) if group is None else part.groups == group
    return [round(float(v) / STEP) for v in part.images[rows, 0, 0, 0]]


def array(
    root: Path | None,
    shape: tuple[int, int, int] | None,
    seed: int,
    *,
    first: int = 0,
    sizes: dict[str, list[int]] | None = None,
    own_shape: tuple[int, int, int] = (1, 4, 4),
    published: bool = False,
    masked: bool = False,
    copies: dict[int, int] | None = None,
    notes: tuple[str, ...] = (),
) -> ArrayDataset:
    """Numbered images. ``sizes``: by class, how many in each published part; ``copies``: number by place to repeat."""
    sizes = sizes or {"any": [100]}
    labels = [i for i, counts in enumerate(sizes.values()) for _ in range(sum(counts))]
    parts = [p for counts in sizes.values() for p, count in enumerate(counts) for _ in range(count)]
    images = numbered(first, len(labels), own_shape)
    for place, source in (copies or {}).items():
        images[place] = images[source]
    mask = np.zeros((len(labels), *own_shape[1:]), bool)
    mask[:, 0, 0] = np.array(labels) > 0
    return ArrayDataset(
        images,
        np.array(labels, dtype=np.int64),
        tuple(sizes),
        np.array(parts, dtype=np.int64) if published else None,
        mask if masked else None,
        notes,
    )


def no_dataset(root: Path | None, shape: tuple[int, int, int] | None, seed: int) -> list[int]:
    return [1, 2]


def fake_registry() -> Registry:
    registry, origin = Registry(), Origin("test", "test", "1")
    for name in ("normals", "stains", "cracks", "other"):
        component = Component(name=name, target=f"{__name__}:array", summary="Numbered images")
        registry.add(Entry(Kind.DATASET, component, origin))
    wrong = Component(name="wrong", target=f"{__name__}:no_dataset", summary="A list")
    gone = Component(name="gone", target="no_such_module:x", summary="Missing")
    registry.add(Entry(Kind.DATASET, wrong, origin))
    registry.add(Entry(Kind.DATASET, gone, origin))
    return registry


REGISTRY = fake_registry()


def ref(name: str = "normals", **params: Any) -> Ref:
    return Ref(name=name, params=params)


def split(seed: int = 0, **data: Any) -> Split:
    return make_split(Data(**{"dataset": ref(), **data}), REGISTRY, seed)


def ood(normal: int = 1000, sizes: tuple[int, ...] = (500, 500), seed: int = 0, **data: Any) -> Split:
    """Normals 0.., stains 10000.., cracks 20000.."""
    anomalies = [
        ref(name, first=first, sizes={"any": [n]})
        for name, first, n in zip(("stains", "cracks"), (10_000, 20_000), sizes, strict=False)
    ]
    chosen = {"dataset": ref(sizes={"any": [normal]}), "anomalies": anomalies, **data}
    return split(seed, **chosen)


def count(part: Part, group: int) -> int:
    return int((part.groups == group).sum())


# Protocol ood


def test_ood_splits_the_normal_set_6_2_2() -> None:
    made = ood()
    assert [count(p, 0) for p in (made.train, made.validation, made.test)] == [600, 200, 200]
    everyone = numbers(made.train) + numbers(made.validation, 0) + numbers(made.test, 0)
    assert sorted(everyone) == list(range(1000))
    assert (made.train.groups == 0).all()
    assert made.groups == ("stains", "cracks")
    assert made.shape == (1, 4, 4)
    assert made.notes == ()


def test_ood_contaminates_validation_and_test_by_five_percent_of_each_set() -> None:
    made = ood()
    for part in (made.validation, made.test):
        for group, first in ((1, 10_000), (2, 20_000)):
            found = numbers(part, group)
            assert all(first <= n < first + 500 for n in found)
            assert len(found) / (len(found) + 200) == pytest.approx(0.05, abs=0.003)
            assert len(found) == 11  # 200 * 0.05 / 0.95 = 10.5


@busy
@given(
    st.integers(8, 300), st.integers(2, 60), st.integers(2, 60), st.floats(0.01, 0.6), st.integers(0, 1000)
)
def test_ood_holds_for_any_sizes(
    normal: int, stains: int, cracks: int, contamination: float, seed: int
) -> None:
    made = ood(normal, (stains, cracks), seed, contamination=contamination)
    sizes = [count(p, 0) for p in (made.train, made.validation, made.test)]
    assert sum(sizes) == normal
    assert np.allclose(sizes, [0.6 * normal, 0.2 * normal, 0.2 * normal], atol=1.01)
    for group, available in ((1, stains), (2, cracks)):
        shown, hidden = numbers(made.validation, group), numbers(made.test, group)
        assert not set(shown) & set(hidden)
        for found, part, most in (
            (shown, made.validation, available // 2),
            (hidden, made.test, available - available // 2),
        ):
            wanted = count(part, 0) * contamination / (1 - contamination)
            assert abs(len(found) - max(1, min(wanted, most))) < 0.5 + 1e-9
    every = numbers(made.train) + numbers(made.validation) + numbers(made.test)
    assert len(set(every)) == len(every)
    assert made.notes == ()


def test_ood_draws_a_random_sample_of_a_set_sorted_by_class() -> None:
    made = ood(sizes=(500, 500), train_images=100)
    assert len(made.train) == 100
    for found, whole in (
        (numbers(made.train), range(1000)),
        (numbers(made.validation, 1), range(10_000, 10_500)),
        (numbers(made.test, 1), range(10_000, 10_500)),
    ):
        assert found != sorted(found)
        assert max(found) - min(found) > 0.6 * len(whole)


def test_fewer_training_images_change_nothing_else() -> None:
    few, all_ = ood(train_images=50), ood()
    assert numbers(few.train) == numbers(all_.train)[:50]
    assert numbers(few.validation) == numbers(all_.validation)
    assert numbers(few.test) == numbers(all_.test)


def test_a_held_out_anomaly_set_is_only_in_the_test() -> None:
    made = ood(held_out=["cracks"])
    assert count(made.validation, 2) == 0
    assert count(made.test, 2) == count(made.validation, 1) == 11
    assert made.groups == ("stains", "cracks")


def test_a_set_that_is_named_twice_makes_two_groups() -> None:
    """Two folders of anomalies, say: the same plugin with other parameters."""
    twice = [
        ref("stains", first=10_000),
        ref("other"),
        ref("stains", first=20_000),
        ref("stains", first=30_000),
    ]
    made = split(anomalies=twice, dataset=ref(first=50_000), held_out=["stains-3"])
    assert made.groups == ("stains", "other", "stains-2", "stains-3")
    for group, first in ((1, 10_000), (3, 20_000), (4, 30_000)):
        assert {n // 10_000 for n in numbers(made.test, group)} == {first // 10_000}
    assert (count(made.validation, 3), count(made.validation, 4)) == (1, 0)


def test_ood_needs_anomalies() -> None:
    with pytest.raises(ConfigError, match=r"data.anomalies: protocol 'ood' needs at least one data set"):
        split(protocol="ood")
    with pytest.raises(
        DataError, match="dataset 'normals': 0 anomalous images for validation, at least 1 needed"
    ):
        ood(sizes=(1,))
    with pytest.raises(DataError, match="0 anomalous images for validation"):
        ood(held_out=["stains", "cracks"])
    with pytest.raises(ConfigError, match=r"data.held_out: no 'scratches' there; known: stains, cracks"):
        ood(held_out=["scratches"])


# Protocol one-class

CLASSES = {"a": [100], "b": [40], "c": [30]}
PUBLISHED = {"a": [100, 20], "b": [40, 10], "c": [30, 6]}


def test_one_class_without_published_parts() -> None:
    made = split(dataset=ref(sizes=CLASSES))
    assert made.groups == ("anomalous",)
    assert [count(p, 0) for p in (made.train, made.validation, made.test)] == [60, 20, 20]
    assert sorted(numbers(made.train) + numbers(made.validation, 0) + numbers(made.test, 0)) == list(
        range(100)
    )
    assert sorted(numbers(made.validation, 1) + numbers(made.test, 1)) == list(range(100, 170))
    assert count(made.validation, 1) == count(made.test, 1) == 35
    assert made.notes == ()  # nothing had to be left out


def test_one_class_keeps_published_parts() -> None:
    made = split(dataset=ref(sizes=PUBLISHED, published=True), protocol="one-class", normal=["b", "c"])
    # Numbers: a 0-99 and 100-119, b 120-159 and 160-169, c 170-199 and 200-205.
    assert sorted(numbers(made.train) + numbers(made.validation, 0)) == [*range(120, 160), *range(170, 200)]
    assert sorted(numbers(made.test, 0)) == [*range(160, 170), *range(200, 206)]
    assert sorted(numbers(made.validation, 1)) == list(range(100))
    assert sorted(numbers(made.test, 1)) == list(range(100, 120))
    assert (len(made.train), count(made.validation, 0)) == (52, 18)  # 3 : 1 of 70
    assert made.notes == ()


@pytest.mark.parametrize("published", [False, True])
def test_one_class_holds_classes_out_for_the_test(published: bool) -> None:
    sizes = PUBLISHED if published else CLASSES
    made = split(dataset=ref(sizes=sizes, published=published), held_out=["c"])
    first = 170 if published else 140
    assert all(n < first for n in numbers(made.validation, 1))
    assert any(n >= first for n in numbers(made.test, 1))


def test_one_class_reads_at_most_so_many_anomalies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert split_module.MOST_ANOMALIES == 10_000
    monkeypatch.setattr(split_module, "MOST_ANOMALIES", 7)
    made = split(dataset=ref(sizes=CLASSES))
    assert count(made.validation, 1) == count(made.test, 1) == 7


@pytest.mark.parametrize("key", ["normal", "held_out"])
def test_a_class_that_is_not_there_is_named_with_those_that_are(key: str) -> None:
    with pytest.raises(ConfigError, match=f"data.{key}: no 'd' there; known: a, b, c"):
        split(dataset=ref(sizes=CLASSES), **{key: ["a", "d"]})


def test_one_class_of_a_set_with_one_class_has_no_anomalies() -> None:
    with pytest.raises(DataError, match="0 anomalous images for validation"):
        split(dataset=ref(sizes={"a": [50]}))


# Protocol folder

MVTEC = {"good": [60, 21], "hole": [0, 10], "scratch": [0, 7], "dent": [0, 1]}


def test_a_published_test_part_is_split_in_stratified_halves() -> None:
    made = split(dataset=ref(sizes=MVTEC, published=True))
    assert made.groups == ("hole", "scratch", "dent")
    assert sorted(numbers(made.train)) == list(range(60))
    assert [count(made.validation, g) for g in range(4)] == [11, 5, 4, 1]
    assert [count(made.test, g) for g in range(4)] == [10, 5, 3, 0]
    for group, first, n in ((0, 60, 21), (1, 81, 10), (2, 91, 7), (3, 98, 1)):
        assert made.notes == ()
        both = numbers(made.validation, group) + numbers(made.test, group)
        assert sorted(both) == list(range(first, first + n))


def test_folders_beside_good_are_types_of_anomaly() -> None:
    made = split(dataset=ref(sizes={"good": [50], "bad": [9]}))
    assert made.groups == ("bad",)
    assert [count(p, 0) for p in (made.train, made.validation, made.test)] == [30, 10, 10]
    assert (count(made.validation, 1), count(made.test, 1)) == (5, 4)


def test_a_published_test_part_without_good_images_takes_them_from_training() -> None:
    made = split(dataset=ref(sizes={"good": [50, 0], "hole": [0, 8]}, published=True))
    assert [count(p, 0) for p in (made.train, made.validation, made.test)] == [30, 10, 10]


def test_a_held_out_type_is_only_in_the_test() -> None:
    made = split(dataset=ref(sizes=MVTEC, published=True), held_out=["hole"])
    assert [count(made.validation, g) for g in range(4)] == [11, 0, 4, 1]
    assert count(made.test, 1) == 10
    with pytest.raises(ConfigError, match=r"data.held_out: no 'good' there; known: hole, scratch, dent"):
        split(dataset=ref(sizes=MVTEC, published=True), held_out=["good"])


def test_folder_needs_a_class_good() -> None:
    with pytest.raises(
        DataError, match="dataset 'normals': protocol 'folder' needs a class 'good'; found: a, b, c"
    ):
        split(dataset=ref(sizes=CLASSES), protocol="folder")


def test_a_folder_of_good_images_alone_has_nothing_to_validate_with() -> None:
    with pytest.raises(DataError, match="0 anomalous images for validation, at least 1 needed; add images"):
        split(dataset=ref(sizes={"good": [50]}))
    with pytest.raises(DataError, match="0 anomalous images for test"):
        split(dataset=ref(sizes={"good": [50], "bad": [1]}))


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"good": [1], "bad": [4]}, "1 normal images to train on, at least 2 needed"),
        ({"good": [0], "bad": [4]}, "0 normal images to train on"),
        ({"good": [3], "bad": [4]}, "0 normal images for validation"),
        ({"good": [1]}, "1 normal images to train on"),
    ],
)
def test_too_few_images_are_counted_in_the_message(sizes: dict[str, list[int]], match: str) -> None:
    with pytest.raises(DataError, match=match):
        split(dataset=ref(sizes=sizes), protocol="folder")


# Which protocol


@pytest.mark.parametrize(
    ("data", "groups"),
    [
        ({"dataset": ref(sizes=CLASSES)}, ("anomalous",)),
        ({"dataset": ref(sizes={"good": [20], "bad": [5]})}, ("bad",)),
        ({"dataset": ref(sizes={"good": [20], "bad": [5]}), "anomalies": [ref("stains")]}, ("stains",)),
        ({"dataset": ref(sizes={"good": [20], "bad": [5]}), "protocol": "one-class"}, ("anomalous",)),
    ],
)
def test_the_protocol_follows_from_the_data(data: dict[str, Any], groups: tuple[str, ...]) -> None:
    assert split(**data).groups == groups


@pytest.mark.parametrize("protocol", ["one-class", "folder"])
def test_anomaly_sets_belong_to_ood(protocol: str) -> None:
    with pytest.raises(ConfigError, match=f"data.anomalies: belongs to protocol 'ood', not to '{protocol}'"):
        split(protocol=protocol, anomalies=[ref("stains")])


@pytest.mark.parametrize(
    ("protocol", "data"),
    [
        ("folder", {"dataset": ref(sizes={"good": [20], "bad": [5]})}),
        ("ood", {"anomalies": [ref("stains", first=1000)]}),
    ],
)
def test_normal_classes_belong_to_one_class(protocol: str, data: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=f"data.normal: belongs to protocol 'one-class', not to '{protocol}'"
    ):
        split(protocol=protocol, normal=["good"], **data)


# Seeds

CASES: list[dict[str, Any]] = [
    {"anomalies": [ref("stains", first=1000)]},
    {"dataset": ref(sizes=CLASSES)},
    {"dataset": ref(sizes=PUBLISHED, published=True)},
    {"dataset": ref(sizes=MVTEC, published=True)},
    {"dataset": ref(sizes={"good": [50], "bad": [10]})},
]


@pytest.mark.parametrize("data", CASES)
def test_the_same_seed_gives_the_same_split_and_another_seed_another(data: dict[str, Any]) -> None:
    one, same, other = split(3, **data), split(3, **data), split(4, **data)
    assert one.digests() == same.digests()
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(one, part).images, getattr(same, part).images)
        assert one.digests()[part] != other.digests()[part]


def test_the_data_set_gets_the_root_the_wanted_shape_and_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, real = [], array

    def spy(root: Path | None, shape: Any, seed: int, **params: Any) -> ArrayDataset:
        seen.append((root, shape, seed))
        return real(root, shape, seed, **params)

    monkeypatch.setitem(globals(), "array", spy)
    split(7, root=Path("/data"), anomalies=[ref("stains", first=1000)])
    assert seen == [(Path("/data"), None, 7), (Path("/data"), (1, 4, 4), 7)]


# Duplicates


def test_pixels_equal_to_a_test_image_are_dropped_before_it() -> None:
    """Every image has a copy: of each pair that was torn apart, the one in the later part stays."""
    made = split(
        dataset=ref(
            sizes={"good": [50], "bad": [20]}, copies={**{i: i - 25 for i in range(25, 50)}, 60: 50, 61: 51}
        )
    )
    train, validation, test = (set(numbers(p)) for p in (made.train, made.validation, made.test))
    assert not train & validation
    assert not (train | validation) & test
    kept = len(made.train) + len(made.validation) + len(made.test)
    assert kept < 70
    assert made.notes == (
        f"{70 - kept} training or validation images were left out: their pixels equal a later part's",
    )
    assert len(made.test) == 20  # the test keeps its own


def test_copies_within_a_part_stay() -> None:
    made = split(dataset=ref(sizes=MVTEC, published=True, copies={1: 0, 2: 0}))
    assert len(made.train) == 60
    assert made.notes == ()


def test_a_set_that_is_its_own_copy_in_the_test_cannot_serve() -> None:
    sizes = {"good": [8, 8], "bad": [0, 4]}
    copies = {i: 8 + i for i in range(8)}  # every training image is a published test image
    with pytest.raises(DataError, match="0 normal images to train on"):
        split(dataset=ref(sizes=sizes, published=True, copies=copies))


# The guard


def test_the_guard_raises_when_a_test_image_is_put_into_training() -> None:
    made = ood(normal=50, sizes=(10, 10))
    hashes = image_hashes(made.test.images)
    check_apart(hashes, made.train, made.validation)
    for group in (0, 1):
        row = made.test.images[made.test.groups == group][:1]
        leaked = Part(np.concatenate([made.train.images, row]), np.zeros(len(made.train) + 1, np.int64))
        for parts in ((leaked,), (made.train, leaked), (leaked, made.validation)):
            with pytest.raises(DataError, match="a test image reached the search"):
                check_apart(hashes, *parts)


def test_hashes_tell_pixels_apart_and_nothing_else() -> None:
    images = numbered(0, 5)
    assert len(set(image_hashes(images))) == 5
    assert image_hashes(images[::-1])[::-1] == image_hashes(images)
    assert image_hashes(np.asfortranarray(images)) == image_hashes(images)
    images[0, 0, 3, 3] = np.nextafter(images[0, 0, 3, 3], np.float32(1))
    assert image_hashes(images)[0] != image_hashes(numbered(0, 1))[0]


def test_digests_see_pixels_labels_and_order_of_their_part_alone() -> None:
    made = ood(normal=50, sizes=(10, 10))
    before = made.digests()
    made.validation.images[0, 0, 2, 2] = 0.25
    assert {k for k, v in made.digests().items() if v != before[k]} == {"validation"}
    made.validation.images[0, 0, 2, 2] = 0.5
    assert made.digests() == before
    made.test.groups[-1] = 1
    assert {k for k, v in made.digests().items() if v != before[k]} == {"test"}
    made.train.images[:] = made.train.images[::-1].copy()
    assert {k for k, v in made.digests().items() if v != before[k]} == {"train", "test"}


# Shapes and masks


def test_anomaly_sets_are_brought_to_the_shape_of_the_normal_set() -> None:
    colour = ref("stains", own_shape=(3, 9, 7), sizes={"any": [40]})
    made = split(anomalies=[colour], contamination=0.3)
    assert made.validation.images.shape[1:] == made.test.images.shape[1:] == (1, 4, 4)
    made = split(dataset=ref(own_shape=(3, 6, 6)), anomalies=[ref("stains", own_shape=(1, 8, 8))])
    anomalies = made.test.images[made.test.groups == 1]
    assert anomalies.shape[1:] == (3, 6, 6)
    assert np.array_equal(anomalies[:, 0], anomalies[:, 2])  # grey is repeated
    assert anomalies.dtype == np.float32


def test_masks_follow_their_images() -> None:
    made = split(dataset=ref(sizes=MVTEC, published=True, masked=True))
    assert made.train.masks is None  # there is nothing to mark
    for part in (made.validation, made.test):
        assert part.masks is not None
        assert len(part.masks) == len(part)
        assert [mask is not None and mask.shape for mask in part.masks] == [(4, 4)] * len(part)
        assert [mask is not None and mask[0, 0] for mask in part.masks] == (part.groups > 0).tolist()
        assert not any(mask is not None and mask[1:].any() for mask in part.masks)
    taken = made.test.take(made.test.groups == 1)
    assert taken.masks is not None
    assert len(taken) == len(taken.masks) == 5


def test_normal_images_have_empty_masks_where_anomalies_have_some() -> None:
    made = split(anomalies=[ref("stains", first=1000, masked=True, sizes={"ok": [0], "any": [50]})])
    assert made.validation.masks is not None
    marked = [mask is not None and mask.any() for mask in made.validation.masks]
    assert marked == (made.validation.groups > 0).tolist()


def test_masks_keep_their_size_where_images_are_resized() -> None:
    sizes = {"ok": [0], "any": [50]}
    made = split(anomalies=[ref("stains", first=1000, masked=True, own_shape=(1, 5, 5), sizes=sizes)])
    for part in (made.validation, made.test):
        assert part.masks is not None
        marked = [mask for mask, group in zip(part.masks, part.groups, strict=True) if group]
        assert {mask is not None and mask.shape for mask in marked} == {(5, 5)}
        truths = part.truths()
        assert {truth.overlap.shape for truth in truths} == {(4, 4)}
        assert [truth.regions > 0 for truth in truths] == (part.groups > 0).tolist()
        assert sum(t.defects.sum() for t in truths) == sum(m.sum() for m in marked if m is not None)


def test_anomalies_without_a_mask_are_left_out_where_pixels_are_scored() -> None:
    sizes = {"ok": [0], "any": [50]}
    anomalies = [
        ref("stains", first=1000, masked=True, sizes=sizes),
        ref("cracks", first=2000, sizes=sizes),
    ]
    made = split(anomalies=anomalies)
    assert made.validation.masks is not None
    lacking = [mask is None for mask in made.validation.masks]
    assert lacking == (made.validation.groups == 2).tolist()
    kept = with_masks(made)
    assert set(kept.validation.groups) == set(kept.test.groups) == {0, 1}
    assert len(kept.validation.truths()) == len(kept.validation)
    count = int((made.validation.groups == 2).sum() + (made.test.groups == 2).sum())
    assert kept.notes[-1] == f"{count} anomalous images without a mask are left out, since pixels are scored"
    only = split(anomalies=anomalies[1:])
    assert only.validation.masks is None
    assert only.test.take(np.arange(3)).masks is None
    with pytest.raises(DataError, match=r"no anomaly for validation has a mask, and scoring pixels"):
        with_masks(only)
    whole = split(anomalies=anomalies[:1])
    assert with_masks(whole).notes == whole.notes


def test_a_test_without_masks_of_the_searched_types_is_refused() -> None:
    made = split(anomalies=[ref("stains", first=1000, masked=True, sizes={"ok": [0], "any": [50]})])
    others = replace(made.test, groups=2 * made.test.groups)
    with pytest.raises(DataError, match="is of a type that validation knows"):
        with_masks(replace(made, groups=("stains", "cracks"), test=others))


# Notes


def test_notes_of_all_sets_are_told_once() -> None:
    said = ["one unreadable file"]
    made = split(dataset=ref(notes=said), anomalies=[ref("stains", first=1000, notes=[*said, "sorted"])])
    assert made.notes == ("one unreadable file", "sorted")


# The sample that scores a trial


def test_the_search_sees_a_sample_of_validation() -> None:
    groups = np.repeat([0, 1, 2], [50, 20, 4])
    validation = Part(numbered(0, 74), groups, np.zeros((74, 4, 4), bool))
    sample = search_sample(validation, 10, 5, seed=1)
    assert [count(sample, g) for g in range(3)] == [10, 5, 4]
    assert numbers(sample) == sorted(set(numbers(sample)))  # the order of validation, none twice
    assert all(groups[n] == g for n, g in zip(numbers(sample), sample.groups, strict=True))
    assert sample.masks is not None
    assert numbers(search_sample(validation, 10, 5, seed=1)) == numbers(sample)
    assert numbers(search_sample(validation, 10, 5, seed=2)) != numbers(sample)
    assert numbers(search_sample(validation, 1000, 1000, seed=1)) == list(range(74))


# Opening a data set


def test_opening_names_what_is_wrong() -> None:
    def opened(name: str, **params: Any) -> Dataset:
        return open_dataset(REGISTRY, ref(name, **params), root=None, shape=None, seed=0)

    assert opened("normals").shape == (1, 4, 4)
    with pytest.raises(UnknownName, match="no dataset is called 'stain'; did you mean stains"):
        opened("stain")
    with pytest.raises(
        ConfigError, match="'test/normals': got an unexpected keyword argument 'size'; its params: first"
    ):
        opened("normals", size=3)
    with pytest.raises(DataError, match="dataset 'test/wrong' gave list, which is not a data set"):
        opened("wrong")
    with pytest.raises(BrokenComponent, match="dataset 'test/gone' from test 1"):
        opened("gone")


# Data sets in memory


def in_memory(**changes: Any) -> ArrayDataset:
    fields = {"images": numbered(0, 4), "labels": np.array([0, 1, 0, 1]), "classes": ("a", "b"), **changes}
    return ArrayDataset(**fields)


def test_a_data_set_in_memory_is_a_data_set() -> None:
    made = in_memory(mask=np.eye(4, dtype=bool)[:, None].repeat(4, 1))
    assert isinstance(made, Dataset)
    assert made.shape == (1, 4, 4)
    rows = np.array([2, 0])
    assert np.array_equal(made.read(rows), numbered(0, 4)[[2, 0]])
    masks = made.masks(rows)
    assert masks is not None
    assert masks[0][:, 2].all()
    assert sum(mask.sum() for mask in masks) == 8
    assert in_memory().masks(rows) is None


def test_bytes_become_numbers_from_0_to_1() -> None:
    made = in_memory(images=np.array([0, 51, 255, 1], np.uint8).reshape(4, 1, 1, 1))
    read = made.read(np.arange(4))
    assert read.dtype == np.float32
    assert read.ravel().tolist() == [0, np.float32(0.2), 1, np.float32(1) / np.float32(255)]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": np.zeros((4, 4, 4), np.float32)}, r"images must be \(n, C, H, W\) uint8 or float32"),
        ({"images": np.zeros((4, 1, 4, 4))}, r"got \(4, 1, 4, 4\) float64"),
        ({"labels": np.array([0, 1])}, "labels has 2 entries for 4 images"),
        ({"parts": np.array([0, 1])}, "parts has 2 entries for 4 images"),
        ({"mask": np.zeros((3, 4, 4), bool)}, "mask has 3 entries for 4 images"),
        ({"labels": np.array([0, 1, 2, 0])}, r"labels must lie in 0..1"),
        ({"labels": np.array([0, 1, -1, 0])}, r"labels must lie in 0..1"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        in_memory(**changes)


def test_a_data_set_may_be_empty() -> None:
    assert in_memory(images=np.zeros((0, 1, 4, 4), np.uint8), labels=np.zeros(0, np.int64)).shape == (1, 4, 4)
