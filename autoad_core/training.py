"""Train a child: Adam, times 0.1 at 50 % and 75 % of the epochs, on tensors in memory (design, 6; [A], V-C).

A child that is laid out for patches, as at pixel level, gets a patch of each image in every epoch, from a random place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autoad_core.config import Train
from autoad_core.detector import Detector
from autoad_core.errors import AutoADError
from autoad_core.geometry import Size

VECTORS = 20_000  # that a hypothesis is fitted on where an image gives more than one, at most


class TrainingFailed(AutoADError):
    """The loss became infinite or NaN, or the network did not take the step."""


def seed_everything(seed: int) -> None:
    """The one place that touches torch's global generator; layers and hypotheses draw their first weights from it."""
    torch.manual_seed(seed)


def fit(detector: Detector, images: Tensor, epochs: int, settings: Train) -> list[float]:
    """Train, fit the hypothesis, and calibrate the scales, all on ``images`` (n, C, H, W) float32 in [0, 1].

    Args:
        images: As large as the detector's ``layout``, or larger.

    Returns:
        The mean training loss of each epoch.

    Raises:
        TrainingFailed: The loss is not finite.
    """
    settle(detector, images, start=True)
    optimizer = torch.optim.Adam(detector.parameters(), lr=settings.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimizer, milestones=sorted({max(1, epochs // 2), max(1, epochs * 3 // 4)}), gamma=0.1
    )
    losses = []
    for _ in range(epochs):
        detector.train()
        loss, codes = _epoch(detector, images, optimizer, settings.batch_size)
        detector.hypothesis.refresh(codes)
        schedule.step()
        losses.append(loss)
    settle(detector, images)
    return losses


def settle(detector: Detector, images: Tensor, *, start: bool = False) -> None:
    """Let the hypothesis see the codes of ``images``: at the ``start`` of training, or to finish and calibrate."""
    detector.eval()
    codes = few(detector.codes(images), max(len(images), VECTORS))
    if not torch.isfinite(codes).all():
        raise TrainingFailed("the encoder gives codes that are not finite")
    if start:
        detector.hypothesis.start(codes)
        return
    with torch.no_grad():
        detector.hypothesis.finish(codes)
    detector.calibrate(images, codes)


def few(rows: Tensor, most: int) -> Tensor:
    """``rows`` (n, ...), or ``most`` of them drawn by torch's global generator where there are more."""
    return rows if len(rows) <= most else rows[torch.randperm(len(rows))[:most]]


def patches(images: Tensor, chosen: Tensor, size: Size) -> Tensor:
    """A patch of ``size`` of each of the ``chosen`` (n,) from (N, C, H, W) images, at a random place; all of it, if no larger.

    Places come from torch's global generator.
    """
    if images.shape[2:] == size:
        return images[chosen]
    rows, columns = (
        torch.randint(whole - part + 1, (len(chosen), 1)) + torch.arange(part)
        for whole, part in zip(images.shape[2:], size, strict=True)
    )
    found = images[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return found.permute(0, 3, 1, 2).contiguous()


def _epoch(
    detector: Detector, images: Tensor, optimizer: torch.optim.Optimizer, batch_size: int
) -> tuple[float, Tensor]:
    """One pass in random order; the mean loss, and the codes (n, D) that the steps saw."""
    total, codes = torch.zeros(()), []
    for rows in torch.randperm(len(images)).split(batch_size):
        loss, code = detector.loss(patches(images, rows, detector.layout[1:]))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(rows)
        codes.append(few(code, max(1, VECTORS // len(images)) * len(rows)))
    mean = float(total) / len(images)
    if mean != mean or mean in (float("inf"), float("-inf")):
        raise TrainingFailed(f"the loss became {mean}")
    return mean, torch.cat(codes)
