"""Built-in normalizations; the torch code is in `_blocks`."""

from __future__ import annotations

from collections.abc import Iterator

from autoad_core import Component, hookimpl


@hookimpl
def autoad_normalizations() -> Iterator[Component]:
    yield Component(
        name="batch",
        target="autoad_plugins._blocks:BatchNorm",
        summary="Each channel by its mean and variance over the batch, then a learned scale and shift",
        in_paper=True,
    )
    yield Component(
        name="instance",
        target="autoad_plugins._blocks:InstanceNorm",
        summary="Each channel of each image by its own mean and variance; nothing is learned",
        in_paper=True,
        identity_on_1x1=True,
    )
    yield Component(
        name="none",
        target="torch.nn:Identity",  # takes, and ignores, the number of channels
        summary="No normalization",
        in_paper=True,
        identity_on_1x1=True,
    )
