"""Models on disk: what is written is what is read, and nothing that was tampered with does harm."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits

from autoad_core import Choice, Component, Kind, modelfile
from autoad_core.config import Train
from autoad_core.detector import Detector
from autoad_core.discovery import discover
from autoad_core.errors import BrokenComponent, ModelError, UnknownName
from autoad_core.modelfile import (
    MAX_JSON_BYTES,
    MAX_WEIGHT_BYTES,
    Model,
    load,
    read_json,
    save,
    write_json,
)
from autoad_core.registry import Entry, Origin, Registry
from autoad_core.spec import Layer, Spec
from autoad_core.thresholds import Usual
from autoad_core.training import fit, seed_everything

REGISTRY = discover(builtin_only=True).registry
SHAPE = (1, 8, 8)
SCORES = {"own": ("distance", "hypothesis"), "sum": ("autoad/l2", "hypothesis"), "one": ("autoad/l1",)}
busy = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be


def images(n: int = 60) -> torch.Tensor:
    return torch.from_numpy(load_digits().images[:n, None].astype(np.float32) / 16)


def layer(channels: int = 4, **changes: Any) -> Layer:
    rest = {
        "kernel": 3,
        "pooling": "max",
        "pooling_kernel": 2,
        "normalization": "batch",
        "activation": "tanh",
    }
    return Layer(channels=channels, **{**rest, **changes})


def trained(hypothesis: str = "centroid", **options: Any) -> Detector:
    spec = Spec(hypothesis, "l1+ssim", (layer(), layer(3))).resolve(REGISTRY)
    seed_everything(0)
    detector = Detector(spec, SHAPE, REGISTRY, distances=["autoad/l2"], **options)
    fit(detector, images(), 2, Train(batch_size=20))
    return detector


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "original"
    save(Model(trained(), SCORES, "sum"), folder, {"autoad/centroid": "0.1.0"})
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to tamper with."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the JSON of a file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def terms(model: Model) -> dict[str, Any]:
    return model.detector.raw_terms(images(30))


# Round trip


@pytest.mark.parametrize("hypothesis", [e.id for e in REGISTRY.of(Kind.HYPOTHESIS)])
@pytest.mark.parametrize(
    "options", [{}, {"decoder": "paper"}, {"bfloat16": True}], ids=["plain", "paper", "bfloat16"]
)
def test_a_model_scores_the_same_after_saving_and_loading(
    hypothesis: str, options: dict[str, Any], tmp_path: Path
) -> None:
    detector = trained(hypothesis, **options)
    save(Model(detector, SCORES, "own"), tmp_path / "m", {})
    torch.manual_seed(123)  # nothing may depend on the weights that were drawn on loading
    model = load(tmp_path / "m", REGISTRY)
    raw, again = detector.raw_terms(images(30)), terms(model)
    assert raw.keys() == again.keys()
    assert all(np.array_equal(raw[k], again[k]) for k in raw)
    for definition in SCORES.values():
        assert np.array_equal(detector.score(raw, definition), model.detector.score(again, definition))
    assert model.detector.scales == detector.scales
    assert (model.scores, model.score) == (SCORES, "own")
    assert not any(module.training for module in model.detector.modules())


def test_a_model_says_what_it_is(original: Path) -> None:
    found = read_json(original / "spec.json")
    assert sorted(p.name for p in original.iterdir()) == [
        "calibration.json",
        "spec.json",
        "weights.safetensors",
    ]
    assert found["format"] == modelfile.FORMAT == 3
    assert found["components"] == {"autoad/centroid": "0.1.0"}
    assert found["shape"] == [1, 8, 8]
    assert found["spec"]["hypothesis"] == "autoad/centroid"
    assert found["score"] == "sum"


def test_a_model_keeps_what_is_usual(folder: Path) -> None:
    model = load(folder, REGISTRY)
    assert model.usual == {}
    usual = {name: Usual.of(model(images(20), name)) for name in SCORES}
    save(replace(model, usual=usual), folder, {})
    again = load(folder, REGISTRY)
    assert again.usual == usual
    assert again.detector.scales == model.detector.scales
    assert usual["sum"].scores == tuple(sorted(model(images(20), "sum").tolist()))


def test_a_model_replaces_the_one_that_was_there(original: Path, tmp_path: Path) -> None:
    target = tmp_path / "m"
    target.mkdir()
    (target / "old").write_text("old")
    save(load(original, REGISTRY), target, {})
    assert sorted(p.name for p in target.iterdir()) == sorted(p.name for p in original.iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["m"]  # nothing is left beside it


def test_folders_above_a_model_are_made(original: Path, tmp_path: Path) -> None:
    save(load(original, REGISTRY), tmp_path / "a" / "b" / "m", {})
    assert load(tmp_path / "a" / "b" / "m", REGISTRY).score == "sum"


def test_nothing_is_written_where_writing_fails(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(original, REGISTRY)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(modelfile, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        save(model, tmp_path / "m", {})
    assert not (tmp_path / "m").exists()
    monkeypatch.undo()
    save(model, tmp_path / "m", {})  # what was left aside is in nobody's way
    assert load(tmp_path / "m", REGISTRY).score == "sum"


# Versions and components


@pytest.mark.parametrize("version", [0, 1, 2, "3", None, [3], 3.5])
def test_a_model_of_another_version_says_so(folder: Path, version: Any) -> None:
    edit(folder / "spec.json", lambda d: d.update(format=version))
    with pytest.raises(
        ModelError, match=r"model format .*, this version reads 3; train it again or use the version"
    ):
        load(folder, REGISTRY)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"'])
def test_a_description_that_is_no_object_is_no_model(folder: Path, content: str) -> None:
    (folder / "spec.json").write_text(content)
    with pytest.raises(ModelError, match="model format None"):
        load(folder, REGISTRY)


def test_a_component_that_is_not_installed_is_named(folder: Path) -> None:
    edit(folder / "spec.json", lambda d: d["spec"].update(hypothesis="other/shell"))
    with pytest.raises(UnknownName, match="no hypothesis is called 'other/shell'"):
        load(folder, REGISTRY)


def test_a_component_that_cannot_be_imported_is_named(folder: Path) -> None:
    registry, origin = Registry(), Origin("p", "other", "1")
    for entry in REGISTRY:
        registry.add(entry)
    registry.add(Entry(Kind.HYPOTHESIS, Component(name="gone", target="no_such:x", summary=""), origin))
    edit(folder / "spec.json", lambda d: d["spec"].update(hypothesis="other/gone"))
    with pytest.raises(BrokenComponent, match="'other/gone' from other 1"):
        load(folder, registry)


# Damaged descriptions


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("spec"),
        lambda d: d.pop("shape"),
        lambda d: d.pop("decoder"),
        lambda d: d.pop("bfloat16"),
        lambda d: d.pop("distances"),
        lambda d: d.pop("scores"),
        lambda d: d.pop("score"),
        lambda d: d.update(spec=5),
        lambda d: d["spec"].pop("layers"),
        lambda d: d["spec"].update(layers=[]),
        lambda d: d["spec"].update(layers=d["spec"]["layers"] * 7),
        lambda d: d["spec"]["layers"][0].update(channels="4"),
        lambda d: d["spec"]["layers"][0].update(kernel=4),
        lambda d: d["spec"]["layers"][0].update(kernel=-3),
        lambda d: d["spec"].update(hypothesis=None),
        lambda d: d["spec"].update(distance=7),
        lambda d: d["spec"].update(params={"hypothesis.centroid.nu": 0.5}),
        lambda d: d["spec"].update(params={"x": [1]}),
        lambda d: d.update(shape=[1, 8]),
        lambda d: d.update(shape=[1, 8, 8, 1]),
        lambda d: d.update(shape=[1, 8, "8"]),
        lambda d: d.update(shape=[1, 8, 8.5]),
        lambda d: d.update(shape=[1, 8, True]),
        lambda d: d.update(shape=[1, 8, 0]),
        lambda d: d.update(shape=[1, -8, -8]),
        lambda d: d.update(shape=[1, 8, math.inf]),
        lambda d: d.update(shape=[1, 8, math.nan]),
        lambda d: d.update(shape=8),
        lambda d: d.update(decoder="sideways"),
        lambda d: d.update(decoder=None),
        lambda d: d.update(distances=3),
        lambda d: d.update(scores=["own"]),
        lambda d: d.update(scores={"sum": 3}),
        lambda d: d.update(scores={"sum": []}),
        lambda d: d.update(scores={}),
        lambda d: d.update(scores={"sum": ["autoad/l1", "autoad/relative"]}),
        lambda d: d.update(scores={"sum": "hypothesis"}),
        lambda d: d.update(score="other"),
        lambda d: d.update(score=None),
    ],
    ids=range(39),
)
def test_a_damaged_description_is_refused(folder: Path, change: Callable[[Any], Any]) -> None:
    edit(folder / "spec.json", change)
    with pytest.raises(ModelError) as caught:
        load(folder, REGISTRY)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ({"channels": 4096, "kernel": 31}, [4096, 8, 8]),  # 129 GB of weights
        ({"channels": 4097}, [1, 8, 8]),
        ({"channels": 10**30}, [1, 8, 8]),
        ({"kernel": 33}, [1, 8, 8]),
        ({}, [1, 2**14, 2**13]),
        ({}, [2**27, 1, 1]),
        ({}, [10**400, 1, 1]),
    ],
    ids=range(7),
)
def test_a_description_of_something_huge_is_refused_before_it_is_built(
    folder: Path, spec: dict[str, int], shape: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*_: Any, **__: Any) -> None:
        raise AssertionError("it was built")

    edit(folder / "spec.json", lambda d: d.update(shape=shape))
    edit(folder / "spec.json", lambda d: d["spec"].update(layers=[{**d["spec"]["layers"][0], **spec}]))
    monkeypatch.setattr(modelfile, "Detector", built)
    with pytest.raises(ModelError, match=r"spec.json or calibration.json is damaged"):
        load(folder, REGISTRY)


class Greedy:
    """A hypothesis that would take whatever memory it is told to."""

    def __init__(self, dim: int, size: int = 1) -> None:
        raise AssertionError("it was made")


def test_own_choices_that_the_component_does_not_offer_are_refused(folder: Path) -> None:
    registry = Registry()
    for entry in REGISTRY:
        registry.add(entry)
    greedy = Component(
        name="greedy", target=f"{__name__}:Greedy", summary="", choices=(Choice("size", (1, 2)),)
    )
    registry.add(Entry(Kind.HYPOTHESIS, greedy, Origin("p", "other", "1")))
    params = {"hypothesis.greedy.size": 10**12}
    edit(folder / "spec.json", lambda d: d["spec"].update(hypothesis="other/greedy", params=params))
    with pytest.raises(ModelError, match="1000000000000 is not one of 1, 2"):
        load(folder, registry)


# Damaged calibrations


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d["terms"].pop("hypothesis"), "calibration.json lacks 'hypothesis'"),
        (lambda d: d["terms"].pop("autoad/l2"), "calibration.json lacks 'autoad/l2'"),
        (lambda d: d["terms"].clear(), "calibration.json lacks"),
        (lambda d: d["terms"].update(hypothesis=[0, 0]), "a scale that is not positive and finite"),
        (lambda d: d["terms"].update(hypothesis=[0, -1]), "a scale that is not positive and finite"),
        (lambda d: d["terms"].update(hypothesis=[0, math.inf]), "a scale that is not positive and finite"),
        (lambda d: d["terms"].update(hypothesis=[0, math.nan]), "a scale that is not positive and finite"),
        (lambda d: d["terms"].update(hypothesis=[math.nan, 1]), "a scale that is not positive and finite"),
        (lambda d: d["terms"].update(hypothesis=[math.inf, 1]), "a scale that is not positive and finite"),
        (lambda d: d["terms"].update(hypothesis=[10**400, 1]), "is damaged"),
        (lambda d: d["terms"].update(hypothesis=[1]), "is damaged"),
        (lambda d: d["terms"].update(hypothesis=1), "is damaged"),
        (lambda d: d["terms"].update(hypothesis=["a", "b"]), "is damaged"),
        (lambda d: d.clear(), "is damaged"),
        (lambda d: d.update(usual=3), "is damaged"),
        (
            lambda d: d.update(usual={"sum": {"scores": [2, 1], "pixels": [], "connected": None}}),
            "is damaged",
        ),
        (
            lambda d: d.update(usual={"sum": {"scores": [1, math.nan], "pixels": [], "connected": None}}),
            "is damaged",
        ),
        (lambda d: d.update(usual={"sum": {"scores": [1], "pixels": [1, 2], "connected": 1}}), "is damaged"),
        (lambda d: d.update(usual={"sum": {"scores": [1]}}), "is damaged"),
        (lambda d: d.update(usual={"sum": {"scores": [1], "pixels": [], "connected": 3}}), "is damaged"),
        (lambda d: d.update(usual={"sum": {"scores": [1], "pixels": [], "connected": None}}), "does not fit"),
        (
            lambda d: d.update(refined={"sum": {"scores": [1], "pixels": [], "connected": None}}),
            "does not fit",
        ),
    ],
    ids=range(22),
)
def test_a_damaged_calibration_is_refused(folder: Path, change: Callable[[Any], Any], match: str) -> None:
    edit(folder / "calibration.json", change)
    with pytest.raises(ModelError, match=match):
        load(folder, REGISTRY)


# Files that are missing or something else


@pytest.mark.parametrize("name", ["spec.json", "calibration.json", "weights.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        load(folder, REGISTRY)
    (folder / name).mkdir()
    with pytest.raises(ModelError, match=name):
        load(folder, REGISTRY)


def test_a_folder_that_is_no_model_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ModelError, match=r"spec.json: cannot be read .*; is .* a model folder\?"):
            load(path, REGISTRY)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b"nonsense",
        b'{"format": 2} more',
        b"9" * 5000,
        pickle.dumps({"format": 2}),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("name", ["spec.json", "calibration.json"])
def test_what_is_not_json_is_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        load(folder, REGISTRY)


def test_files_larger_than_any_of_ours_are_refused_unread(folder: Path) -> None:
    with (folder / "weights.safetensors").open("r+b") as file:
        file.truncate(MAX_WEIGHT_BYTES + 1)  # a hole: takes no disk
    with pytest.raises(ModelError, match=f"larger than {MAX_WEIGHT_BYTES} bytes"):
        load(folder, REGISTRY)
    with (folder / "calibration.json").open("r+b") as file:
        file.truncate(MAX_JSON_BYTES + 1)
    with pytest.raises(ModelError, match=f"larger than {MAX_JSON_BYTES} bytes"):
        load(folder, REGISTRY)


def test_files_of_the_largest_size_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(folder / n).stat().st_size for n in ("spec.json", "weights.safetensors")]
    monkeypatch.setattr(
        modelfile, "MAX_JSON_BYTES", max(sizes[0], (folder / "calibration.json").stat().st_size)
    )
    monkeypatch.setattr(modelfile, "MAX_WEIGHT_BYTES", sizes[1])
    assert load(folder, REGISTRY).score == "sum"
    monkeypatch.setattr(modelfile, "MAX_WEIGHT_BYTES", sizes[1] - 1)
    with pytest.raises(ModelError, match="larger than"):
        load(folder, REGISTRY)
    monkeypatch.setattr(modelfile, "MAX_JSON_BYTES", sizes[0] - 1)
    with pytest.raises(ModelError, match=r"spec.json: larger than"):
        load(folder, REGISTRY)


# Weights


def tamper(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = folder / "weights.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


KEY = "network.encoder.0.0.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.update({KEY: torch.zeros(4, 1, 3, 4)}), f"does not fit spec.json: '{KEY}' is"),
        (lambda t: t.update({KEY: torch.zeros(4, 9)}), f"'{KEY}' is"),
        (lambda t: t.pop(KEY), f"'{KEY}' is on one side only"),
        (lambda t: t.update(extra=torch.zeros(1)), "'extra' is on one side only"),
        (lambda t: t.update({KEY: t[KEY].double()}), f"'{KEY}' is torch.float64"),
        (lambda t: t.update({KEY: t[KEY].view(torch.int32)}), f"'{KEY}' is torch.int32"),
        (lambda t: t.update({KEY: t[KEY].to(torch.float8_e4m3fn)}), f"'{KEY}' is torch.float8_e4m3fn"),
        (lambda t: t[KEY].fill_(math.nan), "holds numbers that are not finite"),
        (lambda t: t[KEY][3, 0, 2].fill_(math.inf), "holds numbers that are not finite"),
        (lambda t: t["hypothesis.center"].fill_(-math.inf), "holds numbers that are not finite"),
        (lambda t: t.clear(), "is on one side only"),
    ],
    ids=range(11),
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], None], match: str
) -> None:
    tamper(folder, change)
    with pytest.raises(ModelError, match=match):
        load(folder, REGISTRY)


def test_weights_are_never_unpickled(folder: Path) -> None:
    """A torch checkpoint under the name of ours, whose unpickling would leave a file behind."""
    trace = folder / "trace"

    class Exploit:
        def __reduce__(self) -> Any:
            return Path.touch, (trace,)

    for data in (pickle.dumps(Exploit()), b""):
        (folder / "weights.safetensors").write_bytes(data)
        with pytest.raises(ModelError, match="damaged or not safetensors"):
            load(folder, REGISTRY)
    torch.save({"x": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(ModelError, match="damaged or not safetensors"):
        load(folder, REGISTRY)
    assert not trace.exists()


def header(content: bytes) -> tuple[dict[str, Any], bytes]:
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_header(head: Any, body: bytes) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + body


def changed_entry(head: dict[str, Any], key: str = KEY, **changes: Any) -> dict[str, Any]:
    return {**head, key: {**head[key], **changes}}


@pytest.mark.parametrize(
    "change",
    [
        lambda head, body: with_header(changed_entry(head, data_offsets=[0, 2**60]), body),
        lambda head, body: with_header(changed_entry(head, data_offsets=[-8, 8]), body),
        lambda head, body: with_header(changed_entry(head, data_offsets=[16, 8]), body),
        lambda head, body: with_header(changed_entry(head, shape=[2**40, 2**40]), body),
        lambda head, body: with_header(changed_entry(head, shape=[-4, 1, 3, 3]), body),
        lambda head, body: with_header(changed_entry(head, dtype="F99"), body),
        lambda head, body: with_header(changed_entry(head, dtype="I32"), body),
        lambda head, body: with_header({k: v for k, v in head.items() if k != KEY}, body),
        lambda head, body: with_header(b"{}", body),
        lambda head, body: with_header(b"[" * 10_000, body),
        lambda head, body: with_header(b"\xff" * 50, body),
        lambda head, body: with_header(head, body[:-4]),
        lambda head, body: with_header(head, body + b"more"),
        lambda head, body: struct.pack("<Q", 2**63) + json.dumps(head).encode() + body,
        lambda head, body: struct.pack("<Q", 10**9) + json.dumps(head).encode() + body,
        lambda head, body: b"\x00" * 8 + body,
        lambda head, body: b"\x00",
    ],
    ids=range(17),
)
def test_a_tampered_header_is_refused(folder: Path, change: Callable[[Any, bytes], bytes]) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(change(*header(path.read_bytes())))
    with pytest.raises(ModelError, match=r"weights\.safetensors") as caught:
        load(folder, REGISTRY)
    assert "\n" not in str(caught.value)


def test_any_flipped_bits_in_the_header_are_refused_or_do_no_harm(folder: Path) -> None:
    """300 times one to three bits of the header: a ModelError, or a model that gives the terms of the original."""
    path = folder / "weights.safetensors"
    content = path.read_bytes()
    end = 8 + struct.unpack("<Q", content[:8])[0]
    wanted = {k: v.clone() for k, v in load(folder, REGISTRY).detector.state_dict().items()}
    rng = random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            found = load(folder, REGISTRY).detector.state_dict()
        except ModelError:
            refused += 1
            continue
        assert found.keys() == wanted.keys()
        same = all(torch.equal(v, wanted[k]) for k, v in found.items())
        assert (
            same or header(bytes(damaged))[0] != header(content)[0]
        )  # two tensors of one shape changed names
    assert refused > 250


@settings(busy, max_examples=60)
@given(content=st.binary(max_size=200))
def test_any_bytes_as_weights_are_refused(original: Path, content: bytes) -> None:
    detector = load(original, REGISTRY).detector
    path = original.parent / "fuzz.safetensors"
    for data in (content, struct.pack("<Q", len(content)) + content):
        path.write_bytes(data)
        with pytest.raises(ModelError):
            modelfile._load_weights(detector, path)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**6) | st.just(10**400) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
FIELDS = ["spec", "shape", "decoder", "bfloat16", "distances", "scores", "score", "components"]
SPEC_FIELDS = ["hypothesis", "distance", "layers", "params"]


@settings(busy, max_examples=150)
@given(value=values, field=st.sampled_from([*FIELDS, *SPEC_FIELDS, "calibration"]))
def test_any_values_in_the_json_are_refused_or_do_no_harm(original: Path, value: Any, field: str) -> None:
    folder = original.parent / "fuzz"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    description = json.loads((folder / "spec.json").read_text())
    if field == "calibration":
        edit(folder / "calibration.json", lambda d: d["terms"].update(hypothesis=value))
    elif field in SPEC_FIELDS:
        description["spec"][field] = value
    else:
        description[field] = value
    (folder / "spec.json").write_text(json.dumps(description))
    try:
        model = load(folder, REGISTRY)
    except (ModelError, UnknownName) as error:
        text = str(error)
    else:
        text = ""
        for definition in model.scores.values():
            assert np.isfinite(model.detector.score(terms(model), definition)).all()
    assert "\n" not in text


# JSON


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2.5, None, "é"]})
    assert read_json(path) == {"a": [1, 2.5, None, "é"]}
    for wrong in (math.nan, {"a": object()}):
        with pytest.raises((ValueError, TypeError)):
            write_json(path, wrong)
        assert read_json(path) == {"a": [1, 2.5, None, "é"]}
    write_json(path, 3)
    assert read_json(path) == 3
