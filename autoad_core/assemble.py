"""Build the search space of a run from the components that its configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from autoad_core.component import Kind
from autoad_core.errors import SpaceError, shown
from autoad_core.geometry import SameModel, Shape
from autoad_core.registry import Entry, Registry
from autoad_core.space import Choice, Option, Space
from autoad_core.spec import LAYER_CHOICES, Spec


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOptions:
    """What one layer may choose from; ids for components."""

    channels: tuple[int, ...]
    kernel: tuple[int, ...]
    pooling: tuple[str, ...]
    pooling_kernel: tuple[int, ...]
    normalization: tuple[str, ...]
    activation: tuple[str, ...]


def component_ids(registry: Registry, kind: Kind, names: Sequence[str], *, paper: bool) -> tuple[str, ...]:
    """Full ids of the named components, or of all that can load where none is named.

    Args:
        names: Short names or ids; ``a+b`` for a sum of distances.
        paper: With no names, only what the paper's search space has.
    """
    if names:
        return tuple("+".join(registry.get(kind, part).id for part in name.split("+")) for name in names)
    return tuple(e.id for e in registry.of(kind) if (e.component.in_paper if paper else not e.missing()))


def assemble(
    registry: Registry,
    shape: Shape,
    hypotheses: Sequence[str],
    distances: Sequence[str],
    layers: Sequence[LayerOptions],
) -> Space:
    """The space of ``6N + 2`` choices [A, IV-A] and the choices of its components.

    Args:
        shape: (C, H, W) of the images, on which it depends which points are the same model.
        hypotheses: Ids.
        distances: Ids, or ids joined by ``+``.
        layers: Options of each layer, from the image inwards.
    """
    choices = [Choice("hypothesis", tuple(hypotheses)), Choice("distance", tuple(distances))]
    for slot, kind, options in (
        ("hypothesis", Kind.HYPOTHESIS, hypotheses),
        ("distance", Kind.DISTANCE, distances),
    ):
        used = dict.fromkeys(part for option in options for part in option.split("+"))
        for entry in (registry.get(kind, part) for part in used):
            choices += _own_choices(slot, entry, options)
    for i, layer in enumerate(layers, start=1):
        choices += [Choice(f"layer{i}.{name}", tuple(getattr(layer, name))) for name in LAYER_CHOICES]
    identities = {e.id for e in registry.of(Kind.NORMALIZATION) if e.component.identity_on_1x1}
    rule = SameModel(
        size=(shape[1], shape[2]),
        poolings=tuple(o.pooling for o in layers),
        kernels=tuple(o.pooling_kernel for o in layers),
        identities=frozenset(identities),
        normalizations=tuple(o.normalization for o in layers),
    )
    return Space(tuple(choices), rule)


def _own_choices(slot: str, entry: Entry, options: Sequence[Option]) -> list[Choice]:
    """A component's choices, which exist only where one of the options names it."""
    chosen = tuple(o for o in options if entry.id in str(o).split("+"))
    return [
        Choice(f"{slot}.{entry.component.name}.{c.name}", c.options, when=(slot, chosen))
        for c in entry.component.choices
    ]


def single_point(registry: Registry, shape: Shape, spec: Spec) -> Space:
    """The space whose only architecture is ``spec``, for training one that is known.

    Raises:
        SpaceError: A choice that no component of ``spec`` has, or a value that it does not offer.
    """
    layers = [
        LayerOptions(**{name: (value,) for name, value in asdict(layer).items()}) for layer in spec.layers
    ]
    space = assemble(registry, shape, (spec.hypothesis,), (spec.distance,), layers)
    if unknown := sorted(set(spec.params) - {c.name for c in space.choices}):
        raise SpaceError(f"architecture.params: no component has the choice {unknown[0]!r}")
    fixed = []
    for choice in space.choices:
        value = spec.params.get(choice.name, choice.options[0])
        if value not in choice.options:
            options = ", ".join(map(str, choice.options))
            raise SpaceError(f"architecture.params.{choice.name}: {shown(value)} is not one of {options}")
        fixed.append(Choice(choice.name, (value,), choice.when))
    return Space(tuple(fixed), space.rule)
