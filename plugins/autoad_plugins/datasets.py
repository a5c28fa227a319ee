"""The built-in data sets. Declarations only; the private modules beside this one do the work."""

from __future__ import annotations

from collections.abc import Iterable

from autoad_core import Component, hookimpl

_HERE = "autoad_plugins"


@hookimpl
def autoad_datasets() -> Iterable[Component]:
    """Embedded sets, sets in their published layouts, and the user's own folders."""
    yield Component(
        name="digits",
        target=f"{_HERE}._embedded:digits",
        summary="Handwritten digits of scikit-learn, 8x8 grey, 10 classes; embedded",
        requires=("sklearn",),
    )
    yield Component(
        name="textures",
        target=f"{_HERE}._textures:make",
        summary="Patches of brick, grass or gravel with pasted defects and masks; embedded",
        requires=("skimage",),
        extra="autoad[textures]",
    )
    yield Component(
        name="gaussian",
        target=f"{_HERE}._embedded:gaussian",
        summary="Gaussian noise of mean 0.5 and variance 1, clipped, in the shape of the normal images",
    )
    yield Component(
        name="uniform",
        target=f"{_HERE}._embedded:uniform",
        summary="Uniform noise in the shape of the normal images",
    )
    yield Component(
        name="mnist",
        target=f"{_HERE}._idx:mnist",
        summary="Handwritten digits, 28x28 grey, 10 classes; IDX files",
    )
    yield Component(
        name="fashion-mnist",
        target=f"{_HERE}._idx:fashion_mnist",
        summary="Articles of clothing, 28x28 grey, 10 classes; IDX files",
    )
    yield Component(
        name="kmnist",
        target=f"{_HERE}._idx:kmnist",
        summary="Cursive Japanese characters, 28x28 grey, 10 classes; IDX files",
    )
    yield Component(
        name="notmnist",
        target=f"{_HERE}._idx:notmnist",
        summary="Letters A to J from many fonts, 28x28 grey, 10 classes; IDX files",
    )
    yield Component(
        name="cifar10",
        target=f"{_HERE}._cifar:make",
        summary="Photographs of animals and vehicles, 32x32 colour, 10 classes; binary version",
    )
    yield Component(
        name="tiny-imagenet",
        target=f"{_HERE}._tiny_imagenet:make",
        summary="Photographs of 200 ImageNet classes, 64x64 colour; folders of JPEG files",
    )
    yield Component(
        name="svhn",
        target=f"{_HERE}._svhn:make",
        summary="House numbers from street views, 32x32 colour, 10 classes; MATLAB files",
    )
    yield Component(
        name="lsun",
        target=f"{_HERE}._lsun:make",
        summary="Scenes; validation databases by category, or a folder such as LSUN_resize",
        extra="autoad[lsun]",
    )
    yield Component(
        name="mvtec-ad",
        target=f"{_HERE}._mvtec:make",
        summary="Industrial products and textures with masked defects, 15 categories; MVTec AD's folders",
    )
    yield Component(
        name="crackforest",
        target=f"{_HERE}._crackforest:make",
        summary="Photographs of roads in tiles with and without cracks, with masks",
    )
    yield Component(
        name="cat",
        target=f"{_HERE}._cat:make",
        summary="Photographs of cats, 224x224 colour, without labels; the Cat data set's folders",
    )
    yield Component(
        name="folder",
        target=f"{_HERE}._folder:make",
        summary="Your own images: train/good and test/<type> (as MVTec AD), good/ and others, or good ones only",
    )
