"""What torch components promise. Nothing to inherit: any object of this form will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """What a child model knows about B images. At pixel level a hypothesis gets each position of a code as an image of its own:
    the part of the picture that the position stands for, and its vector.

    Attributes:
        image: (B, C, H, W) float32 in [0, 1].
        reconstruction: (B, C, H, W) float32 in [0, 1], from the decoder.
        code: (B, D) float32, the encoder's output as the hypothesis's ``view`` asks for it.
    """

    image: Tensor
    reconstruction: Tensor
    code: Tensor


@runtime_checkable
class Hypothesis(Protocol):
    """What counts as normal: the regulariser DEFINEREG of eq. 2, as an ``nn.Module``.

    Its parameters are trained with the network; whatever else it fits lies in buffers that exist from the
    beginning and keep their shape, so that ``state_dict`` holds all that `score` needs and loads strictly.
    Its randomness comes from torch's global generator, which the trainer seeds.

    Attributes:
        view: ``"mean"``: the code averaged over positions, D = channels. ``"flat"``: all numbers of the code,
            average-pooled by the smallest factor that leaves at most 512 of them.
    """

    view: Literal["mean", "flat"]

    def start(self, codes: Tensor) -> None:
        """Before the first step, once. ``codes``: (n, D) of the whole training set by the untrained encoder."""

    def refresh(self, codes: Tensor) -> None:
        """After every epoch. ``codes``: (n, D) of the training set as the epoch's steps saw them, detached."""

    def loss(self, batch: Batch) -> Tensor:
        """A scalar to add to the training loss, differentiable; zero where there is no loss term."""

    def finish(self, codes: Tensor) -> None:
        """After the last step, once: fit what `score` needs on (n, D) codes of the training set, then freeze."""

    def score(self, batch: Batch) -> Tensor:
        """(B,) float32, finite; the larger, the less normal. Changes nothing."""

    def state_dict(self) -> dict[str, Any]:
        """As of ``nn.Module``; with ``load_state_dict`` it carries everything that was fitted."""


@runtime_checkable
class Distance(Protocol):
    """How far a reconstruction is from its image: DIST of eq. 2, differentiable in both arguments.

    Attributes:
        reduction: How the map becomes one number an image: the ``"sum"`` or the ``"mean"`` over positions.
    """

    reduction: Literal["sum", "mean"]

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        """Map of distances.

        Args:
            image: (B, C, H, W) float32 in [0, 1].
            reconstruction: The same shape.

        Returns:
            (B, H, W), finite and not negative; zero everywhere where the two are equal.
        """


@runtime_checkable
class Refinement(Protocol):
    """Makes score maps better by looking at the image once more; knows nothing of the model that made them."""

    def __call__(self, images: Tensor, levels: Tensor) -> Tensor:
        """Refined levels.

        Args:
            images: (B, C, H, W) float32 in [0, 1], C 1 or 3.
            levels: (B, H, W) float32 >= 0: 0 for what is usual, 1 where the threshold lies.

        Returns:
            (B, H, W) float32 >= 0, finite, on the same scale.
        """
