"""Tables of measured architectures, and searches in them."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from autoad_cli.main import cli
from autoad_core import launch
from autoad_core.config import parse
from autoad_core.discovery import discover
from autoad_core.errors import AutoADError, ConfigError, DataError, Interrupted, RunError
from autoad_core.geometry import Shape
from autoad_core.run import Run
from autoad_core.table import BUDGETS, PARTS, UNIT, Table

COLUMNS = ("own", "sum", "l1")
SETS = ("mnist", "noise")
LAYER = {
    "channels": (8, 16),
    "kernel": (3,),
    "pooling": ("autoad/max",),
    "pooling_kernel": (1, 3),
    "normalization": ("autoad/none", "autoad/batch"),
    "activation": ("autoad/relu", "autoad/tanh"),
}
CHOICES = {
    "hypothesis": ("autoad/density", "autoad/reconstruction"),
    "distance": ("autoad/l1", "autoad/l2"),
    **{f"layer1.{name}": options for name, options in LAYER.items()},
}


def write(path: Path, seed: int = 0, **changes: Any) -> np.ndarray[Any, Any]:
    """A table of 64 architectures, of which 60 were trained and one failed; its AUROCs (n, budgets, parts, columns, sets)."""
    rng = np.random.default_rng(seed)
    archs = np.array(list(itertools.product(*(range(len(o)) for o in CHOICES.values()))), np.uint8)
    archs = archs[np.sort(rng.permutation(len(archs))[:60])]
    aurocs = rng.uniform(0.4, 1, (60, len(BUDGETS), len(PARTS), len(COLUMNS), len(SETS)))
    coded = np.round(aurocs * UNIT).astype(np.uint16)
    coded[3] = 0
    repeated = np.array([0, 5], np.int32)
    repeats = (
        coded[repeated][:, :1].repeat(2, axis=1) + np.array([1, 3], np.uint16)[None, :, None, None, None]
    )
    meta = {
        "columns": COLUMNS,
        "warnings": ["failed"],
        "tasks": {
            "fashion": {
                "sets": SETS,
                "choices": [{"name": name, "options": options} for name, options in CHOICES.items()],
            }
        },
        "about": {"tasks": {"fashion": {"shape": [1, 28, 28]}}},
    }
    arrays = {
        "meta": np.array(json.dumps(meta)),
        "fashion.archs": archs,
        "fashion.aurocs": coded,
        "fashion.repeated": repeated,
        "fashion.repeats": repeats,
        "fashion.seconds": np.ones((60, 2), np.float32),
        "fashion.flops": np.ones(60, np.int64),
        "fashion.parameters": np.ones(60, np.int64),
        "fashion.warnings": np.zeros(60, np.uint8),
    }
    np.savez_compressed(path, **{k: v for k, v in (arrays | changes).items() if v is not None})
    values = coded / UNIT
    values[3] = np.nan
    return np.asarray(values)


def claim(path: Path, name: str, count: int) -> None:
    """Have the header of an array claim ``count`` entries."""
    with zipfile.ZipFile(path) as old:
        members = {m: old.read(m) for m in old.namelist()}
    text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({count},), }}".ljust(117) + "\n"
    members[f"{name}.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    with zipfile.ZipFile(path, "w") as new:
        for member, data in members.items():
            new.writestr(member, data)


def test_any_flipped_byte_is_noticed_or_harmless(path: Path) -> None:
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(whole), 300):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << rng.integers(8))]) + whole[at + 1 :])
        with suppress(DataError):
            Table.open(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "table.npz")
    return tmp_path / "table.npz"


def test_values_are_those_that_were_written(path: Path) -> None:
    values, table = write(path), Table.open(path)
    task = table.tasks["fashion"]
    assert task.space.size == 64
    assert task.archs.shape == (60, len(CHOICES))
    for (b, budget), (p, part), (c, column) in itertools.product(
        enumerate(BUDGETS), enumerate(PARTS), enumerate(COLUMNS)
    ):
        some = {"score": column, "part": part, "budget": budget}
        for s, anomalies in enumerate(SETS):
            found = table.values("fashion", anomalies=anomalies, **some)  # type: ignore[arg-type]
            np.testing.assert_allclose(found, values[:, b, p, c, s])
        least = table.values("fashion", anomalies="minimum", **some)  # type: ignore[arg-type]
        np.testing.assert_allclose(least, values[:, b, p, c].min(-1))
    mean = table.values("fashion", score="own", anomalies="mean")
    np.testing.assert_allclose(mean, values[:, 0, 0, 0].mean(-1))
    least = values[:, 0, :, :2].min(-1)  # (n, parts, own and sum)
    np.testing.assert_allclose(
        table.values("fashion", score="best", anomalies="minimum"), least[:, 0].max(-1)
    )
    chosen = np.nan_to_num(least[:, 0]).argmax(-1)  # validation decides for test as well
    test = table.values("fashion", score="best", anomalies="minimum", part="test")
    np.testing.assert_allclose(test, least[np.arange(60), 1, chosen])


def test_single_architectures(path: Path) -> None:
    values, table = write(path), Table.open(path)
    archs = list(map(tuple, table.tasks["fashion"].archs.tolist()))
    for i in (0, 3, 59):
        found = table.value(archs[i], "fashion", score="l1", anomalies="noise", part="test")
        assert found is None if i == 3 else found == pytest.approx(values[i, 0, 1, 2, 1])
    every = itertools.product(*(range(len(o)) for o in CHOICES.values()))
    left = next(arch for arch in every if arch not in archs)
    with pytest.raises(DataError, match="was not trained"):
        table.value(left, "fashion", score="own", anomalies="mean")


def test_seeds_start_with_the_first(path: Path) -> None:
    values, table = write(path), Table.open(path)
    found = table.seeds("fashion", score="own", anomalies="mnist")
    first = values[[0, 5], 0, 0, 0, 0]
    np.testing.assert_allclose(found, np.stack([first, first + 1 / UNIT, first + 3 / UNIT], 1))


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"task": "cifar"}, "no task 'cifar'; known: fashion"),
        ({"score": "ssim"}, "no score 'ssim'; known: own, sum, l1"),
        ({"anomalies": "lsun"}, "no anomalies 'lsun'; known: mnist, noise"),
        ({"part": "train"}, "no part 'train'"),
        ({"budget": 0.5}, "no budget 0.5"),
    ],
)
def test_unknown_names_are_said(path: Path, asked: dict[str, Any], error: str) -> None:
    known = {"task": "fashion", "score": "own", "anomalies": "mnist"}
    with pytest.raises(DataError, match=error):
        Table.open(path).values(**(known | asked))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_text("no table"),
        lambda path: write(path, meta=None),
        lambda path: write(path, meta=np.array('{"tasks": [1], "columns": []}')),
        lambda path: write(path, **{"fashion.flops": np.ones(59, np.int64)}),
        lambda path: write(path, **{"fashion.repeated": np.zeros(3, np.int32)}),
        lambda path: claim(path, "fashion.flops", 10**14),
        lambda path: write(path, meta=np.array("{")),
        lambda path: write(path, **{"fashion.archs": None}),
        lambda path: write(path, **{"fashion.archs": np.array([{}], dtype=object)}),
    ],
)
def test_damaged_files_are_refused(path: Path, damage: Callable[[Path], Any]) -> None:
    damage(path)
    with pytest.raises(DataError, match="is no table of architectures"):
        Table.open(path)


# Searches


class Silent:
    def phase(self, name: str, trials: int) -> None: ...

    def trial(self, record: Any, *, fresh: bool) -> None: ...

    def note(self, text: str) -> None: ...


def search(path: Path, folder: Path, stop: Callable[[], bool] = lambda: False, **more: Any) -> dict[str, Any]:
    table = {"path": str(path), "task": "fashion"} | more.pop("table", {})
    config = parse({"table": table, "search": {"trials": 64, "random_trials": 5}} | more)
    return launch.start(config, folder, discover(builtin_only=True), Silent(), stop)


@pytest.mark.parametrize("controller", ["random", "regularized-evolution", "local-search", "bayesian-lstm"])
def test_a_search_of_the_whole_space_finds_the_best(path: Path, tmp_path: Path, controller: str) -> None:
    values = write(path)
    result = search(path, tmp_path / "run", controller=controller)
    best = int(np.nanargmax(values[:, 0, 0, :2].min(-1).max(-1)))
    top = result["models"][0]
    assert top["validation"]["reward"]["value"] == pytest.approx(
        values[best, 0, 0, :2].min(-1).max(), abs=1e-6
    )
    score = values[best, 0, 0, :2].min(-1).argmax()
    assert top["test"]["reward"]["value"] == pytest.approx(values[best, 0, 1, score].min(), abs=1e-6)
    assert [row["name"] for row in result["baselines"]] == ["random search, 5 trials", "best of the table"]
    assert result["baselines"][1]["validation"] == top["validation"]
    assert result["counts"] == {"ok": 59, "failed": 1, "skipped": 4, "cached": 0}
    assert Run(tmp_path / "run").result() == json.loads(json.dumps(result))


def test_the_reward_is_the_figure_that_was_asked_for(path: Path, tmp_path: Path) -> None:
    values = write(path)
    search(path, tmp_path / "run", table={"score": "l1", "anomalies": "noise"})
    rewards = [r["value"] for r in Run(tmp_path / "run").records() if r["status"] == "ok"]
    assert max(rewards) == pytest.approx(float(np.nanmax(values[:, 0, 0, 2, 1])), abs=1e-6)


def test_a_stopped_search_goes_on_as_if_it_had_not(path: Path, tmp_path: Path) -> None:
    whole = search(path, tmp_path / "whole")
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        search(path, tmp_path / "run", lambda: next(asked) > 3)
    again = launch.resume(tmp_path / "run", discover(builtin_only=True), Silent())
    assert again == whole
    assert (tmp_path / "run" / "trials.jsonl").read_text() == (
        tmp_path / "whole" / "trials.jsonl"
    ).read_text()


def test_a_run_keeps_to_its_table(path: Path, tmp_path: Path) -> None:
    asked = iter(range(1000))
    with pytest.raises(Interrupted):
        search(path, tmp_path / "run", lambda: next(asked) > 3)
    write(path, seed=1)
    with pytest.raises(RunError, match="the table has changed"):
        launch.resume(tmp_path / "run", discover(builtin_only=True), Silent())


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"table": {"task": "x"}}, "table: no task 'x'"),
        ({"table": {"path": "/nowhere.npz"}}, "table: /nowhere.npz: is no table"),
        ({"controller": "best"}, "controller: "),
        ({"controller": {"name": "random", "params": {"x": 1}}}, "controller: "),
        (
            {"controller": {"name": "bayesian-lstm", "params": {"batch": 0}}},
            "^controller: controller 'autoad/bayesian-lstm': batch must be at least 1, got 0$",
        ),
        ({"controller": {"name": "bayesian-lstm", "params": {"preset": ["a"]}}}, "^controller: controller"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    path: Path, tmp_path: Path, more: dict[str, Any], error: str
) -> None:
    with pytest.raises(AutoADError, match=error):
        search(path, tmp_path / "run", **more)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"table.task: Field required"):
        parse({"table": {"path": "x"}})


def test_the_command_searches_shows_and_says_that_there_is_no_model(path: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"table: {{path: {path}, task: fashion}}\nsearch: {{trials: 20}}\n")
    run = str(tmp_path / "run")
    done = CliRunner().invoke(cli, ["search", str(tmp_path / "c.yaml"), "--run", run])
    assert done.exit_code == 0, done.output
    assert "best of the table" in done.stdout
    assert "predict" not in done.stdout
    assert CliRunner().invoke(cli, ["show", run]).stdout == done.stdout
    refused = CliRunner().invoke(cli, ["predict", run, "x.png"])
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {run}: its trials were looked up in a table, and there is no model\n"


# The generator


@pytest.fixture
def generator() -> ModuleType:
    file = Path(__file__).parents[2] / "benchmarks" / "adnas" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("task", "shape", "size"),
    [("fashion-mnist", (1, 28, 28), 4608), ("mnist-8", (1, 28, 28), 1536), ("cifar10", (3, 32, 32), 1536)],
)
def test_the_spaces_of_the_benchmark_are_enumerated(
    generator: ModuleType, task: str, shape: Shape, size: int
) -> None:
    registry = discover(builtin_only=True).registry
    space = generator.make_space(registry, shape, generator.TASKS[task].layers)
    archs = generator.enumerate_space(space)
    assert len(archs) == space.size == size, "every tuple is a model of its own, so the table needs no rule"
    varied = {c.name.rpartition(".")[2] for c in space.choices if len(c.options) > 1}
    assert varied | {"pooling_kernel"} == {"hypothesis", "distance", *LAYER}


def test_what_is_packed_is_what_was_measured(generator: ModuleType, tmp_path: Path) -> None:
    layers = generator.TASKS["mnist-8"].layers
    space = generator.make_space(discover(builtin_only=True).registry, (1, 28, 28), layers)
    works = generator.plan(generator.enumerate_space(space)[:20])
    assert len(works) == 20 * 2 + 2 * 2
    rng = np.random.default_rng(0)
    records = []
    for work in works:
        aurocs = {
            part: {column: rng.uniform(size=2).tolist() for column in generator.COLUMNS} for part in PARTS
        }
        records.append(
            {"number": work.number, "arch": work.arch, "seed": work.seed, "fraction": work.fraction}
            | {
                "aurocs": aurocs,
                "warnings": ["constant hypothesis"],
                "seconds": 1.5,
                "flops": 7,
                "parameters": 9,
            }
        )
    records[0] = {k: records[0][k] for k in ("number", "arch", "seed", "fraction")} | {"failed": "NaN"}
    text = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / "mnist-8.jsonl").write_text(text)
    (tmp_path / "mnist-8.json").write_text('{"shape": [1, 28, 28], "groups": ["a", "b"]}')
    generator.pack(tmp_path, tmp_path / "table.npz")
    table = Table.open(tmp_path / "table.npz")
    task = table.tasks["mnist-8"]
    assert len(task.archs) == 20
    assert len(task.repeated) == 2
    for record in records[:40]:
        found = table.value(
            tuple(record["arch"]),
            "mnist-8",
            score="sum",
            anomalies="b",
            part="test",
            budget=record["fraction"],
        )
        if "failed" in record:
            assert found is None
        else:
            assert found == pytest.approx(record["aurocs"]["test"]["sum"][1], abs=1e-5)
    failed = (task.archs == works[0].arch).all(1)
    assert task.warnings[failed] == 1
    assert set(task.warnings[~failed]) == {2}
    # A torn last line is cut off, and done once more.
    (tmp_path / "mnist-8.jsonl").write_text(text + '{"numb')
    assert len(generator.done_already(tmp_path / "mnist-8.jsonl")) == len(works)
    assert (tmp_path / "mnist-8.jsonl").read_text() == text


# The table that ships

SHIPPED = Path(__file__).parents[2] / "benchmarks" / "adnas" / "adnas.npz"


def test_the_shipped_table_is_whole_and_small() -> None:
    assert SHIPPED.stat().st_size <= 8_000_000
    table = Table.open(SHIPPED)
    for name, task in table.tasks.items():
        assert len(task.archs) == task.space.size >= (4000 if name == "fashion-mnist" else 1500)
        assert len(set(map(tuple, task.archs.tolist()))) == len(task.archs)
        assert len(task.repeated) == len(task.archs) // 10
        for part, budget in itertools.product(PARTS, BUDGETS):
            values = table.values(name, score="best", anomalies="minimum", part=part, budget=budget)
            assert np.nanmin(values) >= 0
            assert np.nanmax(values) <= 1


def test_200_trials_in_the_shipped_table_take_seconds(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "adnas.yaml"
    text = example.read_text().replace("benchmarks/adnas/adnas.npz", str(SHIPPED))
    (tmp_path / "adnas.yaml").write_text(text)
    options = ["search", str(tmp_path / "adnas.yaml"), "--run", str(tmp_path / "run"), "--json"]
    begin = time.process_time()
    done = CliRunner().invoke(cli, [*options, "--controller", "regularized-evolution"])
    assert done.exit_code == 0, done.output
    assert time.process_time() - begin < 20
    result = json.loads(done.stdout)
    assert result["counts"]["ok"] == 200
    best = result["models"][0]["validation"]["reward"]["value"]
    assert result["baselines"][0]["validation"]["reward"]["value"] <= best
    assert best <= result["baselines"][1]["validation"]["reward"]["value"]
