"""One model as data: to and from values, JSON and YAML, and what is refused on the way in."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoad_core import Choice, Component, Kind
from autoad_core.assemble import component_ids, single_point
from autoad_core.discovery import discover
from autoad_core.errors import AmbiguousName, SpaceError, UnknownName
from autoad_core.registry import Entry, Origin, Registry
from autoad_core.spec import LAYER_CHOICES, LIMITS, MAX_LAYERS, Layer, Spec

REGISTRY = discover(builtin_only=True).registry
busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be

LAYER = {
    "channels": 16,
    "kernel": 3,
    "pooling": "average",
    "pooling_kernel": 5,
    "normalization": "none",
    "activation": "relu",
}
DATA: dict[str, Any] = {"hypothesis": "cluster", "distance": "l21+ssim", "layers": [LAYER]}


def with_layer(**changes: Any) -> dict[str, Any]:
    return {**DATA, "layers": [LAYER, {**LAYER, **changes}]}


names = st.text("abcdefghijklmnopqrstuvwxyz-/0123456789", min_size=1, max_size=10)
layers = st.builds(
    Layer,
    channels=st.integers(1, LIMITS["channels"]),
    kernel=st.integers(0, LIMITS["kernel"] // 2).map(lambda k: 2 * k + 1),
    pooling=names,
    pooling_kernel=st.integers(1, LIMITS["pooling_kernel"]),
    normalization=names,
    activation=names,
)
options = st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
specs = st.builds(
    Spec,
    hypothesis=names,
    distance=st.lists(names, min_size=1, max_size=3).map("+".join),
    layers=st.lists(layers, min_size=1, max_size=MAX_LAYERS).map(tuple),
    params=st.dictionaries(names.map(lambda n: f"hypothesis.x.{n}"), options, max_size=3),
)


@busy
@given(specs)
def test_a_spec_survives_json_yaml_and_named_values(spec: Spec) -> None:
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert Spec.from_dict(yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(spec.to_dict()))))) == spec
    assert Spec.from_values(spec.to_values()) == spec
    assert len(str(spec).splitlines()) == 1
    assert "+".join(spec.distances) == spec.distance


def test_a_layer_has_the_papers_six_choices_in_its_order() -> None:
    assert LAYER_CHOICES == ("channels", "kernel", "pooling", "pooling_kernel", "normalization", "activation")


def test_layers_are_read_in_the_order_of_their_numbers() -> None:
    values: dict[str, Any] = {"hypothesis": "h", "distance": "d"}
    for i in (10, 2, 1, 11, 9, 3):
        values |= {f"layer{i}.{k}": v for k, v in {**LAYER, "channels": i}.items()}
    assert [layer.channels for layer in Spec.from_values(values).layers] == [1, 2, 3, 9, 10, 11]


def test_own_choices_are_told_apart_by_slot_and_component() -> None:
    params = {"hypothesis.a.k": 1, "hypothesis.a.m": 2, "hypothesis.ab.k": 3, "distance.a.k": 4}
    spec = Spec("a", "a", (Layer(**LAYER),), params)
    assert spec.own_choices("hypothesis", "a") == {"k": 1, "m": 2}
    assert spec.own_choices("hypothesis", "ab") == {"k": 3}
    assert spec.own_choices("distance", "a") == {"k": 4}
    assert spec.own_choices("distance", "ab") == {}


def test_a_spec_reads_well() -> None:
    spec = Spec.from_dict({**DATA, "layers": [LAYER, {**LAYER, "pooling": "autoad/max", "channels": 8}]})
    assert str(spec) == "cluster | l21+ssim | 16c3 ave5 none relu > 8c3 max5 none relu"
    assert str(spec.resolve(REGISTRY)) == str(spec)


# Names


def test_resolving_replaces_every_short_name() -> None:
    spec = Spec.from_dict(DATA).resolve(REGISTRY)
    assert spec.hypothesis == "autoad/cluster"
    assert spec.distance == "autoad/l21+autoad/ssim"
    layer = replace(
        Layer(**LAYER), pooling="autoad/average", normalization="autoad/none", activation="autoad/relu"
    )
    assert spec.layers == (layer,)
    assert spec.resolve(REGISTRY) == spec


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"hypothesis": "clusters"}, "no hypothesis is called 'clusters'; did you mean cluster"),
        ({"distance": "l21+sim"}, "no distance is called 'sim'; did you mean ssim"),
        ({"distance": "l21+"}, "no distance is called ''"),
        ({"layers": [{**LAYER, "pooling": "mean"}]}, "no pooling is called 'mean'"),
        ({"layers": [{**LAYER, "normalization": "batchnorm"}]}, "no normalization is called 'batchnorm'"),
        ({"layers": [{**LAYER, "activation": "rely"}]}, "no activation is called 'rely'; did you mean relu"),
    ],
)
def test_an_unknown_component_is_named_with_the_nearest(change: dict[str, Any], match: str) -> None:
    with pytest.raises(UnknownName, match=match):
        Spec.from_dict({**DATA, **change}).resolve(REGISTRY)


def test_a_name_that_two_packages_provide_is_refused() -> None:
    registry = Registry()
    component = Component(name="twice", target="json:dumps", summary="")
    for distribution in ("one", "two"):
        registry.add(Entry(Kind.HYPOTHESIS, component, Origin("p", distribution, "1")))
    with pytest.raises(AmbiguousName, match="one/twice, two/twice"):
        Spec.from_dict({**DATA, "hypothesis": "twice"}).resolve(registry)


# What is refused


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (None, "architecture: must have the keys hypothesis, distance, layers, params; got None"),
        ([], "architecture: must have the keys"),
        ({}, "architecture.hypothesis: is missing"),
        ({"hypothesis": "a", "layers": [LAYER]}, "architecture.distance: is missing"),
        ({"hypothesis": "a", "distance": "b"}, "architecture.layers: is missing"),
        ({**DATA, "hypotesis": "x"}, r"architecture.hypotesis: unknown key; did you mean 'hypothesis'\?"),
        ({**DATA, "zzz": 1}, "architecture.zzz: unknown key; known: hypothesis, distance, layers, params"),
        ({**DATA, None: 1}, "architecture.None: unknown key"),
        ({**DATA, (1, "\n"): 1}, "architecture.*: unknown key"),
        ({**DATA, "hypothesis": 5}, "architecture.hypothesis: must be str, got 5"),
        ({**DATA, "distance": ["l1"]}, r"architecture.distance: must be str, got \['l1'\]"),
        ({**DATA, "layers": []}, "architecture.layers: must be a list of 1 to 12 layers"),
        ({**DATA, "layers": [LAYER] * 13}, "architecture.layers: must be a list of 1 to 12 layers"),
        ({**DATA, "layers": LAYER}, "architecture.layers: must be a list"),
        ({**DATA, "layers": "relu"}, "architecture.layers: must be a list"),
        ({**DATA, "layers": [LAYER, "relu"]}, "architecture.layers.1: must have the keys channels, kernel"),
        ({**DATA, "layers": [None]}, "architecture.layers.0: must have the keys"),
        ({**DATA, "params": "ab"}, "architecture.params: must be keys and values"),
        ({**DATA, "params": {"x": [1]}}, r"architecture.params.x: must be str or int or float, got \[1\]"),
        ({**DATA, "params": {"x": True}}, "architecture.params.x: must be str or int or float, got True"),
        (with_layer(chanels=3), "architecture.layers.1.chanels: unknown key; did you mean 'channels'?"),
        (with_layer(channels=True), "architecture.layers.1.channels: must be int, got True"),
        (with_layer(channels=2.0), "architecture.layers.1.channels: must be int, got 2.0"),
        (with_layer(channels="8"), "architecture.layers.1.channels: must be int, got '8'"),
        (with_layer(channels=0), "architecture.layers.1.channels: must be from 1 to 4096, got 0"),
        (with_layer(channels=4097), "architecture.layers.1.channels: must be from 1 to 4096, got 4097"),
        (with_layer(kernel=16**5000), "architecture.layers.1.kernel: must be from 1 to 31, got a huge int"),
        (with_layer(kernel=2), "architecture.layers.1.kernel: must be odd, got 2"),
        (with_layer(kernel=-1), "architecture.layers.1.kernel: must be from 1 to 31, got -1"),
        (with_layer(pooling_kernel=0), "architecture.layers.1.pooling_kernel: must be from 1 to 4096, got 0"),
        (with_layer(activation=None), "architecture.layers.1.activation: must be str, got None"),
    ],
    ids=range(31),
)
def test_a_wrong_architecture_is_refused_with_the_path_of_the_key(data: Any, match: str) -> None:
    with pytest.raises(SpaceError, match=match) as caught:
        Spec.from_dict(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", LAYER_CHOICES)
def test_every_key_of_a_layer_is_needed(name: str) -> None:
    layer = {k: v for k, v in LAYER.items() if k != name}
    with pytest.raises(SpaceError, match=f"architecture.layers.1.{name}: is missing"):
        Spec.from_dict({**DATA, "layers": [LAYER, layer]})


def test_parameters_may_be_left_out() -> None:
    assert Spec.from_dict(DATA) == Spec.from_dict({**DATA, "params": {}})
    assert asdict(Spec.from_dict(DATA).layers[0]) == LAYER


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*LAYER, *DATA, "params"]) | st.integers(), inner, max_size=6)
    ),
    max_leaves=15,
)


@busy
@given(junk, st.sampled_from([None, *DATA, "params"]), st.sampled_from([None, *LAYER]))
def test_any_values_give_a_spec_or_a_space_error(value: Any, key: str | None, inner: str | None) -> None:
    if inner is not None:
        data: Any = with_layer(**{inner: value})
    else:
        data = value if key is None else {**DATA, key: value}
    try:
        spec = Spec.from_dict(data)
    except SpaceError:
        return
    assert Spec.from_dict(spec.to_dict()) == spec


# One architecture as a space


def registry_with_choices() -> Registry:
    registry = Registry()
    for entry in REGISTRY:
        registry.add(entry)
    component = Component(name="mine", target="json:dumps", summary="", choices=(Choice("k", (2, 4)),))
    registry.add(Entry(Kind.HYPOTHESIS, component, Origin("p", "other", "1")))
    return registry


def mine(**params: Any) -> Spec:
    return Spec.from_dict({**DATA, "hypothesis": "mine", "params": params}).resolve(registry_with_choices())


def test_one_architecture_keeps_the_value_given_for_its_own_choice() -> None:
    space = single_point(registry_with_choices(), (1, 8, 8), mine(**{"hypothesis.mine.k": 4}))
    assert space.size == 1
    assert space.decode((0,) * len(space.choices))["hypothesis.mine.k"] == 4


def test_one_architecture_takes_the_first_option_where_none_is_given() -> None:
    space = single_point(registry_with_choices(), (1, 8, 8), mine())
    assert space.size == 1
    assert space.decode((0,) * len(space.choices))["hypothesis.mine.k"] == 2


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"hypothesis.mine.k": 3}, "architecture.params.hypothesis.mine.k: 3 is not one of 2, 4"),
        ({"hypothesis.mine.j": 2}, "architecture.params: no component has the choice 'hypothesis.mine.j'"),
        ({"k": 2}, "architecture.params: no component has the choice 'k'"),
    ],
)
def test_what_no_component_offers_is_refused(params: dict[str, Any], match: str) -> None:
    with pytest.raises(SpaceError, match=match):
        single_point(registry_with_choices(), (1, 8, 8), mine(**params))


# Which components are options


def test_without_names_all_that_can_load_are_options() -> None:
    registry = Registry()
    origin = Origin("p", "x", "1")
    for name, paper, requires in (("a", True, ()), ("b", False, ()), ("c", False, ("no_such_module",))):
        component = Component(
            name=name, target="json:dumps", summary="", in_paper=paper, requires=tuple(requires)
        )
        registry.add(Entry(Kind.POOLING, component, origin))
    assert component_ids(registry, Kind.POOLING, (), paper=False) == ("x/a", "x/b")
    assert component_ids(registry, Kind.POOLING, (), paper=True) == ("x/a",)
    assert component_ids(registry, Kind.POOLING, ("c", "x/b"), paper=True) == ("x/c", "x/b")
    assert component_ids(registry, Kind.DISTANCE, (), paper=False) == ()
