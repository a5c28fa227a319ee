"""The hypothesis that normal images are those that are reconstructed well (Table I, Rec)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from autoad_core.protocols import Batch


class Reconstruction(nn.Module):
    """||g(f(x)) - x||^2, as the mean over the numbers of an image, so that it does not grow with its size.

    Loss: the mean over the batch; score: (B,) in [0, 1] for images in [0, 1]. There is nothing to fit, and the
    code, of ``dim`` numbers, is not looked at.
    """

    view: Literal["mean", "flat"] = "mean"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def start(self, codes: Tensor) -> None:
        """Nothing to begin with."""

    def refresh(self, codes: Tensor) -> None:
        """Nothing to keep up to date."""

    def loss(self, batch: Batch) -> Tensor:
        return self.score(batch).mean()

    def finish(self, codes: Tensor) -> None:
        """Nothing to fit."""

    def score(self, batch: Batch) -> Tensor:
        return (batch.reconstruction.float() - batch.image.float()).square().flatten(1).mean(1)
