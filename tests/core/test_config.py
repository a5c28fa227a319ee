"""Configurations: what is read, what is refused, and that nothing but a ConfigError ever comes out of bad input."""

from __future__ import annotations

import datetime
import math
import random
import string
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from autoad_core import config as config_module
from autoad_core.config import (
    IMAGES_SHOWN,
    MAX_CONFIG_BYTES,
    PRESETS,
    Config,
    Ref,
    Train,
    budget,
    load,
    merge,
    parse,
)
from autoad_core.errors import (
    AmbiguousName,
    AutoADError,
    BrokenComponent,
    ConfigError,
    DataError,
    UnknownName,
    shown,
)
from autoad_core.errors import at as at_key

busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be


def message(data: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(data)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    return text.removeprefix("configuration: ")


# What is read


def test_an_empty_configuration_is_the_default() -> None:
    config = parse({})
    assert config.data.dataset == Ref(name="digits")
    assert config.controller.name == "regularized-evolution"
    assert (config.space.layers, config.search.lag, config.train.batch_size) == (3, 8, 64)
    assert config.train.learning_rate == 3e-3
    assert config.search.max_cost == 0.75
    assert config.search.first_budget == 0.25
    assert (config.data.search_normal, config.data.search_anomalous) == (500, 300)
    assert config.data.contamination == 0.05
    assert config.space.channels == (3, 8, 16, 32, 64, 128, 256)
    assert config.space.kernel == config.space.pooling_kernel == (1, 3, 5, 7)


def test_a_bare_name_stands_for_a_component_without_parameters() -> None:
    short = parse(
        {"controller": "random", "data": {"anomalies": ["mnist", {"name": "svhn", "params": {"k": 1}}]}}
    )
    assert short.controller == Ref(name="random", params={})
    assert short.data.anomalies == (Ref(name="mnist"), Ref(name="svhn", params={"k": 1}))
    assert short == parse(
        {
            "controller": {"name": "random"},
            "data": {"anomalies": [{"name": "mnist"}, {"name": "svhn", "params": {"k": 1}}]},
        }
    )


def test_a_configuration_survives_being_written_and_read() -> None:
    given_ = {
        "seed": 2**63 - 1,
        "data": {"root": "/somewhere", "anomalies": [{"name": "a", "params": {"b": [1, {"c": None}]}}]},
        "space": {"hypothesis": ["cluster"], "channels": [8]},
        "reward": {"scores": {"x": ["l2"]}, "aggregate": "mean"},
        "architecture": {"hypothesis": "cluster"},
    }
    config = parse(given_)
    plain = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
    assert parse(plain) == config
    assert config.data.root == Path("/somewhere")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse({}).search.trials = 5


# Presets


def test_the_preset_paper_is_the_published_setting() -> None:
    config = parse({"preset": "paper"})
    assert config.train.learning_rate == 0.1
    assert config.train.precision == "float32"
    assert config.search.max_cost == 1
    assert config.reward.scores == {"own": ("distance", "hypothesis")}
    default = parse({})
    assert default.reward.definitions() == {
        "own": (("distance", "hypothesis"), 0),
        "sum": (("l2", "ssim", "relative", "hypothesis"), 0),
    }


def test_the_default_scores_of_pixels_are_standardised_in_two_ways() -> None:
    found = parse({"reward": {"level": "pixel", "smoothing": 3}}).reward.definitions()
    assert found["own"] == (("distance", "hypothesis"), 3)
    assert found["own@place"] == (("distance@place", "hypothesis@place"), 3)
    assert found["place"] == (("code",), 3)
    assert found.keys() == {"own", "sum", "own@place", "sum@place", "place"}
    given_ = parse({"reward": {"level": "pixel", "scores": {"mine": ["l1"]}, "smoothing": [0, 2.5]}})
    assert given_.reward.definitions() == {"mine ~0": (("l1",), 0), "mine ~2.5": (("l1",), 2.5)}


def test_keys_that_are_given_win_over_the_preset() -> None:
    config = parse(
        {"preset": "paper", "train": {"learning_rate": 0.01}, "reward": {"scores": {"mine": ["l1"]}}}
    )
    assert config.train.learning_rate == 0.01
    assert config.train.precision == "float32"
    assert config.reward.scores == {"mine": ("l1",)}  # replaced whole, not mixed with the preset's


def test_a_preset_is_not_changed_by_its_use() -> None:
    before = repr(PRESETS)
    parse({"preset": "paper", "search": {"max_cost": 0.5}, "train": {"epochs": 3}})
    assert repr(PRESETS) == before


# Merging

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
mappings = st.dictionaries(st.sampled_from(["a", "b", "c"]), plain_values, max_size=3)


def test_merge_goes_section_by_section() -> None:
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}
    assert merge(base, {"a": {"y": {"w": 4}}, "c": 5}) == {
        "a": {"x": 1, "y": {"z": 2, "w": 4}},
        "b": 3,
        "c": 5,
    }
    assert merge(base, {"a": 1}) == {"a": 1, "b": 3}
    assert merge(base, {"b": {"x": 1}}) == {"a": base["a"], "b": {"x": 1}}
    assert merge({"scores": {"a": 1}}, {"scores": {"b": 2}}) == {"scores": {"b": 2}}


@busy
@given(mappings, mappings)
def test_merge_keeps_every_key_and_prefers_what_is_over(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = repr((base, over))
    out = merge(base, over)
    assert repr((base, over)) == before
    assert out.keys() == base.keys() | over.keys()
    for key, value in out.items():
        if key not in over:
            assert value is base[key]
        elif not (isinstance(base.get(key), dict) and isinstance(over[key], dict)):
            assert value is over[key]
    assert repr(merge(base, {})) == repr(merge({}, base)) == repr(dict(base))


# Unknown keys, at every level


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"controler": "random"}, "controler: unknown key; did you mean 'controller'?"),
        ({"serch": {}}, "serch: unknown key; did you mean 'search'?"),
        ({"search": {"trails": 3}}, "search.trails: unknown key; did you mean 'trials'?"),
        ({"train": {"epoch": 3}}, "train.epoch: unknown key; did you mean 'epochs'?"),
        ({"space": {"chanels": [3]}}, "space.chanels: unknown key; did you mean 'channels'?"),
        ({"reward": {"agregate": "mean"}}, "reward.agregate: unknown key; did you mean 'aggregate'?"),
        ({"data": {"datset": "digits"}}, "data.datset: unknown key; did you mean 'dataset'?"),
        ({"data": {"dataset": {"nam": "x"}}}, "data.dataset.nam: unknown key; did you mean 'name'?"),
        ({"controller": {"name": "x", "parms": {}}}, "controller.parms: unknown key; did you mean 'params'?"),
        (
            {"data": {"anomalies": ["a", {"name": "b", "paramz": {}}]}},
            "data.anomalies.1.paramz: unknown key; did you mean 'params'?",
        ),
        ({"controller": {"name": "x", "zzzzzz": 1}}, "controller.zzzzzz: unknown key; known: name, params"),
        (
            {"train": {"!": 1}},
            "train.!: unknown key; known: images, epochs, patch, batch_size, learning_rate, precision",
        ),
        ({"two\nlines": 1}, "two lines: unknown key; known: preset, seed, workers, data, space"),
        ({"x" * 10_000: 1}, "x" * 200 + ": unknown key"),
    ],
)
def test_an_unknown_key_is_named_with_its_path_and_the_nearest(data: dict[str, Any], text: str) -> None:
    assert message(data).startswith(text)


def sections(model: type[Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], type[Any]]]:
    """Every section of a configuration, with its path."""
    out = [(path, model)]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            out += sections(field.annotation, (*path, name))
    return out


KEYS = [(path, key) for path, model in sections(Config) for key in model.model_fields]


@pytest.mark.parametrize(("path", "key"), KEYS, ids=[".".join((*p, k)) for p, k in KEYS])
def test_every_key_with_two_letters_swapped_is_found_again(path: tuple[str, ...], key: str) -> None:
    swapped = key[:-2] + key[-1] + key[-2]
    if swapped == key:
        swapped = key + key[-1]
    data: dict[str, Any] = {swapped: None}
    for section in reversed(path):
        data = {section: data}
    assert message(data) == f"{'.'.join((*path, swapped))}: unknown key; did you mean {key!r}?"


# Wrong values


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"search": {"trials": "forty"}}, "search.trials: Input should be a valid integer, got 'forty'"),
        ({"search": {"trials": "40"}}, "search.trials: Input should be a valid integer, got '40'"),
        ({"search": {"trials": 0}}, "search.trials: Input should be greater than or equal to 1, got 0"),
        ({"search": {"trials": True}}, "search.trials: Input should be a valid integer, got True"),
        ({"search": {"trials": 1.5}}, "search.trials: Input should be a valid integer, got 1.5"),
        ({"search": {"trials": [1, 2]}}, "search.trials: Input should be a valid integer, got [1, 2]"),
        ({"search": {"trials": datetime.date(2001, 1, 2)}}, "search.trials: Input should be a valid integer"),
        ({"search": None}, "search: Input should be a valid dictionary"),
        ({"search": {"first_budget": 0}}, "search.first_budget: Input should be greater than 0, got 0"),
        ({"search": {"first_budget": True}}, "search.first_budget: Input should be a valid number, got True"),
        ({"search": {"max_cost": 1.1}}, "search.max_cost: Input should be less than or equal to 1, got 1.1"),
        ({"search": {"memory_limit": math.inf}}, "search.memory_limit: Input should be a finite number"),
        ({"train": {"learning_rate": math.nan}}, "train.learning_rate: Input should be a finite number"),
        ({"train": {"learning_rate": math.inf}}, "train.learning_rate: Input should be a finite number"),
        ({"train": {"images": 1}}, "train.images: Input should be greater than or equal to 2, got 1"),
        (
            {"train": {"precision": "float16"}},
            "train.precision: Input should be 'auto', 'float32' or 'bfloat16'",
        ),
        ({"space": {"layers": 7}}, "space.layers: Input should be less than or equal to 6, got 7"),
        ({"space": {"layers": 0}}, "space.layers: Input should be greater than or equal to 1, got 0"),
        ({"space": {"channels": []}}, "space.channels: Tuple should have at least 1 item"),
        ({"space": {"channels": [8, 0]}}, "space.channels: must be from 1 to 4096, got [8, 0]"),
        ({"space": {"channels": [True]}}, "space.channels.0: Input should be a valid integer, got True"),
        ({"space": {"channels": 8}}, "space.channels: Input should be a valid tuple, got 8"),
        ({"space": {"kernel": [1, 4]}}, "space.kernel: must be odd"),
        ({"space": {"kernel": [33]}}, "space.kernel: must be from 1 to 31, got [33]"),
        ({"space": {"pooling_kernel": [-1]}}, "space.pooling_kernel: must be from 1 to 4096, got [-1]"),
        (
            {"space": {"normalization": [False]}},
            "space.normalization.0: Input should be a valid string, got False",
        ),
        ({"space": {"decoder": "mirror"}}, "space.decoder: Input should be 'upsample-first' or 'paper'"),
        (
            {"data": {"protocol": "odd"}},
            "data.protocol: Input should be 'auto', 'ood', 'one-class' or 'folder'",
        ),
        ({"data": {"anomalies": "mnist"}}, "data.anomalies: Input should be a valid tuple, got 'mnist'"),
        ({"data": {"contamination": 1}}, "data.contamination: Input should be less than 1, got 1"),
        ({"data": {"dataset": None}}, "data.dataset: Input should be a valid dictionary"),
        ({"data": {"dataset": {}}}, "data.dataset.name: Field required"),
        ({"reward": {"scores": {}}}, "reward.scores: Dictionary should have at least 1 item"),
        (
            {"reward": {"aggregate": "max"}},
            "reward.aggregate: Input should be 'minimum' or 'mean', got 'max'",
        ),
        ({"preset": "papr"}, "preset: Input should be 'default' or 'paper', got 'papr'"),
        ({"preset": ["paper"]}, "preset: Input should be 'default' or 'paper'"),
        ({"seed": 2**63}, "seed: Input should be less than 9223372036854775808"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, got -1"),
        ({"workers": -1}, "workers: Input should be greater than or equal to 0, got -1"),
        ({1: 2}, "1: Keys should be strings"),
        ({"data": {None: 2}}, "data.None: Keys should be strings"),
        ({"architecture": {1: 2}}, "architecture.1.[key]: Input should be a valid string"),
        ({"architecture": [1]}, "architecture: Input should be a valid dictionary"),
        ("text", "expected keys and values, got str"),
        (None, "expected keys and values, got NoneType"),
        ([{}], "expected keys and values, got list"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(data: Any, text: str) -> None:
    assert message(data).startswith(text)


BOUNDS = {
    "seed": (0, 2**63 - 1),
    "workers": (0, None),
    "data.train_images": (2, None),
    "data.search_normal": (1, None),
    "data.search_anomalous": (1, None),
    "space.layers": (1, 6),
    "search.trials": (1, None),
    "search.promote": (1, None),
    "search.random_trials": (0, None),
    "search.keep": (1, None),
    "search.lag": (1, None),
    "train.images": (2, None),
    "train.epochs": (1, None),
    "train.patch": (8, 1024),
    "train.batch_size": (1, None),
}
OPEN = {  # numbers that are not whole, between bounds of which only those in brackets are allowed
    "data.contamination": (0, 1, []),
    "search.first_budget": (0, 1, [1]),
    "search.max_cost": (0, 1, [1]),
    "search.time_limit": (0, None, []),
    "search.memory_limit": (0, None, []),
    "train.learning_rate": (0, None, []),
    "reward.area": (0, 1, []),
}


def at(key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.rpartition(".")
    return {section: {name: value}} if section else {name: value}


@pytest.mark.parametrize("key", BOUNDS)
def test_whole_numbers_have_their_bounds(key: str) -> None:
    low, high = BOUNDS[key]
    for value in (low, low + 1, high or 10**6):
        assert parse(at(key, value))
    for value in (low - 1, *([high + 1] if high else [])):
        assert message(at(key, value)).startswith(f"{key}: Input should be ")


@pytest.mark.parametrize("key", OPEN)
def test_other_numbers_have_their_bounds(key: str) -> None:
    low, high, allowed = OPEN[key]
    for value in (low + 1e-6, (high or 1000) - 1e-6, *allowed):
        assert parse(at(key, value))
    for value in {low, -1, *([high, high + 1e-6] if high else [])} - set(allowed):
        assert message(at(key, value)).startswith(f"{key}: Input should be ")


def test_every_number_has_bounds_that_are_tested() -> None:
    numbers = {
        ".".join((*path, name))
        for path, model in sections(Config)
        for name, field in model.model_fields.items()
        if any(hasattr(m, bound) for m in field.metadata for bound in ("ge", "gt", "le", "lt"))
    }
    assert numbers == {*BOUNDS, *OPEN}


def test_smoothing_may_be_nothing() -> None:
    for value in (0, 0.5, 100, [0, 100]):
        assert parse({"reward": {"smoothing": value}})
    for value in (-1e-6, 100.1, [3, -1], True):
        assert message({"reward": {"smoothing": value}}).startswith("reward.smoothing.")
    assert message({"reward": {"smoothing": []}}).startswith("reward.smoothing: ")


@pytest.mark.parametrize(
    "huge", [16**5000, -(16**5000), "x" * 10**6, ["y"] * 10**5], ids=["int", "negative", "text", "list"]
)
@pytest.mark.parametrize("key", ["seed", "preset"])
def test_a_huge_value_makes_a_short_message(key: str, huge: Any) -> None:
    message({key: huge})


def test_a_value_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["params"] = {"more": endless}
    endless["name"] = "x"
    loop: list[Any] = []
    loop.append(loop)
    for data in ({"data": {"normal": loop}}, {"architecture": endless, "space": loop}):
        message(data)


def test_what_could_not_be_written_down_is_refused() -> None:
    """A run begins by writing its configuration."""
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, b"\xff"):
        for data in ({"architecture": {"a": value}}, {"controller": {"name": "x", "params": {"a": value}}}):
            assert message(data)
        assert message({"seed": value}).startswith("seed: Input should be a valid integer, got ")


@pytest.mark.parametrize("value", ["a\nb", "é" * 200, 10**5000, [["\n"]], object], ids=range(5))
def test_values_are_shown_in_one_short_line(value: Any) -> None:
    assert len(shown(value)) <= 80
    assert "\n" not in shown(value)


def test_short_values_are_shown_whole() -> None:
    assert shown("ab") == "'ab'"
    assert shown(list(range(5))) == "[0, 1, 2, 3, 4]"
    assert shown("x" * 100) == "'" + "x" * 76 + "..."


# Files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "search.yaml"


def refused(file: Path, content: str | bytes) -> str:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    return text.removeprefix(f"{file}: ")


def test_a_file_gives_its_plain_values(file: Path) -> None:
    file.write_text("seed: 3\ndata: {dataset: digits}\nspace:\n  normalization: [none]\n")
    assert load(file) == {"seed": 3, "data": {"dataset": "digits"}, "space": {"normalization": ["none"]}}


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file_says_nothing(file: Path, content: str) -> None:
    file.write_text(content)
    assert load(file) == {}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("just words", "expected keys and values, got str"),
        ("- a\n- b\n", "expected keys and values, got list"),
        ("a: [1", "not YAML (while parsing a flow sequence"),
        ("a: 1\n  b: 2", "not YAML (mapping values are not allowed here"),
        ("\tseed: 1", "not YAML (while scanning for the next token found character '\\t'"),
        ("--- a: 1\n--- b: 2", "not YAML ("),
        (b"seed: \xff\xfe", "cannot be read ('utf-8' codec can't decode"),
        (b"\x89PNG\r\n\x1a\n", "cannot be read ('utf-8' codec can't decode"),
        ("seed: \x00", "not YAML (unacceptable character"),
        ("search: {trials: 1}\nseed: 1\nsearch: {lag: 2}", "not YAML (the key 'search' is given twice"),
        ("train: {epochs: 1, epochs: 2}", "not YAML (the key 'epochs' is given twice"),
        ("? [a]\n: 1", "not YAML ("),
        ("[" * 20_000, "not YAML (maximum recursion depth"),
        ("- " * 20_000, "not YAML (maximum recursion depth"),
        ("seed: !!int ''", "not YAML ("),
        ("seed: !!bool perhaps", "not YAML ("),
        ("seed: !!timestamp never", "not YAML ("),
        ("seed: !!float x", "not YAML ("),
        ("seed: 2001-99-99", "not YAML ("),
        ("seed: " + "9" * 5000, "not YAML (Exceeds the limit"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(file: Path, content: str | bytes, text: str) -> None:
    assert refused(file, content).startswith(text)


def test_a_syntax_error_says_where(file: Path) -> None:
    assert "line 2, column 8" in refused(file, "seed: 1\ndata: [")


@pytest.mark.parametrize(
    "content",
    [
        "!!python/object:os.system {}",
        "!!python/object/apply:os.system [touch pwned]",
        "a: !!python/name:os.system",
        "a: !!python/module:os",
        "a: !!python/tuple [1]",
        "a: !mine 1",
    ],
)
def test_tags_that_are_not_plain_yaml_are_refused(
    file: Path, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "could not determine a constructor for the tag" in refused(file, content)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "content",
    [
        "a: &a [*a]",
        "a: &a {b: *a}",
        "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40))]),
        "\n".join(["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 40))]),
    ],
)
def test_a_small_file_cannot_stand_for_a_huge_or_endless_one(file: Path, content: str) -> None:
    assert refused(file, content).startswith("not YAML (aliases are not supported here")


def test_a_large_file_is_refused_unread(file: Path) -> None:
    with file.open("wb") as out:
        out.truncate(MAX_CONFIG_BYTES + 1)
    with pytest.raises(ConfigError, match=f"larger than {MAX_CONFIG_BYTES} bytes; is it a configuration"):
        load(file)


def test_a_file_of_the_largest_size_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("seed: 3 # and so on\n")
    monkeypatch.setattr(config_module, "MAX_CONFIG_BYTES", file.stat().st_size)
    assert load(file) == {"seed": 3}
    monkeypatch.setattr(config_module, "MAX_CONFIG_BYTES", file.stat().st_size - 1)
    with pytest.raises(ConfigError, match="larger than"):
        load(file)


def test_what_is_not_a_file_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.yaml", Path("nul\0byte")):
        with pytest.raises(ConfigError, match="cannot be read"):
            load(path)


# Fuzzing: a configuration, or a ConfigError, whatever comes in

TOKENS = (
    "seed|:| |\n|  |- |[|]|{|}|,|&a|*a|!!int|!!set|!!binary|!!omap|!!timestamp|? |>|'|\"|<<|1|1e9|.nan|0x"
)
yaml_text = st.text(alphabet=string.printable + "é\u2028", max_size=60) | st.lists(
    st.sampled_from([*TOKENS.split("|"), "|", "data", "search", "trials", "null"]), max_size=25
).map("".join)


def attempt(make: Callable[[], Config]) -> Config | None:
    """A configuration, or None for a ConfigError of one line; any other exception passes through."""
    try:
        return make()
    except ConfigError as error:
        text = str(error)
    assert "\n" not in text
    return None


def outcome(content: bytes) -> Config | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.yaml"
        path.write_bytes(content)
        return attempt(lambda: parse(load(path), str(path)))


@busy
@given(yaml_text)
@example("!!int ''")
@example("{? 1: 2}")
@example("!!omap [a: 1]")
@example("a: !!pairs [[1]]")
def test_any_text_gives_a_configuration_or_a_configuration_error(text: str) -> None:
    outcome(text.encode("utf-8", "surrogatepass"))


@busy
@given(st.binary(max_size=60))
def test_any_bytes_give_a_configuration_or_a_configuration_error(content: bytes) -> None:
    outcome(content)


@busy
@given(st.integers(0, 2**32))
def test_a_damaged_configuration_gives_a_configuration_or_a_configuration_error(seed: int) -> None:
    rng = random.Random(seed)
    content = bytearray(yaml.safe_dump(parse({}).model_dump(mode="json")).encode())
    for _ in range(rng.randint(1, 5)):
        content[rng.randrange(len(content))] = rng.choice(b"\x00\xff:{}[]-,'\"\n &*!a1.")
    outcome(bytes(content))


keys = st.sampled_from([k for _, k in KEYS]) | st.text(max_size=6)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=6)
    | st.dates()
    | st.sampled_from(["paper", "digits", "ood", 10**400]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys | st.integers() | st.none() | st.dates(), inner, max_size=4)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=20,
)


@settings(busy, max_examples=300)
@given(anything | st.dictionaries(st.sampled_from(sorted(Config.model_fields)), anything, max_size=4))
def test_any_values_give_a_configuration_or_a_configuration_error(data: Any) -> None:
    attempt(lambda: parse(data))


@pytest.mark.parametrize("kind", [UnknownName, AmbiguousName, BrokenComponent, ConfigError])
def test_what_is_wrong_with_a_name_is_told_with_the_path_of_its_key(kind: type[AutoADError]) -> None:
    with pytest.raises(kind, match=r"^data\.dataset: no such thing$"), at_key("data.dataset"):
        raise kind("no such thing")
    with pytest.raises(DataError, match=r"^damaged$"), at_key("data.dataset"):
        raise DataError("damaged")


def test_configuration_errors_are_for_users() -> None:
    assert issubclass(ConfigError, AutoADError)


# Budgets


def exact(train: Train, available: int, fraction: float) -> Fraction:
    """Image passes of the budget, without rounding."""
    full = min(train.images or available, available)
    passes = train.epochs or -(-IMAGES_SHOWN // full)
    return full * passes * Fraction(fraction)


budgets = st.tuples(
    st.none() | st.integers(2, 10**6),  # images
    st.none() | st.integers(1, 1000),  # epochs
    st.integers(2, 10**6),  # available
    st.floats(1e-3, 1),
)


@busy
@given(budgets)
def test_a_budget_is_the_share_of_the_full_one(case: tuple[int | None, int | None, int, float]) -> None:
    images, epochs, available, fraction = case
    train = Train(images=images, epochs=epochs)
    passes, count = budget(train, available, fraction)
    wanted = exact(train, available, fraction)
    assert passes >= 1
    assert 2 <= count <= available
    if images is not None:
        assert count <= max(2, images)
    assert count == 2 or abs(passes * count - wanted) <= passes / 2 + 1e-6 * wanted
    # Fewer epochs first: no image is left out while a whole epoch could be.
    full = min(images or available, available)
    assert count == full or (passes - 1) * full < wanted * (1 + Fraction(1, 10**6))


@busy
@given(budgets)
def test_a_larger_share_is_never_a_smaller_budget(case: tuple[int | None, int | None, int, float]) -> None:
    images, epochs, available, fraction = case
    train = Train(images=images, epochs=epochs)
    small, large = budget(train, available, fraction / 2), budget(train, available, fraction)
    assert small[0] <= large[0]
    assert small[0] * small[1] <= large[0] * large[1] + large[0]


@pytest.mark.parametrize(
    ("train", "available", "fraction", "result"),
    [
        ({"epochs": 10}, 4000, 1.0, (10, 4000)),
        ({"epochs": 10}, 9000, 1.0, (10, 5000)),
        ({"epochs": 10, "images": None}, 9000, 1.0, (10, 9000)),
        ({"epochs": 10}, 4000, 0.25, (3, 3333)),
        ({"epochs": 2}, 4000, 0.25, (1, 2000)),
        ({"epochs": 1}, 100, 0.001, (1, 2)),
        ({"epochs": 70}, 100, 0.1, (7, 100)),  # 70 * 0.1 is a little more than 7 in floating point
        ({"epochs": 30}, 100, 0.7, (21, 100)),
        ({}, 5000, 1.0, (10, 5000)),  # 50,000 images in all
        ({}, 100_000, 1.0, (10, 5000)),
        ({}, 700, 1.0, (72, 700)),
        ({"images": None}, 60_000, 1.0, (1, 60_000)),
    ],
)
def test_budgets_by_hand(
    train: dict[str, Any], available: int, fraction: float, result: tuple[int, int]
) -> None:
    assert budget(Train(**train), available, fraction) == result
