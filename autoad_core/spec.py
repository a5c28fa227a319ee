"""One model as data: the triple (architecture, hypothesis, distance) of the paper's section III-B, named."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from autoad_core.component import Kind
from autoad_core.errors import SpaceError, shown
from autoad_core.registry import Registry
from autoad_core.space import Option

MAX_LAYERS = 12  # of an architecture that is read; the search space has up to 6
LIMITS = {"channels": 4096, "kernel": 31, "pooling_kernel": 4096}


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
            SpaceError: Missing or unknown keys, or values of the wrong type or size, with the path of the key.
        """
        where = "architecture"
        given = {"params": {}, **_keys(data, cls, where, optional=("params",))}
        for name in ("hypothesis", "distance"):
            _typed(given[name], (str,), f"{where}.{name}")
        layers, params = given["layers"], given["params"]
        if not isinstance(layers, list | tuple) or not 1 <= len(layers) <= MAX_LAYERS:
            raise SpaceError(f"{where}.layers: must be a list of 1 to {MAX_LAYERS} layers")
        if not isinstance(params, Mapping):
            raise SpaceError(f"{where}.params: must be keys and values")
        for name, value in params.items():
            _typed(value, (str, int, float), f"{where}.params.{name}")
        made = tuple(_layer(layer, f"{where}.layers.{i}") for i, layer in enumerate(layers))
        return cls(given["hypothesis"], given["distance"], made, dict(params))

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


def _layer(data: Any, where: str) -> Layer:
    given = _keys(data, Layer, where)
    for f in fields(Layer):
        _typed(given[f.name], (int,) if f.type == "int" else (str,), f"{where}.{f.name}")
    for name, most in LIMITS.items():
        if not 1 <= given[name] <= most:
            raise SpaceError(f"{where}.{name}: must be from 1 to {most}, got {shown(given[name])}")
    if given["kernel"] % 2 == 0:
        raise SpaceError(f"{where}.kernel: must be odd, got {shown(given['kernel'])}")
    return Layer(**given)


def _keys(data: Any, model: type[Any], where: str, optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """``data``, if its keys are the fields of ``model``."""
    known = [f.name for f in fields(model)]
    if not isinstance(data, Mapping):
        raise SpaceError(f"{where}: must have the keys {', '.join(known)}; got {shown(data)}")
    for key in data:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise SpaceError(f"{where}.{' '.join(str(key).split())[:80]}: unknown key; {hint}")
    for name in known:
        if name not in data and name not in optional:
            raise SpaceError(f"{where}.{name}: is missing")
    return data


def _typed(value: Any, types: Sequence[type], where: str) -> None:
    if type(value) not in types:
        raise SpaceError(f"{where}: must be {' or '.join(t.__name__ for t in types)}, got {shown(value)}")
