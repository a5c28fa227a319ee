"""Refinements in a chain, on score maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from autoad_core.component import Kind
from autoad_core.config import Ref
from autoad_core.data import Floats
from autoad_core.errors import DataError
from autoad_core.pictures import Look
from autoad_core.protocols import Refinement
from autoad_core.registry import Registry

LEVEL_RATE = 0.001  # share of the pixels of normal images that lie above level 1


def resolved(registry: Registry, refs: Sequence[Ref]) -> tuple[Ref, ...]:
    """The same refinements by their full ids.

    Raises:
        UnknownName, AmbiguousName: One that is not there.
    """
    return tuple(Ref(name=registry.get(Kind.REFINEMENT, r.name).id, params=r.params) for r in refs)


def chain_of(registry: Registry, refs: Sequence[Ref]) -> tuple[Refinement, ...]:
    """The refinements that are named, ready to work.

    Raises:
        UnknownName, BrokenComponent, ConfigError, DataError: One that is not there, or that lacks something.
    """
    return tuple(registry.get(Kind.REFINEMENT, ref.name).build(ref.params) for ref in refs)


def refined(chain: Sequence[Refinement], images: Floats, maps: Floats, look: Look) -> Floats:
    """Score maps (n, H, W) after each of the refinements, on the scale that they came in.

    Refinements work on levels: 0 for the median pixel of normal images and below, 1 at the contour.

    Args:
        images: (n, C, H, W) float32 in [0, 1].

    Raises:
        DataError: A refinement gave something other than levels of the same shape.
    """
    span = max(look.contour - look.dark, 1e-12)
    levels = torch.from_numpy(np.maximum((maps - look.dark) / span, 0).astype(np.float32))
    pixels = torch.from_numpy(images)
    for refinement in chain:
        found = refinement(pixels, levels)
        if found.shape != levels.shape or not (torch.isfinite(found).all() and (found >= 0).all()):
            raise DataError(
                f"refinement {type(refinement).__name__} gave no finite levels >= 0 of the maps' shape; it is at fault"
            )
        levels = found.float()
    return np.asarray(look.dark + span * levels.numpy(), dtype=np.float32)
