"""One model as data: the triple (architecture, hypothesis, distance) of the paper's section III-B, named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from autoad_core.component import Kind
from autoad_core.errors import SpaceError
from autoad_core.registry import Entry, Registry
from autoad_core.space import Option


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One encoder layer; the decoder mirrors it.

    Attributes:
        channels: Output channels of the convolution.
        kernel: Odd side of the convolution's kernel, in pixels.
        pooling: Id of the pooling, with ``pooling_kernel`` as side and stride.
        normalization: Id of the normalization.
        activation: Id of the activation.
    """

    channels: int
    kernel: int
    pooling: str
    pooling_kernel: int
    normalization: str
    activation: str


LAYER_CHOICES = tuple(f.name for f in fields(Layer))  # in the paper's order; six choices a layer


@dataclass(frozen=True, slots=True)
class Spec:
    """A child model.

    Attributes:
        hypothesis: Id of the hypothesis.
        distance: Id of the distance; several joined by ``+`` are summed.
        layers: From the image inwards.
        params: Values of the components' own choices, as ``"hypothesis.NAME.CHOICE"``.
    """

    hypothesis: str
    distance: str
    layers: tuple[Layer, ...]
    params: Mapping[str, Option] = field(default_factory=dict)

    @classmethod
    def from_values(cls, values: Mapping[str, Option]) -> Spec:
        """From named values of the search space, as ``Space.decode`` gives them."""
        layers: dict[int, dict[str, Any]] = {}
        params = {}
        for name, value in values.items():
            head, _, tail = name.partition(".")
            if head.startswith("layer"):
                layers.setdefault(int(head[5:]), {})[tail] = value
            elif tail:
                params[name] = value
        return cls(
            str(values["hypothesis"]),
            str(values["distance"]),
            tuple(Layer(**layers[i]) for i in sorted(layers)),
            params,
        )

    def to_values(self) -> dict[str, Option]:
        """The inverse of `from_values`."""
        values: dict[str, Option] = {"hypothesis": self.hypothesis, "distance": self.distance, **self.params}
        for i, layer in enumerate(self.layers, start=1):
            values |= {f"layer{i}.{name}": value for name, value in asdict(layer).items()}
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Spec:
        """From JSON or YAML.

        Raises:
            SpaceError: Missing or unknown keys, or values of the wrong type.
        """
        try:
            layers = tuple(Layer(**layer) for layer in data["layers"])
            spec = cls(data["hypothesis"], data["distance"], layers, dict(data.get("params") or {}))
        except (KeyError, TypeError) as error:
            raise SpaceError(f"not an architecture: {error}") from error
        if unknown := set(data) - {f.name for f in fields(cls)}:
            raise SpaceError(f"not an architecture: unknown key {sorted(unknown)[0]!r}")
        for i, layer in enumerate(layers, start=1):
            for f in fields(Layer):
                wanted = int if f.type == "int" else str
                if type(getattr(layer, f.name)) is not wanted:
                    raise SpaceError(
                        f"layer {i}: {f.name} must be {wanted.__name__}, got {getattr(layer, f.name)!r}"
                    )
            if min(layer.channels, layer.kernel, layer.pooling_kernel) < 1 or layer.kernel % 2 == 0:
                raise SpaceError(f"layer {i}: sizes must be positive and the kernel odd: {layer}")
        if not layers:
            raise SpaceError("not an architecture: it has no layers")
        return spec

    def to_dict(self) -> dict[str, Any]:
        """For JSON and YAML; the inverse of `from_dict`."""
        return asdict(self)

    @property
    def distances(self) -> tuple[str, ...]:
        """Ids of the summed distances."""
        return tuple(self.distance.split("+"))

    def own_choices(self, slot: str, name: str) -> dict[str, Option]:
        """Values of a component's own choices, by choice: what its factory takes as keyword arguments."""
        prefix = f"{slot}.{name}."
        return {k[len(prefix) :]: v for k, v in self.params.items() if k.startswith(prefix)}

    def resolve(self, registry: Registry) -> Spec:
        """The same with every short name replaced by its full id.

        Raises:
            UnknownName, AmbiguousName: A name that the registry cannot settle.
        """

        def full(kind: Kind, name: str) -> str:
            return registry.get(kind, name).id

        return Spec(
            full(Kind.HYPOTHESIS, self.hypothesis),
            "+".join(full(Kind.DISTANCE, d) for d in self.distances),
            tuple(
                replace(
                    layer,
                    pooling=full(Kind.POOLING, layer.pooling),
                    normalization=full(Kind.NORMALIZATION, layer.normalization),
                    activation=full(Kind.ACTIVATION, layer.activation),
                )
                for layer in self.layers
            ),
            self.params,
        )

    def __str__(self) -> str:
        """One line: ``cluster  l21  16x1 avg1 none relu > ...``, short names."""

        def short(name: str) -> str:
            return name.rpartition("/")[2]

        layers = " > ".join(
            f"{x.channels}c{x.kernel} {short(x.pooling)[:3]}{x.pooling_kernel} {short(x.normalization)} {short(x.activation)}"
            for x in self.layers
        )
        return f"{short(self.hypothesis)} | {'+'.join(map(short, self.distances))} | {layers}"


def distance_entries(spec: Spec, registry: Registry) -> list[Entry]:
    """The registry's entries of the distances that ``spec`` sums."""
    return [registry.get(Kind.DISTANCE, d) for d in spec.distances]
