"""Protocols: from data sets to training, validation and test images (design, 5), and the guard that keeps the test apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autoad_core.component import Kind
from autoad_core.config import Data, Ref
from autoad_core.data import Bools, Dataset, Floats, Ints
from autoad_core.errors import ConfigError, DataError, at
from autoad_core.geometry import Shape
from autoad_core.images import resize
from autoad_core.pixel_metrics import Truth
from autoad_core.registry import Registry

MOST_ANOMALIES = 10_000  # of one anomaly set, in validation or test
GOOD = "good"
_LEFT_OUT = "training or validation images were left out: their pixels equal a later part's"


@dataclass(frozen=True, slots=True)
class Part:
    """Images of one part.

    Attributes:
        images: (n, C, H, W) float32 in [0, 1].
        groups: (n,) int64: 0 for normal, g for the g-th anomaly set.
        masks: One an image, (h, w) bool of its own size, True where anomalous, or None for an anomaly without one; None where no
            anomaly has one.
    """

    images: Floats
    groups: Ints
    masks: tuple[Bools | None, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Ints | Bools) -> Part:
        """Some of the images."""
        kept = None if self.masks is None else tuple(self.masks[i] for i in np.arange(len(self))[rows])
        return Part(self.images[rows], self.groups[rows], kept)

    def truths(self) -> tuple[Truth, ...]:
        """What the masks say of score maps of the images' size; every image must have one."""
        _, _, height, width = self.images.shape
        return tuple(Truth.of(mask, (height, width)) for mask in self.masks or () if mask is not None)


@dataclass(frozen=True, slots=True)
class Split:
    """What a protocol makes of the data.

    Attributes:
        groups: Names of the anomaly sets; group g of a `Part` is ``groups[g - 1]``.
        train: Normal images only.
        validation: Guides the search.
        test: Seen by nothing but the final report.
        notes: What a user should know, one line each.
    """

    groups: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """(C, H, W) of the images."""
        _, c, h, w = self.train.images.shape
        return (c, h, w)

    def digests(self) -> dict[str, str]:
        """A hash of each part's images and labels, in order."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            name: hashlib.blake2b(
                b"".join(image_hashes(part.images)) + part.groups.tobytes(), digest_size=16
            ).hexdigest()
            for name, part in parts.items()
        }


def image_hashes(images: Floats) -> list[bytes]:
    """One 16-byte hash for each of (n, C, H, W) images; equal pixels, equal hash."""
    return [hashlib.blake2b(np.ascontiguousarray(x).tobytes(), digest_size=16).digest() for x in images]


def check_apart(test: Iterable[bytes], *parts: Part) -> None:
    """The guard: raises DataError when an image of ``parts`` has the hash of a test image."""
    hidden = set(test)
    for part in parts:
        if hidden.intersection(image_hashes(part.images)):
            raise DataError(
                "a test image reached the search; this is a fault of the program, please report it"
            )


def open_dataset(
    registry: Registry, ref: Ref, *, root: Path | None, shape: Shape | None, seed: int
) -> Dataset:
    """The data set that ``ref`` names.

    Raises:
        UnknownName, BrokenComponent, ConfigError: No such data set, or parameters that it does not take.
        DataError: It is missing or damaged.
    """
    entry = registry.get(Kind.DATASET, ref.name)
    dataset = entry.build(ref.params, root=root, shape=shape, seed=seed)
    if not isinstance(dataset, Dataset):
        raise DataError(f"dataset {entry.id!r} gave {type(dataset).__name__}, which is not a data set")
    return dataset


def make_split(data: Data, registry: Registry, seed: int) -> Split:
    """Load the data sets and split them by ``data.protocol``.

    Raises:
        ConfigError: Names that do not exist, or keys that do not fit the protocol.
        DataError: A set is missing or damaged, or has too few images for the protocol.
    """

    def make(key: str, ref: Ref, shape: Shape | None) -> Dataset:
        with at(key):
            return open_dataset(registry, ref, root=data.root, shape=shape, seed=seed)

    rng = np.random.default_rng(seed)
    normal = make("data.dataset", data.dataset, None)
    protocol = data.protocol
    if protocol == "auto":
        protocol = "ood" if data.anomalies else "folder" if GOOD in normal.classes else "one-class"
    if protocol != "ood" and data.anomalies:
        raise ConfigError(f"data.anomalies: belongs to protocol 'ood', not to {protocol!r}")
    if protocol != "one-class" and data.normal:
        raise ConfigError(f"data.normal: belongs to protocol 'one-class', not to {protocol!r}")
    if protocol == "ood":
        if not data.anomalies:
            raise ConfigError("data.anomalies: protocol 'ood' needs at least one data set of anomalies")
        names = _names(data.anomalies)
        refs = enumerate(data.anomalies)
        others = {names[i]: make(f"data.anomalies.{i}", ref, normal.shape) for i, ref in refs}
        split = _ood(data, normal, others, rng)
    elif protocol == "one-class":
        split = _one_class(data, normal, rng)
    else:
        split = _folder(data, normal, rng)
    return _checked(_apart(split), data)


def search_sample(validation: Part, normal: int, anomalous: int, seed: int) -> Part:
    """At most ``normal`` normal images and ``anomalous`` of each anomaly set, drawn with ``seed``."""
    rng = np.random.default_rng(seed)
    rows = []
    for group in np.unique(validation.groups):
        found = np.flatnonzero(validation.groups == group)
        rows.append(rng.permutation(found)[: normal if group == 0 else anomalous])
    return validation.take(np.sort(np.concatenate(rows)))


def _ood(data: Data, normal: Dataset, others: Mapping[str, Dataset], rng: np.random.Generator) -> Split:
    """6 : 2 : 2 of the normal set; each anomaly set is ``contamination`` of validation and of test [A, V-A]."""
    train, validation, test = _six_two_two(rng.permutation(len(normal.labels)))
    _known("data.held_out", data.held_out, tuple(others))
    share = data.contamination / (1 - data.contamination)
    drawn: list[tuple[Dataset, Ints, Ints]] = []
    for name, dataset in others.items():
        order = rng.permutation(len(dataset.labels))
        half = 0 if name in data.held_out else len(order) // 2
        shown = order[: min(half, max(1, round(len(validation) * share)))]
        hidden = order[half:][: max(1, round(len(test) * share))]
        drawn.append((dataset, shown, hidden))
    return _split(
        data,
        tuple(others),
        (normal, train),
        [(normal, validation), *((d, shown) for d, shown, _ in drawn)],
        [(normal, test), *((d, hidden) for d, _, hidden in drawn)],
    )


def _one_class(data: Data, dataset: Dataset, rng: np.random.Generator) -> Split:
    """Some classes are normal, all others together one set of anomalies; published parts are kept."""
    classes = data.normal or dataset.classes[:1]
    _known("data.normal", classes, dataset.classes)
    _known("data.held_out", data.held_out, dataset.classes)
    wanted = np.array([dataset.classes.index(c) for c in classes])
    is_normal = np.isin(dataset.labels, wanted)
    held_out = np.isin(dataset.labels, [dataset.classes.index(c) for c in data.held_out])
    if dataset.parts is None:
        train, validation, test = _six_two_two(rng.permutation(np.flatnonzero(is_normal)))
        order = rng.permutation(np.flatnonzero(~is_normal))
        shown, hidden = order[: len(order) // 2], order[len(order) // 2 :]
    else:
        order = rng.permutation(np.flatnonzero(is_normal & (dataset.parts == 0)))
        train, validation = np.split(order, [len(order) * 3 // 4])
        test = rng.permutation(np.flatnonzero(is_normal & (dataset.parts == 1)))
        shown = rng.permutation(np.flatnonzero(~is_normal & (dataset.parts == 0)))
        hidden = rng.permutation(np.flatnonzero(~is_normal & (dataset.parts == 1)))
    shown = shown[~held_out[shown]]
    return _split(
        data,
        ("anomalous",),
        (dataset, train),
        [(dataset, validation), (dataset, shown[:MOST_ANOMALIES])],
        [(dataset, test), (dataset, hidden[:MOST_ANOMALIES])],
    )


def _folder(data: Data, dataset: Dataset, rng: np.random.Generator) -> Split:
    """Class ``good`` is normal. A published test part is split in halves, stratified by type of defect [A, V-A]."""
    if GOOD not in dataset.classes:
        raise DataError(
            f"dataset {data.dataset.name!r}: protocol 'folder' needs a class {GOOD!r}; found: {', '.join(dataset.classes)}"
        )
    types = tuple(c for c in dataset.classes if c != GOOD)
    _known("data.held_out", data.held_out, types)
    is_good = dataset.labels == dataset.classes.index(GOOD)
    tested = np.zeros(len(is_good), bool) if dataset.parts is None else dataset.parts == 1
    if (is_good & tested).any():
        train = rng.permutation(np.flatnonzero(is_good & ~tested))
        order = rng.permutation(np.flatnonzero(is_good & tested))
        validation, test = order[: (len(order) + 1) // 2], order[(len(order) + 1) // 2 :]
    else:
        train, validation, test = _six_two_two(rng.permutation(np.flatnonzero(is_good)))
    shown, hidden = [], []
    for name in types:
        order = rng.permutation(np.flatnonzero(dataset.labels == dataset.classes.index(name)))
        half = 0 if name in data.held_out else (len(order) + 1) // 2
        shown.append((dataset, order[:half]))
        hidden.append((dataset, order[half:]))
    return _split(data, types, (dataset, train), [(dataset, validation), *shown], [(dataset, test), *hidden])


def _names(refs: Sequence[Ref]) -> list[str]:
    """Names of anomaly sets; ``folder`` named again, with other parameters, is ``folder-2``."""
    names: list[str] = []
    for ref in refs:
        earlier = sum(other.name == ref.name for other in refs[: len(names)])
        names.append(f"{ref.name}-{earlier + 1}" if earlier else ref.name)
    return names


def _six_two_two(order: Ints) -> tuple[Ints, Ints, Ints]:
    n = len(order)
    train, validation, test = np.split(order, [round(0.6 * n), round(0.8 * n)])
    return train, validation, test


def _known(key: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"{key}: no {name!r} there; known: {', '.join(known[:40])}")


def _split(
    data: Data,
    groups: tuple[str, ...],
    train: tuple[Dataset, Ints],
    validation: Sequence[tuple[Dataset, Ints]],
    test: Sequence[tuple[Dataset, Ints]],
) -> Split:
    """Read the chosen images. In ``validation`` and ``test`` the first source is normal, the others are groups in order."""
    first, rows = train
    rows = rows[: data.train_images] if data.train_images else rows
    notes = dict.fromkeys(note for dataset, _ in (train, *validation, *test) for note in dataset.notes)
    shape = first.shape
    return Split(
        groups,
        _read([(first, rows)], shape),
        _read(validation, shape),
        _read(test, shape),
        tuple(notes),
    )


def _read(sources: Sequence[tuple[Dataset, Ints]], shape: Shape) -> Part:
    images, groups = [], []
    masks: list[Bools | None] = []
    for group, (dataset, rows) in enumerate(sources):
        read = dataset.read(rows) if len(rows) else np.zeros((0, *shape), np.float32)
        images.append(read if read.shape[1:] == shape else resize(read, shape))
        groups.append(np.full(len(rows), group, np.int64))
        found = dataset.masks(rows)
        unknown = None if group else np.zeros(shape[1:], bool)
        masks += [unknown] * len(rows) if found is None else found
    numbers = np.concatenate(groups)
    known = any(mask is not None and group for mask, group in zip(masks, numbers, strict=True))
    return Part(np.concatenate(images), numbers, tuple(masks) if known else None)


def with_masks(split: Split) -> Split:
    """Without the anomalies that have no mask, and a note on how many they are.

    Raises:
        DataError: None has one, in validation or in test.
    """

    def kept(part: Part, name: str) -> Part:
        having = np.array([mask is not None for mask in part.masks or [None] * len(part)])
        if not (having & (part.groups > 0)).any():
            raise DataError(
                f"no anomaly for {name} has a mask, and scoring pixels (reward.level) needs some; add them in "
                "ground_truth/TYPE, or set reward.level: image"
            )
        return part.take(having)

    validation, test = kept(split.validation, "validation"), kept(split.test, "test")
    if not np.isin(test.groups, validation.groups[validation.groups > 0]).any():
        raise DataError(
            "no anomaly for test with a mask is of a type that validation knows, so the search could not be tested; "
            "add masks, or name fewer types in data.held_out"
        )
    left_out = len(split.validation) + len(split.test) - len(validation) - len(test)
    note = f"{left_out} anomalous images without a mask are left out, since pixels are scored"
    notes = (*split.notes, note) if left_out else split.notes
    return replace(split, validation=validation, test=test, notes=notes)


def _apart(split: Split) -> Split:
    """Drop what training and validation share with the test, and training with validation, to the pixel."""
    test = set(image_hashes(split.test.images))
    seen = image_hashes(split.validation.images)
    validation = split.validation.take(np.array([h not in test for h in seen], bool))
    both = test.union(seen)
    train = split.train.take(np.array([h not in both for h in image_hashes(split.train.images)], bool))
    dropped = len(split.train) - len(train) + len(split.validation) - len(validation)
    notes = split.notes
    if dropped:
        notes += (f"{dropped} {_LEFT_OUT}",)
    return replace(split, train=train, validation=validation, notes=notes)


def _checked(split: Split, data: Data) -> Split:
    """Raises DataError when a part cannot serve."""
    path = data.dataset.params.get("path")
    where = f"dataset {data.dataset.name!r}" + (f" in {path}" if path else "")
    copies = "".join(f" ({note})" for note in split.notes if note.endswith(_LEFT_OUT))

    def need(count: int, least: int, what: str, todo: str = "add images or change the protocol") -> None:
        if count < least:
            raise DataError(f"{where}: {count} {what}, at least {least} needed; {todo}{copies}")

    need(len(split.train), 2, "normal images to train on")
    defects = (
        "add images or change the protocol"
        if split.groups
        else "add images of defects, each kind in a folder of its own beside the good ones"
    )
    for part, images in (("validation", split.validation), ("test", split.test)):
        need(int((images.groups == 0).sum()), 1, f"normal images for {part}")
        need(int((images.groups > 0).sum()), 1, f"anomalous images for {part}", defects)
    return split
