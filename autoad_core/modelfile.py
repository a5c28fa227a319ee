"""Models on disk: JSON and safetensors, never pickle; everything checked when it is read.

spec.json            what to build: architecture, image shape, scores, versions of the components
weights.safetensors  parameters and fitted buffers
calibration.json     median and MAD of each term over training images; scores of normal validation images, for thresholds,
                     before refinement and after
metrics.json         how good it is, on validation and test (written by the search)
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from autoad_core.assemble import single_point
from autoad_core.config import Ref
from autoad_core.data import Floats
from autoad_core.detector import OWN_DISTANCE, Detector, Scale, batch_size
from autoad_core.errors import ModelError, SpaceError, shown
from autoad_core.geometry import Shape, measure
from autoad_core.pictures import Look
from autoad_core.pixel_detector import PixelDetector, Pixels, build
from autoad_core.protocols import Refinement
from autoad_core.refine import LEVEL_RATE, chain_of, refined, resolved
from autoad_core.registry import Registry
from autoad_core.score_maps import sigma_of, terms_in
from autoad_core.spec import Spec
from autoad_core.thresholds import Usual

FORMAT = 3
MAX_REFINEMENTS = 8
MAX_JSON_BYTES = 4_000_000
MAX_WEIGHT_BYTES = 2**31
MAX_IMAGE_NUMBERS = 2**26


@dataclass(frozen=True, slots=True)
class Model:
    """A detector that was trained, and how its terms make scores.

    Attributes:
        detector: Ready to score.
        scores: Definitions of the scores, resolved; see `Reward.scores`.
        score: The one that validation preferred.
        usual: By score, what normal validation images have before refinement; empty until the search has ended.
        refine: The refinements that its maps are meant to go through.
        usual_refined: As ``usual``, after them.
        chain: The refinements at work; `load` leaves them out, see `refining`.
    """

    detector: Detector
    scores: Mapping[str, tuple[str, ...]]
    score: str
    usual: Mapping[str, Usual] = field(default_factory=dict)
    refine: tuple[Ref, ...] = ()
    usual_refined: Mapping[str, Usual] = field(default_factory=dict)
    chain: tuple[Refinement, ...] = ()

    def __call__(self, images: torch.Tensor, score: str | None = None) -> Floats:
        """Scores (n,) of images (n, C, H, W), or maps (n, H, W) where it scores pixels; by the preferred score or by another."""
        name = score or self.score
        return np.concatenate([self._scored(x, name) for x in images.split(4 * batch_size(images))])

    def _scored(self, images: torch.Tensor, score: str) -> Floats:
        found = self.detector.score(self.detector.raw_terms(images), self.scores[score])
        if not np.isfinite(found).all():
            raise ModelError(
                "scores that are not finite: the model is damaged, or was never any good; train it again"
            )
        if not self.chain:
            return found
        return refined(self.chain, images.numpy(), found, Look.of(self.usual[score], LEVEL_RATE))

    def image_scores(self, images: torch.Tensor, score: str | None = None) -> Floats:
        """Scores (n,) of images (n, C, H, W): of a map, its maximum."""
        found = self(images, score)
        return found if found.ndim == 1 else found.max((1, 2))

    def expected(self, score: str | None = None) -> Usual | None:
        """What normal validation images have of a score as it comes out of this model; None where that is not known."""
        return (self.usual_refined if self.chain else self.usual).get(score or self.score)


def refining(model: Model, registry: Registry, refine: Sequence[Ref]) -> Model:
    """The model with these refinements at work; with none of them, its maps are raw.

    Raises:
        ModelError: It makes no maps, or knows no normal images.
        UnknownName, BrokenComponent, ConfigError, DataError: A refinement that is not there, or that lacks something.
    """
    if refine and not isinstance(model.detector, PixelDetector):
        raise ModelError("refine: this model scores whole images, so it has no maps to refine")
    if refine and not model.usual:
        raise ModelError("refine: this model knows no normal images, since its search has not ended")
    refs = resolved(registry, refine)
    usual = model.usual_refined if refs == model.refine else {}
    return replace(model, refine=refs, usual_refined=usual, chain=chain_of(registry, refs))


def write_json(path: Path, value: Any, *, sync: bool = True) -> None:
    """Write aside and rename: a reader sees the old file or the new one, never half of it. Keys keep their order.

    Args:
        sync: Also survive a power failure. Not worth its milliseconds for what can be computed again.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.write("\n")
        if sync:
            file.flush()
            os.fsync(file.fileno())
    aside.replace(path)


def read_json(path: Path) -> Any:
    """Raises ModelError: missing, larger than 4 MB, or not JSON."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is not a file of ours")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: cannot be read ({reason}); is {path.parent} a model folder?") from error


def save(model: Model, folder: Path, versions: Mapping[str, str]) -> None:
    """Write a model as a folder, whole or not at all; one that is there already is replaced.

    Args:
        versions: By component id, for the record.
    """
    detector = model.detector
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors = {k: v.detach().contiguous().clone() for k, v in detector.state_dict().items()}
    # Not save_file, to which a full disk is no OSError.
    (aside / "weights.safetensors").write_bytes(to_bytes(tensors))
    write_json(aside / "calibration.json", _calibration(model), sync=False)
    description = {
        "format": FORMAT,
        "spec": detector.spec.to_dict(),
        "shape": list(detector.shape),
        "decoder": detector.decoder,
        "bfloat16": detector.low_precision,
        "distances": list(detector.distances),
        "scores": {k: list(v) for k, v in model.scores.items()},
        "score": model.score,
        "pixels": asdict(detector.pixels) if isinstance(detector, PixelDetector) else None,
        "refine": [ref.model_dump(mode="json") for ref in model.refine],
        "components": dict(versions),
    }
    write_json(aside / "spec.json", description, sync=False)
    if folder.exists():
        shutil.rmtree(folder)
    aside.replace(folder)


def _calibration(model: Model) -> dict[str, Any]:
    return {
        "terms": {name: [s.median, s.mad] for name, s in model.detector.scales.items()},
        "usual": {name: usual.to_json() for name, usual in model.usual.items()},
        "refined": {name: usual.to_json() for name, usual in model.usual_refined.items()},
    }


def load(folder: Path, registry: Registry) -> Model:
    """Read what `save` wrote.

    Raises:
        ModelError: Not a model, of another version, damaged, or larger than any model of ours.
        UnknownName, BrokenComponent: A component that is not installed here.
    """
    description = read_json(folder / "spec.json")
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        found = description.get("format") if isinstance(description, dict) else None
        raise ModelError(
            f"{folder}: model format {found!r}, this version reads {FORMAT}; train it again or use the version that wrote it"
        )
    try:
        spec = Spec.from_dict(description["spec"])
        shape = _shape(description["shape"])
        pixels = _pixels(description.get("pixels"))
        _check_size(spec, shape)
        single_point(registry, shape, spec)  # the components' own choices are among those that they offer
        if description["decoder"] not in ("upsample-first", "paper"):
            raise ValueError(f"decoder {shown(description['decoder'])}")
        detector = build(
            spec,
            shape,
            registry,
            pixels,
            distances=[str(d) for d in description["distances"]],
            decoder=str(description["decoder"]),
            bfloat16=bool(description["bfloat16"]),
        )
        scores = {str(k): tuple(map(str, v)) for k, v in description["scores"].items()}
        score = str(description["score"])
        for definition in scores.values():
            sigma_of(definition)  # a number
        calibration = read_json(folder / "calibration.json")
        detector.scales = {k: Scale(float(m), float(s)) for k, (m, s) in calibration["terms"].items()}
        usual, after = (
            {str(k): Usual.from_json(v) for k, v in calibration[key].items()} for key in ("usual", "refined")
        )
        refine = tuple(Ref.model_validate(ref) for ref in description["refine"])
        if len(refine) > MAX_REFINEMENTS:
            raise ValueError(f"{len(refine)} refinements")
        if set(usual) not in (set(), set(scores)) or not set(after) <= set(usual):
            raise ValueError("what is usual does not fit the scores")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, SpaceError) as error:
        raise ModelError(
            f"{folder}: spec.json or calibration.json is damaged ({error}); restore it"
        ) from error
    _check_scales(folder, detector, scores, score)
    _load_weights(detector, folder / "weights.safetensors")
    detector.eval()
    return Model(detector, scores, score, usual, refine, after)


def _shape(value: Any) -> Shape:
    c, h, w = value
    if any(type(v) is not int for v in value) or min(c, h, w) < 1 or c * h * w > MAX_IMAGE_NUMBERS:
        raise ValueError(f"image shape {shown(value)}")
    return (c, h, w)


def _pixels(value: Any) -> Pixels | None:
    if value is None:
        return None
    found = Pixels(int(value["patch"]), str(value["metric"]), int(value["area"]))
    if not (8 <= found.patch <= 1024 and found.area > 0):
        raise ValueError(f"pixels {shown(value)}")
    return found


def _check_size(spec: Spec, shape: Shape) -> None:
    """Refuse what would only exhaust the memory."""
    stages = zip(measure(spec.layers, shape).stages, spec.layers, strict=True)
    weights = sum(2 * stage.channels_in * layer.channels * layer.kernel**2 for stage, layer in stages)
    if 4 * weights > MAX_WEIGHT_BYTES:
        raise ValueError(f"{weights} weights")


def _check_scales(
    folder: Path, detector: Detector, scores: Mapping[str, tuple[str, ...]], score: str
) -> None:
    known, found = set(detector.terms), [set(definition) for definition in scores.values()]
    if isinstance(detector, PixelDetector):
        found = [terms_in(definition) for definition in scores.values()]
    if score not in scores or not all(found) or set().union(*found) - known - {OWN_DISTANCE}:
        raise ModelError(f"{folder}: spec.json is damaged: its scores do not fit its distances")
    if missing := known - set(detector.scales):
        raise ModelError(f"{folder}: calibration.json lacks {sorted(missing)[0]!r}")
    if not all(math.isfinite(s.median) and 0 < s.mad < math.inf for s in detector.scales.values()):
        raise ModelError(f"{folder}: calibration.json holds a scale that is not positive and finite")


def _load_weights(detector: Detector, path: Path) -> None:
    """Names and shapes are compared in the header before anything is read into memory, types and values then."""
    expected = detector.state_dict()
    try:
        if path.stat().st_size > MAX_WEIGHT_BYTES:
            raise ModelError(f"{path}: larger than {MAX_WEIGHT_BYTES} bytes")
        with safe_open(path, framework="pt") as file:
            found = {k: tuple(file.get_slice(k).get_shape()) for k in file.keys()}  # noqa: SIM118
        if wrong := sorted(k for k in found.keys() ^ expected.keys()):
            raise ModelError(f"{path}: does not fit spec.json: {wrong[0]!r} is on one side only")
        if wrong := sorted(k for k in found if found[k] != tuple(expected[k].shape)):
            raise ModelError(f"{path}: does not fit spec.json: {wrong[0]!r} is {found[wrong[0]]}")
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(
            f"{path}: damaged or not safetensors ({reason}); train it again, or restore it"
        ) from error
    if wrong := sorted(k for k, t in tensors.items() if t.dtype != expected[k].dtype):
        raise ModelError(f"{path}: does not fit spec.json: {wrong[0]!r} is {tensors[wrong[0]].dtype}")
    if not all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point()):
        raise ModelError(f"{path}: holds numbers that are not finite")
    if isinstance(detector, PixelDetector) and not (tensors["places"][:, 1] > 0).all():
        raise ModelError(f"{path}: a deviation at a place is not positive")
    detector.load_state_dict(tensors)
