"""1 - SSIM (Wang, Bovik, Sheikh and Simoncelli, 2004), fast enough to be trained with.

With s = x + y - 1 and d = x - y, which leave nothing to cancel where x and y are close,

    1 - SSIM = a + b - a b,    a = mean(d)^2 / ((mean(x + y)^2 + mean(d)^2) / 2 + C1)
                               b = var(d) / ((var(s) + var(d)) / 2 + C2)

which is exactly 0 where x = y, and takes four local moments in place of five. The Gaussian window with its
reflecting border is a product with a banded matrix on either side, G_h m G_w, of which only the blocks on
the band are multiplied.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from autoad_plugins._distances import widen

_C1, _C2 = 0.01**2, 0.03**2  # for images in [0, 1]
_SIGMA = 1.5
_RADIUS = 5  # 11x11
_TILE = 32  # rows or columns of a block: enough for a fast product, few enough to skip most zeros
_CACHE_BYTES = 1_400_000  # of moments worked on at a time: what stays in a core's L2 cache


class SSIM:
    """Map mean_c (1 - SSIM), (B, H, W) in [0, 2]; its mean over the whole image, border included, is the distance.

    The window is 11x11, Gaussian with sigma 1.5; on images with a side below 11 it shrinks to the largest odd size
    that fits. Borders reflect (d c b a | a b c d). Moments are float64, since var = E x^2 - (E x)^2 on bright flat
    areas is off by up to 1e-4 of the map in float32; where a gradient is wanted they are no wider than the images,
    which halves the time of a training step.
    """

    reduction: Literal["sum", "mean"] = "mean"

    def __call__(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        x, y = widen(image).flatten(0, 1), widen(reconstruction).flatten(0, 1)
        trained = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
        with torch.autocast(x.device.type, enabled=False):
            planes = _trained(x, y) if trained else _scored(x, y)
        return planes.view(image.shape).mean(1)


def _trained(x: Tensor, y: Tensor) -> Tensor:
    """1 - SSIM of planes, (N, H, W) each, to the same shape; differentiable, in the precision of the planes."""
    height, width = x.shape[-2:]
    radius = _radius(height, width)
    rows, columns = (_window(size, radius, x.dtype, x.device) for size in (height, width))
    count = max(1, _CACHE_BYTES // (4 * height * width * x.dtype.itemsize))
    maps = []
    for p, q in zip(x.split(count), y.split(count), strict=True):
        signals = torch.cat([p + q - 1, p - q])
        moments: Tensor = _Blur.apply(torch.cat([signals, signals * signals]), rows, columns, radius)  # type: ignore[no-untyped-call]
        means, squares = moments.chunk(2)
        maps.append(_combine(means, squares - means * means))
    return torch.cat(maps)


def _scored(x: Tensor, y: Tensor) -> Tensor:
    """1 - SSIM of planes, (N, H, W) each, to the same shape, from moments in float64.

    Bands of rows of a few planes go through two buffers that stay in the cache: fresh memory costs as much as the
    arithmetic.
    """
    planes, height, width = x.shape
    radius = _radius(height, width)
    rows, columns = (_window(size, radius, torch.float64, x.device) for size in (height, width))
    row_bytes = 4 * 8 * width
    count = max(1, min(planes, _CACHE_BYTES // (row_bytes * min(height, _TILE + 2 * radius))))
    step = 2 * _TILE if count == 1 else _TILE
    size = 4 * count * min(height, step + 2 * radius) * width
    first, second = torch.empty(2, size, dtype=torch.float64, device=x.device)
    out = torch.empty_like(x)
    for p, q, target in zip(x.split(count), y.split(count), out.split(count), strict=True):
        for core, wide in _bands(height, radius, step):
            moments = _moments(p[:, wide], q[:, wide], first)
            band = _view(second, len(moments), core.stop - core.start, width)
            torch.bmm(rows[core, wide].expand(len(moments), -1, -1), moments, out=band)
            means, squares = _times_banded(band, columns, radius, _view(first, *band.shape)).chunk(2)
            variances = squares.addcmul_(means, means, value=-1)
            target[:, core] = _combine(means.to(x.dtype), variances.to(x.dtype))
    return out


def _moments(x: Tensor, y: Tensor, buffer: Tensor) -> Tensor:
    """s, d, s^2, d^2 one after the other, (4 n, h, w), in ``buffer``; x, y: (n, h, w)."""
    moments = _view(buffer, 4, *x.shape)
    torch.add(x, y, out=moments[0]).sub_(1)
    torch.sub(x, y, out=moments[1])
    torch.mul(moments[:2], moments[:2], out=moments[2:])
    return moments.flatten(0, 1)


def _combine(means: Tensor, variances: Tensor) -> Tensor:
    """1 - SSIM, (n, h, w), from the moments of s and of d, (2 n, h, w) each."""
    s, d = means.chunk(2)
    var_s, var_d = variances.chunk(2)
    # In place only where autograd has no use for what is overwritten.
    d = d * d
    a = d / (s + 1).square().add_(d).div_(2).add_(_C1)
    b = var_d / (var_s + var_d).div_(2).add_(_C2)
    return (a + b).addcmul_(a, b, value=-1)


class _Blur(torch.autograd.Function):
    """rows @ maps @ columns, of banded matrices: maps (n, H, W), rows (H, H), columns (W, W), to (n, H, W).

    By hand, since autograd would go through every block's slice with a gradient of full size.
    """

    @staticmethod
    def forward(ctx: Any, maps: Tensor, rows: Tensor, columns: Tensor, radius: int) -> Tensor:
        ctx.save_for_backward(rows, columns)
        ctx.radius = radius
        return _times_banded(_banded_times(rows, maps, radius), columns, radius)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, columns = ctx.saved_tensors  # symmetric, so that they are their own adjoints
        return _times_banded(_banded_times(rows, grad, ctx.radius), columns, ctx.radius), None, None, None


def _banded_times(matrix: Tensor, maps: Tensor, radius: int) -> Tensor:
    """matrix @ maps, (H, H) by (n, H, W), skipping blocks of zeros."""
    if len(matrix) <= 2 * _TILE:
        return matrix @ maps
    maps = maps.contiguous()
    out = torch.empty_like(maps)
    for core, wide in _bands(len(matrix), radius, _TILE):
        out[:, core] = matrix[core, wide] @ maps[:, wide]
    return out


def _times_banded(maps: Tensor, matrix: Tensor, radius: int, out: Tensor | None = None) -> Tensor:
    """maps @ matrix, (n, H, W) by (W, W), skipping blocks of zeros; into ``out`` if given."""
    maps = maps.contiguous()
    out = torch.empty_like(maps) if out is None else out
    flat, flat_out = maps.view(-1, len(matrix)), out.view(-1, len(matrix))
    step = len(matrix) if len(matrix) <= 2 * _TILE else _TILE
    for core, wide in _bands(len(matrix), radius, step):
        torch.mm(flat[:, wide], matrix[wide, core], out=flat_out[:, core])
    return out


def _bands(size: int, radius: int, step: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive ranges of ``step``, each with the range of inputs that it depends on."""
    for start in range(0, size, step):
        stop = min(start + step, size)
        yield slice(start, stop), slice(max(0, start - radius), min(size, stop + radius))


def _view(buffer: Tensor, *shape: int) -> Tensor:
    """The beginning of a flat buffer in this shape."""
    size = torch.Size(shape)
    return buffer[: size.numel()].view(size)


def _radius(height: int, width: int) -> int:
    return min(_RADIUS, (min(height, width) - 1) // 2)


@functools.lru_cache(maxsize=16)
def _window(size: int, radius: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(size, size): row i holds the Gaussian weights around i, folded back at the border; symmetric."""
    # A tensor made in inference mode could never be trained with, and this one outlives the mode.
    with torch.inference_mode(False):
        offsets = torch.arange(-radius, radius + 1)
        weights = torch.exp(offsets.double().square() / (-2 * _SIGMA**2))
        places = torch.arange(size)[:, None] + offsets
        places = torch.where(places < 0, -1 - places, places)
        places = torch.where(places >= size, 2 * size - 1 - places, places)
        matrix = torch.zeros(size, size, dtype=torch.float64)
        matrix.scatter_add_(1, places, (weights / weights.sum()).expand(size, -1))
        return matrix.to(device, dtype)
