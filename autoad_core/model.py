"""The child network: encoder and mirrored decoder of eq. 2, built from a spec.

``f_i = ACT(NORM(POOL(CONV)))``. The decoder upsamples (nearest) to the mirrored size, then convolves transposed, normalizes and
activates; the last layer maps to the image's channels with a sigmoid. With ``decoder="paper"`` the transposed convolution
comes before the upsampling.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoad_core.component import Kind
from autoad_core.geometry import Geometry, Shape, Size, measure
from autoad_core.registry import Registry
from autoad_core.spec import Layer, Spec


class Autoencoder(nn.Module):
    """``f`` and ``g`` of eq. 2 for images of ``shape`` (C, H, W).

    Its layers are laid out for that size, and then take images of any size: kernels and pools stay as they are.

    Args:
        aligned: Upsampling brings each position back to the very pixels that it was pooled from. Otherwise positions are spread
            evenly, which drifts by up to one of them where the size is no multiple of the pool.

    Raises:
        UnknownName, BrokenComponent: A component of the spec that is not there or cannot be imported.
    """

    def __init__(
        self,
        spec: Spec,
        shape: Shape,
        registry: Registry,
        decoder: str = "upsample-first",
        *,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.aligned = aligned
        self.geometry: Geometry = measure(spec.layers, shape)
        self.deconvolve_first = decoder == "paper"
        self.encoder = nn.ModuleList()
        self.deconvolutions = nn.ModuleList()
        self.finishes = nn.ModuleList()
        for i, (layer, stage) in enumerate(zip(spec.layers, self.geometry.stages, strict=True)):
            pooling = registry.get(Kind.POOLING, layer.pooling).load()
            convolution = nn.Conv2d(
                stage.channels_in, layer.channels, layer.kernel, padding=layer.kernel // 2
            )
            self.encoder.append(
                nn.Sequential(convolution, pooling(stage.pool), _finish(layer, layer.channels, registry))
            )
            self.deconvolutions.append(
                nn.ConvTranspose2d(layer.channels, stage.channels_in, layer.kernel, padding=layer.kernel // 2)
            )
            self.finishes.append(_finish(layer, stage.channels_in, registry) if i else nn.Sigmoid())

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) float32 in [0, 1] to the code (B, C', H', W'), at the size of ``shape`` that of `Geometry.code`."""
        for layer in self.encoder:
            x = layer(x)
        if self.geometry.squeeze == (1, 1, 1):
            return x
        pooled: Tensor = F.avg_pool3d(
            x.unsqueeze(1), self.geometry.squeeze, ceil_mode=True, count_include_pad=False
        )
        return pooled.squeeze(1)

    def decode(self, code: Tensor, size: Size) -> Tensor:
        """A code to images (B, C, H, W) in [0, 1] of ``size`` (H, W), that of the images that it was made of."""
        x, sizes = code, self.geometry.sizes(size)
        stages = self.geometry.stages
        if self.geometry.squeeze != (1, 1, 1):
            channels = stages[-1].channels
            if self.aligned:
                x = _repeated(x, self.geometry.squeeze[1:], sizes[-1])
            x = F.interpolate(x.unsqueeze(1), (channels, *sizes[-1]), mode="nearest").squeeze(1)
        layers = zip(sizes[:-1], sizes[1:], stages, self.deconvolutions, self.finishes, strict=True)
        for before, after, stage, deconvolution, finish in reversed(list(layers)):
            if self.deconvolve_first:
                x = deconvolution(x)
            if after != before:
                x = (
                    _repeated(x, stage.pool, before)
                    if self.aligned
                    else F.interpolate(x, before, mode="nearest")
                )
            if not self.deconvolve_first:
                x = deconvolution(x)
            x = finish(x)
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction (B, C, H, W) and code (B, C', H', W')."""
        code = self.encode(x)
        return self.decode(code, (x.shape[2], x.shape[3])), code

    def view(self, code: Tensor, view: str) -> Tensor:
        """The code as vectors (B, D) float32: averaged over positions (``mean``), or pooled and ``flat``."""
        code = code.float()
        if view == "mean":
            return code.mean((2, 3))
        if self.geometry.flat_pool > 1:
            code = F.avg_pool2d(code, self.geometry.flat_pool, ceil_mode=True, count_include_pad=False)
        return code.flatten(1)


def _repeated(x: Tensor, times: Size, size: Size) -> Tensor:
    """(B, C, h, w) with each position repeated down and across, cut off at ``size``."""
    wide = x.repeat_interleave(times[0], 2).repeat_interleave(times[1], 3)
    return wide[:, :, : size[0], : size[1]]


def _finish(layer: Layer, channels: int, registry: Registry) -> nn.Sequential:
    """Normalization, then activation."""
    normalization = registry.get(Kind.NORMALIZATION, layer.normalization).load()
    activation = registry.get(Kind.ACTIVATION, layer.activation).load()
    return nn.Sequential(normalization(channels), activation())


def parameters(model: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(p.numel() for p in model.parameters())


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 natively."""
    capability: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capability.get("avx512_bf16") or capability.get("amx_bf16"))
