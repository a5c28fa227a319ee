"""What a plugin declares, and the hooks it declares it through."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import pluggy

from autoad_core.space import Choice

API = 1  # bump only when a plugin written for the old number would break
GROUP = f"autoad.v{API}"

hookspec = pluggy.HookspecMarker("autoad")
hookimpl = pluggy.HookimplMarker("autoad")

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Kind(StrEnum):
    """What a plugin can add. The value is the spelling on the command line and in configurations."""

    ACTIVATION = "activation"
    NORMALIZATION = "normalization"
    POOLING = "pooling"
    HYPOTHESIS = "hypothesis"
    DISTANCE = "distance"
    CONTROLLER = "controller"
    DATASET = "dataset"
    REFINEMENT = "refinement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A named promise: ``target`` is imported only when somebody uses it.

    Args:
        name: Lower-case slug, unique within one distribution and kind.
        target: ``"package.module:attribute"`` of a factory, whose call the kind's hook describes.
        summary: One line for ``autoad list-components``.
        choices: Decisions that this component adds to the search space where it is chosen; their values
            reach the factory as keyword arguments. Only hypotheses and distances can have them.
        in_paper: Part of the published search space, which the preset ``paper`` is restricted to.
        identity_on_1x1: For a normalization: it changes nothing on maps of 1x1, so that the search
            counts two such points as one model.
        requires: Modules that must be importable; a missing one is reported without importing the target.
        extra: What to install when one is missing, e.g. ``"autoad[textures]"``.

    Raises:
        ValueError: A name or target of the wrong form, or a summary of more than one line.
    """

    name: str
    target: str
    summary: str
    choices: tuple[Choice, ...] = ()
    in_paper: bool = False
    identity_on_1x1: bool = False
    requires: tuple[str, ...] = ()
    extra: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"component name {self.name!r} must match {_NAME.pattern}")
        if not _TARGET.fullmatch(self.target):
            raise ValueError(f"{self.name}: target {self.target!r} must read 'package.module:attribute'")
        if "\n" in self.summary:
            raise ValueError(f"{self.name}: the summary must be one line")


class Hooks:
    """Every hook is optional, takes no arguments, returns declarations and must not import torch."""

    @hookspec
    def autoad_activations(self) -> Iterable[Component]:
        """``make() -> nn.Module``, elementwise, any shape."""
        return ()

    @hookspec
    def autoad_normalizations(self) -> Iterable[Component]:
        """``make(channels: int) -> nn.Module``, (B, C, H, W) to the same shape, 1x1 maps included, also in training and with a
        batch of one. In eval mode an image's result does not depend on the rest of the batch.
        """
        return ()

    @hookspec
    def autoad_poolings(self) -> Iterable[Component]:
        """``make(kernel: tuple[int, int]) -> nn.Module``.

        Stride equals the kernel: (B, C, H, W) to (B, C, ceil(H / kh), ceil(W / kw)). Kernel (1, 1) is the identity.
        """
        return ()

    @hookspec
    def autoad_hypotheses(self) -> Iterable[Component]:
        """``make(dim: int, **choices) -> Hypothesis``: what counts as normal; see `autoad_core.protocols`."""
        return ()

    @hookspec
    def autoad_distances(self) -> Iterable[Component]:
        """``make(**choices) -> Distance`` between an image and its reconstruction; see `autoad_core.protocols`."""
        return ()

    @hookspec
    def autoad_controllers(self) -> Iterable[Component]:
        """``make(space: Space, seed: int, **params) -> Controller``: a search strategy; see `autoad_core.controller`."""
        return ()

    @hookspec
    def autoad_datasets(self) -> Iterable[Component]:
        """``make(root: Path | None, shape: tuple[int, int, int] | None, seed: int, **params) -> Dataset``.

        See `autoad_core.data`. ``root`` is the data root; ``shape`` is the (C, H, W) that is wanted, or None for
        the set's own: a set that cannot follow it cheaply may ignore it, the caller resizes.
        """
        return ()

    @hookspec
    def autoad_refinements(self) -> Iterable[Component]:
        """``make(**params) -> Refinement`` of score maps, which knows the image; see `autoad_core.protocols`."""
        return ()


HOOKS = {
    Kind.ACTIVATION: "autoad_activations",
    Kind.NORMALIZATION: "autoad_normalizations",
    Kind.POOLING: "autoad_poolings",
    Kind.HYPOTHESIS: "autoad_hypotheses",
    Kind.DISTANCE: "autoad_distances",
    Kind.CONTROLLER: "autoad_controllers",
    Kind.DATASET: "autoad_datasets",
    Kind.REFINEMENT: "autoad_refinements",
}
