"""Refinements in a chain, on score maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from autoad_core.data import Floats
from autoad_core.errors import DataError
from autoad_core.pictures import Look
from autoad_core.protocols import Refinement


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
