"""What a run is about: a configuration with its data loaded and every name in it looked up."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from autoad_core.assemble import LayerOptions, assemble, component_ids, single_point
from autoad_core.component import Kind
from autoad_core.config import Config, Ref, budget, images_shown
from autoad_core.detector import HYPOTHESIS, OWN_DISTANCE
from autoad_core.discovery import Plugins
from autoad_core.errors import ConfigError, at
from autoad_core.geometry import Shape
from autoad_core.model import bfloat16_is_fast
from autoad_core.pixel_detector import CODE, Pixels
from autoad_core.protocols import Refinement
from autoad_core.refine import chain_of
from autoad_core.refine import resolved as resolved_refs
from autoad_core.registry import Registry
from autoad_core.score_maps import PLACE, SMOOTHED, smoothed
from autoad_core.space import Space
from autoad_core.spec import Spec
from autoad_core.split import Split, make_split, with_masks


@dataclass(frozen=True, slots=True)
class Experiment:
    """A configuration with everything in it looked up.

    Attributes:
        resolved: What goes into ``config.yaml`` beside the configuration, so that a run can be told from another.
    """

    config: Config
    registry: Registry
    split: Split
    space: Space
    distances: tuple[str, ...]
    scores: Mapping[str, tuple[str, ...]]
    controller: str
    bfloat16: bool
    builtin_only: bool
    resolved: Mapping[str, Any]
    refine: tuple[Ref, ...] = ()
    refinements: tuple[Refinement, ...] = ()

    @property
    def pixels(self) -> Pixels | None:
        """How pixels are scored; None where images are."""
        given, (_, height, width) = self.config.reward, self.split.shape
        if given.level == "image":
            return None
        area = max(1, round(given.area * height * width))
        return Pixels(self.config.train.patch, given.metric, area)

    @property
    def layout(self) -> Shape:
        """(C, H, W) of what children are trained on: the images, or patches of them."""
        return layout(self.config, self.split.shape)

    def budget(self, fraction: float) -> tuple[int, int]:
        """See `autoad_core.config.budget`."""
        return budget(self.config.train, len(self.split.train), fraction, images_shown(self.config))


def prepare(
    config: Config, plugins: Plugins, *, builtin_only: bool = False, bfloat16: bool | None = None
) -> Experiment:
    """Load the data and resolve every name.

    Args:
        bfloat16: The arithmetic of a run that goes on; None decides by ``train.precision`` and the processor.

    Raises:
        AutoADError: Whatever is wrong, in one line.
    """
    registry = plugins.registry
    with at("controller"):
        entry = registry.get(Kind.CONTROLLER, config.controller.name)
    split = make_split(config.data, registry, config.seed)
    if config.reward.level == "pixel":
        split = with_masks(split)
    space = make_space(config, registry, layout(config, split.shape))
    with at("controller"):  # parameters that it does not take must not be found out later, in a run half made
        entry.build(config.controller.params, space=space, seed=config.seed)
    controller = entry.id
    distances, scores = _resolve_scores(config, registry, space)
    if bfloat16 is None:
        precision = config.train.precision
        bfloat16 = precision == "bfloat16" or (precision == "auto" and bfloat16_is_fast())
    used = {str(o) for c in space.choices for o in c.options if isinstance(o, str)} | set(distances)
    with at("refine"):
        refine = resolved_refs(registry, config.refine)
        refinements = chain_of(registry, refine)
    ids = {part for option in used for part in option.split("+")} | {controller, *(r.name for r in refine)}
    versions = {e.id: e.origin.version for e in registry if e.id in ids}
    resolved = {
        "components": dict(sorted(versions.items())),
        "controller": controller,
        "scores": {k: list(v) for k, v in scores.items()},
        "space": {c.name: list(c.options) for c in space.choices},
        "data": split.digests(),
        "bfloat16": bfloat16,
        "builtin_only": builtin_only,
        "machine": _machine(),
    }
    return Experiment(
        config,
        registry,
        split,
        space,
        distances,
        scores,
        controller,
        bfloat16,
        builtin_only,
        resolved,
        refine,
        refinements,
    )


def layout(config: Config, shape: Shape) -> Shape:
    """(C, H, W) of what children are trained on, for images of ``shape``."""
    if config.reward.level == "image":
        return shape
    return (shape[0], min(config.train.patch, shape[1]), min(config.train.patch, shape[2]))


def make_space(config: Config, registry: Registry, shape: Shape) -> Space:
    """The search space of a configuration, or the one point that ``architecture`` names."""
    if config.architecture is not None:
        with at("architecture"):
            known = Spec.from_dict(config.architecture).resolve(registry)
        return single_point(registry, shape, known)
    given, paper = config.space, config.preset == "paper"

    def ids(kind: Kind) -> tuple[str, ...]:
        with at(f"space.{kind}"):
            found = component_ids(registry, kind, getattr(given, kind.value), paper=paper)
        if not found:
            raise ConfigError(
                f"space.{kind}: nothing to choose from; is a plugin missing? see autoad list-components"
            )
        return found

    layer = LayerOptions(
        channels=given.channels,
        kernel=given.kernel,
        pooling=ids(Kind.POOLING),
        pooling_kernel=given.pooling_kernel,
        normalization=ids(Kind.NORMALIZATION),
        activation=ids(Kind.ACTIVATION),
    )
    try:
        return assemble(registry, shape, ids(Kind.HYPOTHESIS), ids(Kind.DISTANCE), [layer] * given.layers)
    except ValueError as error:
        raise ConfigError(f"space: {error}") from error


def _resolve_scores(
    config: Config, registry: Registry, space: Space
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Ids of all distances to evaluate, and the scores' definitions with ids."""
    scores = {}
    pixel = config.reward.level == "pixel"
    special = (OWN_DISTANCE, HYPOTHESIS, *((CODE,) if pixel else ()))
    for name, (terms, sigma) in config.reward.definitions().items():
        if not terms:
            raise ConfigError(f"reward.scores.{name}: names no term")
        resolved = []
        for term in terms:
            plain, mark = term.removesuffix(PLACE), PLACE if term.endswith(PLACE) else ""
            if mark and not pixel:
                raise ConfigError(f"reward.scores.{name}: {term!r} needs reward.level 'pixel'")
            with at(f"reward.scores.{name}"):
                resolved.append((plain if plain in special else registry.get(Kind.DISTANCE, plain).id) + mark)
        scores[name] = smoothed(resolved, sigma) if pixel else tuple(resolved)
    parts = [part for option in space.choices[1].options for part in str(option).split("+")]
    parts += [t.removesuffix(PLACE) for terms in scores.values() for t in terms if t[0] != SMOOTHED]
    return tuple(dict.fromkeys(p for p in parts if p not in special)), scores


def _machine() -> dict[str, str | int]:
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processor": platform.machine(),
        "cores": os.cpu_count() or 1,
    }
