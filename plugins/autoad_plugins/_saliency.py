"""Refinement by what is an object: the factor s of eq. 20 of the AutoAD paper."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autoad_core.errors import DataError

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, by channel
_U2NET_SIDE = 320
_U2NET = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2netp.onnx"


class Saliency:
    """Levels times saliency: ``alpha = level * s`` (eq. 20, without the factor of Grad-CAM).

    Args:
        saliency: Images (B, 3, H, W) float32 in [0, 1] to (B, h, w) in [0, 1].
    """

    def __init__(self, saliency: Callable[[Tensor], Tensor]) -> None:
        self._saliency = saliency

    def __call__(self, images: Tensor, levels: Tensor) -> Tensor:
        found = self._saliency(images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images)
        wide = F.interpolate(found[:, None], levels.shape[1:], mode="bilinear", align_corners=False)
        return levels * wide[:, 0].clamp(0, 1)


def u2net(*, weights: str | None = None) -> Saliency:
    """By U2-Net small (Qin et al. 2020) on onnxruntime.

    Args:
        weights: Its file; by default u2netp.onnx in the folder that AUTOAD_WEIGHTS names, or here.

    Raises:
        DataError: The file is not there, or not such a network.
    """
    import onnxruntime

    weights = weights or str(Path(os.environ.get("AUTOAD_WEIGHTS", "."), "u2netp.onnx"))
    if not Path(weights).is_file():
        raise DataError(
            f"saliency-u2net: {weights} is no file; get u2netp.onnx, such as from {_U2NET}, and name its folder by AUTOAD_WEIGHTS"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
    except Exception as error:  # of a damaged file it raises anything
        raise DataError(
            f"weights: {weights} is no network for onnxruntime ({error}); get it again"
        ) from error
    if list(given.shape[1:]) != [3, _U2NET_SIDE, _U2NET_SIDE]:
        raise DataError(
            f"weights: {weights} takes {given.shape}, not images of 3x{_U2NET_SIDE}x{_U2NET_SIDE}; it is not U2-Net"
        )
    first = session.get_outputs()[0].name

    def saliency(images: Tensor) -> Tensor:
        size = (_U2NET_SIDE, _U2NET_SIDE)
        small = F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        bright = small / small.amax((1, 2, 3), keepdim=True).clamp(min=1e-6)
        pixels = standardised(bright).numpy()
        found = [session.run([first], {given.name: one[None]})[0][0, 0] for one in pixels]
        maps = torch.from_numpy(np.stack(found))
        low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        out: Tensor = (maps - low) / (high - low).clamp(min=1e-6)
        return out

    return Saliency(saliency)


def deeplab(*, weights: str | None = None) -> Saliency:
    """By DeepLabV3 with ResNet-101 (Chen et al. 2017), as in the paper: one less the probability of background.

    Args:
        weights: A file of its state, as torch saves it or as safetensors; by default torchvision fetches its own, trained on
            COCO with the 21 classes of PASCAL VOC.

    Raises:
        DataError: The file is not there, or holds something else.
    """
    from torchvision.models import segmentation

    from autoad_plugins._pretrained import load_state

    known: Any = segmentation.DeepLabV3_ResNet101_Weights.DEFAULT if weights is None else None
    network = segmentation.deeplabv3_resnet101(
        weights=known, weights_backbone=None, num_classes=21, aux_loss=True
    )
    if weights is not None:
        load_state(network, weights)
    network.eval()

    def saliency(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = network(standardised(images))["out"]
        return 1 - logits.softmax(1)[:, 0]

    return Saliency(saliency)


def standardised(images: Tensor) -> Tensor:
    """Images in [0, 1] as networks trained on ImageNet want them."""
    mean, deviation = (torch.tensor(v)[None, :, None, None] for v in (_MEAN, _DEVIATION))
    return (images - mean) / deviation
