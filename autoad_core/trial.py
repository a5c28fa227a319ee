"""One trial: build a child, train it, score it on validation, and write it down. Knows no controller and no journal."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoad_core import modelfile, pixel_detector, pixel_metrics, sharing
from autoad_core.config import IMAGES_SHOWN, Train, budget
from autoad_core.data import Floats, Ints
from autoad_core.detector import HYPOTHESIS, Detector, Terms
from autoad_core.geometry import Shape
from autoad_core.metrics import Aggregate, group_aurocs
from autoad_core.model import parameters
from autoad_core.modelfile import Model
from autoad_core.pixel_detector import Pixels
from autoad_core.pixel_metrics import Truth
from autoad_core.registry import Registry
from autoad_core.spec import Spec
from autoad_core.training import TrainingFailed, fit, seed_everything, settle

# In torch's RuntimeErrors; oneDNN says no more than that it could not create a primitive or a memory object.
OUT_OF_MEMORY = ("allocate memory", "could not create a", "bad_alloc")
UNTRAINED_IMAGES = 256  # of training, and of each validation group, for the check against the untrained net
UNTRAINED_LARGE = 16  # of each validation group, at pixel level


TRUTH = tuple(f.name for f in fields(Truth))  # each a file of the validation images


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What all trials of a run share.

    Attributes:
        folder: Holds ``train.npy``, ``validation.npy`` and ``groups.npy``, see `Split`, and at pixel level the parts of each
            validation image's `Truth`; no test image.
        shape: (C, H, W) of the images.
        groups: Names of the anomaly sets.
        distances: Ids of all distances to score.
        scores: Definitions, resolved; see `Reward.scores`.
        aggregate: Of the AUROCs of the anomaly sets.
        train: Settings.
        decoder: See `Autoencoder`.
        bfloat16: See `Detector`.
        versions: By component id, for the saved models.
        shared: Folder of the shared weights, see `autoad_core.sharing`.
        pixels: How their pixels are scored; None where images are.
        shown: See `autoad_core.config.images_shown`.
    """

    folder: Path
    shape: Shape
    groups: tuple[str, ...]
    distances: tuple[str, ...]
    scores: Mapping[str, tuple[str, ...]]
    aggregate: Aggregate
    train: Train
    decoder: str
    bfloat16: bool
    versions: Mapping[str, str]
    shared: Path
    pixels: Pixels | None = None
    shown: int = IMAGES_SHOWN

    @property
    def few(self) -> int:
        """Images of each kind for the check against the untrained net."""
        return UNTRAINED_IMAGES if self.pixels is None else UNTRAINED_LARGE


@dataclass(frozen=True, slots=True)
class Job:
    """One child to train.

    Attributes:
        id: Number of the trial.
        spec: Resolved.
        seed: Of its weights, its batches and its hypothesis.
        fraction: Share of the full training budget.
        pool: How many trials the shared weights hold that it starts from; None where nothing is shared.
    """

    id: int
    spec: Spec
    seed: int
    fraction: float
    pool: int | None = None


@dataclass(frozen=True, slots=True)
class Images:
    """The arrays of a `Task`'s folder, mapped into memory: all workers share the pages."""

    train: Tensor
    validation: Tensor
    groups: Ints
    truths: tuple[Truth, ...] = ()  # of validation, at pixel level

    @classmethod
    def open(cls, folder: Path) -> Images:
        """Maps copy-on-write, so that torch may treat the arrays as its own; nothing is ever written."""

        def mapped(name: str) -> Any:
            return np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)

        truths: tuple[Truth, ...] = ()
        if (folder / f"{TRUTH[0]}.npy").exists():
            truths = tuple(Truth(*parts) for parts in zip(*map(mapped, TRUTH), strict=True))
        train, validation = (torch.from_numpy(mapped(name)) for name in ("train", "validation"))
        return cls(train, validation, np.load(folder / "groups.npy", allow_pickle=False), truths)

    def some(self, rows: Ints) -> Images:
        """With these of the validation images."""
        truths = tuple(self.truths[i] for i in rows) if self.truths else ()
        return replace(self, validation=self.validation[rows], groups=self.groups[rows], truths=truths)


def trial_seed(seed: int, number: int) -> int:
    """The seed of a run's trial: a hash, so that neighbouring numbers have nothing in common."""
    digest = hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def run_trial(task: Task, job: Job, images: Images, registry: Registry, save_to: Path) -> dict[str, Any]:
    """Train and score one child; its model is saved under ``save_to``.

    Returns:
        JSON values: ``status``, ``value`` (the reward), ``score`` (which score gave it), ``validation`` (AUROCs by score or
        term and anomaly set), ``warnings``, ``parameters``, ``error``, ``shared`` (how many numbers came from shared weights),
        and under ``clock`` what depends on time and machine.
    """
    began, clock = time.time(), time.perf_counter()
    try:
        result = _train_and_score(task, job, images, registry, save_to)
    except TrainingFailed as error:
        result = failed(str(error))
    except MemoryError:
        result = failed("out of memory: it needed more than memory_limit", limit=True)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in OUT_OF_MEMORY):
            raise
        result = failed("out of memory: it needed more than memory_limit", limit=True)
    return result | {"clock": {"began": round(began, 3), "seconds": round(time.perf_counter() - clock, 3)}}


def failed(error: str, *, limit: bool = False) -> dict[str, Any]:
    """The result of a child that did not make it; ``limit`` marks one that a safety net ended."""
    warnings = ["ended by a limit of the machine, so a repetition may differ"] if limit else []
    return {"status": "failed", "value": None, "error": error, "warnings": warnings}


def _train_and_score(
    task: Task, job: Job, images: Images, registry: Registry, save_to: Path
) -> dict[str, Any]:
    epochs, count = budget(task.train, len(images.train), job.fraction, task.shown)
    train = images.train[:count]  # the split is shuffled already
    detector = _build(task, job, registry)
    shared = sharing.adopt(detector.network, sharing.pool_file(task.shared, job.pool)) if job.pool else 0
    fit(detector, train, epochs, task.train)
    raw = detector.raw_terms(images.validation)
    if not _finite(raw):
        raise TrainingFailed("a score is not finite")
    validation = evaluate(detector, raw, images, task)
    score = max(task.scores, key=lambda name: validation[name]["value"])
    value = validation[score]["value"]
    if job.pool is not None:
        sharing.leave(detector.network, task.shared, job.id)
    modelfile.save(Model(detector, task.scores, score), save_to, task.versions)
    return {
        "status": "ok",
        **({} if job.pool is None else {"shared": shared}),
        "value": value,
        "score": score,
        "validation": validation,
        "terms": {name: asdict(scale) for name, scale in detector.scales.items()},
        "warnings": _warnings(task, job, registry, detector, score, raw, images, train),
        "parameters": parameters(detector),
    }


def _build(task: Task, job: Job, registry: Registry) -> Detector:
    seed_everything(job.seed)
    return pixel_detector.build(
        job.spec,
        task.shape,
        registry,
        task.pixels,
        distances=task.distances,
        decoder=task.decoder,
        bfloat16=task.bfloat16,
    )


def evaluate(
    detector: Detector, raw: Terms, images: Images, task: Task, only: str | None = None
) -> dict[str, dict[str, float]]:
    """What every score is worth on validation images, the reward as ``value``.

    At image level: AUROC for each anomaly set, of every single term too, and aggregated. At pixel level:
    `autoad_core.pixel_metrics.figures`.

    Args:
        raw: Terms of the validation images, as the detector's ``raw_terms`` gives them.
        only: A score to which this is restricted.
    """
    wanted = task.scores if only is None else {only: task.scores[only]}
    scored = {name: detector.score(raw, terms) for name, terms in wanted.items()}
    if task.pixels is None:
        every = (scored | (raw if only is None else {})).items()
        return {name: group_aurocs(v, images.groups, task.groups, task.aggregate) for name, v in every}
    found = {}
    for name, maps in scored.items():
        threshold = pixel_metrics.area_threshold(list(maps[images.groups == 0]), task.pixels.area)
        figures = pixel_metrics.figures(list(maps), images.truths, threshold)
        found[name] = {"value": figures[task.pixels.metric], **figures}
    return found


def _untrained_value(
    task: Task, job: Job, images: Images, train: Tensor, registry: Registry, score: str
) -> float:
    """What a score of the same net is worth before its first step, on few images; ``train`` says what is usual."""
    detector = _build(task, job, registry)
    settle(detector, train, start=True)
    settle(detector, train)
    few = images.some(_few(images.groups, task.few))
    raw = detector.raw_terms(few.validation)
    if not _finite(raw):
        return 0.0  # training may help
    return evaluate(detector, raw, few, task, score)[score]["value"]


def _finite(raw: Terms) -> bool:
    return all(np.isfinite(values).all() for values in raw.values())


def _few(groups: Ints, most: int) -> Ints:
    """Rows of the first ``most`` of each group."""
    return np.sort(np.concatenate([np.flatnonzero(groups == g)[:most] for g in np.unique(groups)]))


def _warnings(
    task: Task,
    job: Job,
    registry: Registry,
    detector: Detector,
    score: str,
    raw: Terms,
    images: Images,
    train: Tensor,
) -> list[str]:
    """What makes a result mean little, in words."""
    found = []
    for name in (*detector.spec.distances, HYPOTHESIS):
        if is_constant(raw[name]):
            found.append(f"the term {name} is constant")
    few = _few(images.groups, task.few)
    same = {k: v[few] for k, v in raw.items()}  # on the same images as the untrained net
    trained = evaluate(detector, same, images.some(few), task, score)[score]["value"]
    # A Gaussian at each place needs all the images that the trained net had, or it is worse for want of them.
    usual = train if task.pixels else train[:UNTRAINED_IMAGES]
    untrained = _untrained_value(task, job, images, usual, registry, score)
    if trained <= untrained:
        metric = task.pixels.metric if task.pixels else "AUROC"
        found.append(
            f"no better than the same net untrained ({metric} {trained:.3f} against {untrained:.3f})"
        )
    normal = images.validation[torch.from_numpy(images.groups == 0)]
    if no_better_than_mean(detector, images.train, normal[: task.few]):
        found.append("the reconstruction is no better than the mean image")
    return found


def is_constant(values: Floats) -> bool:
    """Whether scores (n,) say nothing: they differ by rounding at most."""
    return bool(np.ptp(values) <= 1e-9 * max(1.0, float(np.abs(values).max())))


def no_better_than_mean(detector: Detector, train: Tensor, normal: Tensor) -> bool:
    """Whether the mean squared error on normal images that it has not seen is not below that of the mean training image."""
    normal = normal[:UNTRAINED_IMAGES]
    mean = train[:1024].mean(0, keepdim=True)
    errors = [float(((b.reconstruction - b.image) ** 2).sum()) for b in detector.batches(normal)]
    return math.fsum(errors) >= float(((normal - mean) ** 2).sum())
