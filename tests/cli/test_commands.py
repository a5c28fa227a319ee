"""Every command as a user meets it: help, output for people and for scripts, options over files, names of any kind."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from PIL import Image
from sklearn.metrics import roc_auc_score

from autoad_cli.main import COMMANDS, cli
from autoad_cli.options import read_config
from autoad_core.config import parse
from commandline import COMMAND, autoad
from pictures import picture, write_oddities, write_pictures

SMALL = """
seed: 5
space: {layers: 2, channels: [3, 8]}
search: {trials: 9, random_trials: 2, promote: 1, keep: 1, lag: 4}
train: {images: 16, epochs: 1}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``tiles/good`` and ``tiles/bad``, ``small.yaml``, and what a search in ``runs`` left and printed."""
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "tiles", 30, 16)
    (folder / "small.yaml").write_text(SMALL)
    (folder / "runs" / "small").mkdir(parents=True)
    options = ("--dataset", "tiles", "--trials", 2, "--layers", 1, "--controller", "random", "--workers", 1)
    done = autoad("search", "small.yaml", *options, "--json", cwd=folder, check=0)
    (folder / "printed.json").write_text(done.stdout)
    (folder / "told.txt").write_text(done.stderr)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOAD_DATA", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """The finished run."""
    return place / "runs" / "small-2"


def typed(*arguments: object) -> str:
    """What a command prints that does well."""
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    assert "Error" not in done.stderr
    return done.stdout_bytes.decode("utf-8", "surrogateescape")


def scores(*arguments: object) -> dict[str, float]:
    """What `predict` prints, by path; no error among it."""
    rows = list(csv.DictReader(io.StringIO(typed("predict", *arguments), newline="")))
    assert not [r["error"] for r in rows if r["error"]]
    return {r["path"]: float(r["score"]) for r in rows}


# Help, and what everything costs


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command: str) -> None:
    text = typed(command, "--help")
    assert text == typed(command, "-h")
    assert text.startswith(f"Usage: cli {command}")
    assert len(text.splitlines()) > 5


def test_help_lists_every_command_in_one_line_each() -> None:
    lines = typed("--help").splitlines()
    for command in COMMANDS:
        line = next(line for line in lines if line.startswith(f"  {command} "))
        assert len(line.split()) > 3


def test_version_is_the_distribution_s() -> None:
    from importlib.metadata import version

    assert typed("--version") == f"cli, version {version('autoad')}\n"
    assert autoad("--version", check=0).stdout.strip().endswith(version("autoad"))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list-components"], ["search", "--help"], ["predict", "--help"], ["init"]]
)
def test_quick_commands_cost_half_a_second_and_no_torch(arguments: list[str], tmp_path: Path) -> None:
    """CPU time, the best of three: the clock on the wall would measure the machine's other work."""
    code = (
        "import sys; from autoad_cli.main import cli; cli.main(sys.argv[1:], standalone_mode=False); "
        "sys.exit(7 if 'torch' in sys.modules else 0)"
    )
    costs = []
    for i in range(3):
        more = [f"{i}.yaml"] if arguments == ["init"] else []
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", code, *arguments, *more]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, "torch was imported" if done.returncode == 7 else done.stderr
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) < 0.5


# Output for people, scripts and pipes


@pytest.mark.slow
def test_every_json_can_be_read(place: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    printed = json.loads((place / "printed.json").read_text())
    assert printed["run"] == "runs/small-2"
    assert json.loads(typed("show", "runs/small-2", "--json")) == printed
    assert json.loads(typed("resume", "runs/small-2", "--json")) == printed
    measured = json.loads(typed("evaluate", run, "--dataset", "tiles", "--json"))
    assert measured["images"] == {"normal": 30, "anomalous": 16}
    assert {"auroc", "aupr_in", "aupr_out", "fpr_at_95_tpr", "best_f1"} == set(measured["metrics"])
    found = json.loads(typed("check", "tiles", "--json"))
    assert {f["level"] for f in found} <= {"info", "warning"}
    assert all(isinstance(f["text"], str) for f in found)
    rows = json.loads(typed("list-components", "--json"))
    keys = "kind id name distribution version plugin summary loadable problem"
    assert {" ".join(r) for r in rows} == {keys}
    only = json.loads(typed("list-components", "--kind", "distance", "--json"))
    assert only == [r for r in rows if r["kind"] == "distance"]
    lines = typed("predict", run, "tiles", "--json").splitlines()
    assert {" ".join(json.loads(line)) for line in lines} == {"path score p_value verdict error"}


@pytest.mark.slow
def test_a_reader_that_leaves_early_gets_no_complaint(place: Path, run: Path) -> None:
    """As with ``| head -1``, but the reader is gone before the first line, so that it is the same every time."""
    for arguments in (
        ["list-components"],
        ["list-components", "--json"],
        ["show", str(run)],
        ["show", str(run), "--json"],
        ["predict", str(run), "tiles", "--false-alarms", "0.5"],
        ["check", "tiles"],
    ):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=place, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b""), arguments


def test_head_sees_the_first_line(place: Path) -> None:
    command = " ".join([*COMMAND, "list-components", "--json", "|", "head", "-1"])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[\n", "")


# Search


@pytest.mark.slow
def test_a_search_among_one_s_own_images(place: Path, run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["groups"] == ["bad"]
    assert sum(part["normal"] for part in result["images"].values()) == 30
    assert sum(part["anomalous"] for part in result["images"].values()) == 16
    assert result["models"][0]["validation"]["reward"]["value"] >= 0.5
    told = (place / "told.txt").read_text()
    assert "searching: 2 trials" in told
    assert "Warning" not in told
    text = typed("show", run)
    for row in ("trial", "PCA", "nearest neighbours", "mean pixel", "untrained net of the best"):
        assert row in text


@pytest.mark.slow
def test_options_win_over_the_file_and_the_file_over_the_defaults(run: Path, place: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())["config"]
    assert config["search"]["trials"] == 2  # the file says 9
    assert config["space"]["layers"] == 1  # the file says 2
    assert config["space"]["channels"] == [3, 8]
    assert config["search"]["lag"] == 4
    assert (config["seed"], config["workers"]) == (5, 1)
    assert config["controller"]["name"] == "random"
    assert config["data"]["dataset"] == {"name": "folder", "params": {"path": str(place / "tiles")}}
    assert config["train"]["batch_size"] == 64
    assert parse(config) == parse(
        yaml.safe_load(SMALL)
        | {"workers": 1, "controller": "random", "data": config["data"]}
        | {"space": {"layers": 1, "channels": [3, 8]}}
        | {"search": yaml.safe_load(SMALL)["search"] | {"trials": 2}}
    )


@pytest.mark.slow
def test_a_run_takes_the_next_free_name(place: Path, run: Path) -> None:
    """``runs/small`` was there before the search."""
    assert sorted(p.name for p in (place / "runs").iterdir()) == ["small", "small-2"]
    assert not list((place / "runs" / "small").iterdir())


def test_a_configuration_by_file_alone_or_options_alone(here: Path) -> None:
    (here / "c.yaml").write_text("data: {dataset: textures}\nsearch: {trials: 7}\n")
    by_file = read_config(here / "c.yaml", {"search.trials": None, "seed": None})
    assert by_file == parse({"data": {"dataset": "textures"}, "search": {"trials": 7}})
    by_options = read_config(None, {"data.dataset": {"name": "textures"}, "search.trials": 7})
    assert by_options == by_file
    both = read_config(here / "c.yaml", {"search.trials": 3, "preset": "paper"})
    assert (both.search.trials, both.search.max_cost, both.data.dataset.name) == (3, 1.0, "textures")
    assert read_config(None, {}).data.normal == ("5", "6", "7", "8", "9")


@pytest.mark.slow
def test_init_writes_what_search_takes(here: Path) -> None:
    assert typed("init") == "autoad.yaml: edit it, then run: autoad search autoad.yaml\n"
    text = (here / "autoad.yaml").read_text()
    assert parse(yaml.safe_load(text)) == parse({})
    assert all(line.lstrip().startswith("#") or ":" in line for line in text.splitlines() if line)
    for old, new in (
        ("epochs: null", "epochs: 1"),
        ("images: 5000", "images: 32"),
        ("random_trials: 10", "random_trials: 0"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (here / "autoad.yaml").write_text(text)
    options = ("--trials", 2, "--layers", 1, "--seed", 3, "--workers", 1)
    done = autoad("search", "autoad.yaml", *options, cwd=here, check=0)
    assert "run: runs/autoad\n" in done.stdout
    assert "next: autoad predict runs/autoad" in done.stdout
    assert "searching: 2 trials" in done.stderr
    typed("init", "--force")
    typed("init", "other.yaml")
    assert (here / "autoad.yaml").read_text() == (here / "other.yaml").read_text() != text


# Data


def write_mnist(root: Path, n: int) -> Path:
    """MNIST of ``n`` training images in its published layout, under ``root``."""
    (root / "mnist").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (n, 28, 28), np.uint8).tobytes()
    for name, data in (
        ("images-idx3", struct.pack(">4I", 0x803, n, 28, 28) + images),
        ("labels-idx1", struct.pack(">2I", 0x801, n) + bytes(i % 10 for i in range(n))),
    ):
        (root / "mnist" / f"train-{name}-ubyte.gz").write_bytes(gzip.compress(data, 1))
    return root


def test_the_data_root_from_option_environment_and_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(here / "a", 20)
    write_mnist(here / "b", 30)
    assert typed("check", "mnist", "--data-root", "a").startswith("20 images, 28x28 pixels, grey\n")
    monkeypatch.setenv("AUTOAD_DATA", "b")
    assert typed("check", "mnist").startswith("30 images")
    assert typed("check", "mnist", "--data-root", "a").startswith("20 images")
    (here / "c.yaml").write_text("data: {dataset: mnist, root: a}\n")
    assert read_config(here / "c.yaml", {}).data.root == here / "a"
    assert read_config(here / "c.yaml", {"data.root": "c"}).data.root == here / "c"
    assert read_config(None, {"data.dataset": {"name": "mnist"}}).data.root == here / "b"
    monkeypatch.setenv("AUTOAD_DATA", "")
    assert read_config(None, {}).data.root is None


def test_the_classes_of_the_demonstration_are_not_for_other_protocols(here: Path) -> None:
    assert read_config(None, {}).data.normal == ("5", "6", "7", "8", "9")
    for text in ("{anomalies: [gaussian]}", "{protocol: ood, anomalies: [gaussian]}", "{protocol: folder}"):
        (here / "c.yaml").write_text(f"data: {text}\n")
        assert read_config(here / "c.yaml", {}).data.normal == ()
    (here / "c.yaml").write_text("data: {anomalies: [gaussian], normal: ['1']}\n")
    assert read_config(here / "c.yaml", {}).data.normal == ("1",)  # refused later, not dropped


def test_check_in_words(here: Path) -> None:
    text = typed("check", "digits")
    assert text.startswith("1,797 images, 8x8 pixels, grey\nclasses, 1,797 images: 0 (178), 1 (182)")
    assert text.endswith("\nNothing odd found.\n")
    text = typed("check", "textures")
    assert "masks on " in text
    assert "foreign" in text
    write_oddities(here / "odd", 36, 18)
    lines = typed("check", "odd").splitlines()
    odd = [line for line in lines if line.startswith("odd: ")]
    for name in ("bad/cut.png", "good/nothing.png", "good/words.jpg"):
        assert any(f"skipped: odd/{name}: cannot be read as an image (" in line for line in odd)
    assert any(
        "images of 3 sizes, all brought to one: 18 of 8x8, 18 of 8x12, 18 of 13x5" in line for line in odd
    )
    assert lines[0] == "54 images, 64x64 pixels, grey"
    assert lines[1] == "classes, 54 images: good (36), bad (18)"
    assert lines[-1] == f"{len(odd)} odd things found."


# Predict and evaluate


ODD_NAMES = (
    b"a b.png",
    b"a,b.png",
    b"two\nlines.png",
    b"carriage\rreturn.png",
    b'quote".png',
    b"'.png",
    b"-dash.png",
    b"[1].png",
    b"*.png",
    b"UPPER.PNG",
    b"\xff\xfe.png",
    "é.png".encode(),
    "人.jpeg".encode(),
    b"=1+1.png",
)


@pytest.fixture
def odd_names(place: Path, here: Path) -> list[str]:
    """Copies of one image in ``names/``, under names of every kind; as `predict` orders them."""
    (here / "names").mkdir()
    for name in ODD_NAMES:
        shutil.copyfile(place / "tiles" / "good" / "00.png", os.path.join(b"names", name))  # noqa: PTH118
    return [f"names/{name}" for name in sorted(map(os.fsdecode, ODD_NAMES))]


def decoded(data: bytes) -> list[dict[str, str]]:
    """The rows of a CSV file as a script would read them."""
    return list(csv.DictReader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
def test_names_of_any_kind_come_back_as_they_are(
    run: Path, odd_names: list[str], here: Path, encoding: str
) -> None:
    """Whatever the terminal's encoding, paths are the bytes of the file system's, quoted as CSV is."""
    command = [*COMMAND, "predict", str(run), "names"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    printed = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout
    rows = decoded(printed)
    assert [r["path"] for r in rows] == odd_names
    assert len({r["score"] for r in rows}) == 1
    assert not any(r["error"] for r in rows)
    typed("predict", run, "names", "--output", "scores.csv")
    assert (here / "scores.csv").read_bytes() == printed
    lines = typed("predict", run, "names", "--json").splitlines()
    assert [json.loads(line)["path"] for line in lines] == odd_names


@pytest.mark.slow
def test_names_of_any_kind_can_be_given(
    run: Path, odd_names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(scores(run, *odd_names)) == odd_names
    monkeypatch.chdir("names")
    assert list(scores(run, "--", "-dash.png", "[1].png")) == ["-dash.png", "[1].png"]
    assert len(scores(run, "*.png")) == 1  # a file that is there goes before the pattern
    assert list(scores(run, "[a-p]*.png")) == ["a b.png", "a,b.png", "carriage\rreturn.png"]
    Path("noextension").write_bytes(Path("a b.png").read_bytes())
    Path(".hidden.png").write_bytes(Path("a b.png").read_bytes())
    assert list(scores(run, "noextension", ".hidden.png")) == ["noextension", ".hidden.png"]
    assert not {"./noextension", "./.hidden.png", "noextension", ".hidden.png"} & set(scores(run, "."))


@pytest.mark.slow
def test_check_and_search_take_folders_of_any_name(place: Path, here: Path) -> None:
    folder = os.fsdecode(b"t\xff\n, '")
    shutil.copytree(place / "tiles", here / folder)
    (here / folder / "bad" / "broken.png").touch()
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    command = [*COMMAND, "check", folder]
    printed = subprocess.run(
        command, env=os.environ | strict, capture_output=True, check=True, timeout=60
    ).stdout
    assert b"46 images" in printed
    assert b"skipped: t\xff" in printed
    found = json.loads(typed("check", folder, "--json"))
    assert any(folder.replace("\n", " ") in f["text"] or folder in f["text"] for f in found)


@pytest.mark.slow
def test_grey_colour_and_16_bits_of_one_scene_score_the_same(run: Path, here: Path) -> None:
    grey = picture(np.random.default_rng(3), bad=True, height=64, width=64)  # the model's own size
    Image.fromarray(grey).save("grey.png")
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save("rgb.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save("deep.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save("deep.tif")
    Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 9)])).save("rgba.png")
    Image.fromarray(grey).convert("P").save("palette.png")
    Image.fromarray(grey).convert("LA").save("la.png")
    found = scores(run, "*.png", "*.tif")
    assert len(found) == 7
    reference = found["grey.png"]
    assert all(value == pytest.approx(reference, rel=1e-3, abs=1e-3) for value in found.values())


@pytest.mark.slow
def test_a_model_a_run_and_each_of_its_scores(
    place: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    best = json.loads((run / "result.json").read_text())["models"][0]
    by_run = scores(run, "tiles/bad")
    assert (
        by_run
        == scores(place / best["path"], "tiles/bad")
        == scores(run, "tiles/bad", "--score", best["score"])
    )
    other = {"own": "sum", "sum": "own"}[best["score"]]
    assert scores(run, "tiles/bad", "--score", other) != by_run
    assert list(by_run) == sorted(by_run)
    assert len(by_run) == 16
    twice = typed("predict", run, "tiles/bad/00.png", "tiles/bad/00.png").splitlines()
    assert len(twice) == 3
    assert twice[1] == twice[2]


@pytest.mark.slow
def test_output_is_written_row_by_row(run: Path, place: Path, here: Path) -> None:
    """Half of the images and their scores are safe when the rest cannot be read."""
    shutil.copytree(place / "tiles" / "good", "images")
    (here / "images" / "05.png").write_bytes(b"")
    assert typed("predict", run, "images", "--output", "scores.jsonl", "--json") == ""
    rows = [json.loads(line) for line in (here / "scores.jsonl").read_text().splitlines()]
    assert [Path(r["path"]).name for r in rows if r["score"] is None] == ["05.png"]
    assert (
        rows[5]["error"]
        == "images/05.png: cannot be read as an image (the file is empty); replace or remove it"
    )
    assert len(rows) == 30


def labelled(folder: Path, run: Path) -> Iterator[tuple[float, bool]]:
    """Scores of `predict` with the label that the folder gives."""
    for path, score in scores(run, folder).items():
        yield score, Path(path).parent.name != "good"


@pytest.mark.slow
def test_evaluate_measures_what_predict_scores(place: Path, run: Path) -> None:
    found = list(labelled(place / "tiles", run))
    expected = roc_auc_score([bad for _, bad in found], [score for score, _ in found])
    done: Any = json.loads(typed("evaluate", run, "--dataset", place / "tiles", "--json"))
    auroc = done["metrics"]["auroc"]
    assert auroc["value"] == pytest.approx(expected, abs=1e-9)
    assert auroc["low"] <= auroc["value"] <= auroc["high"]
    text = typed("evaluate", run, "--dataset", place / "tiles")
    assert text.startswith(f"30 normal and 16 anomalous images, score {done['score']!r}\nauroc ")
    turned: Any = json.loads(
        typed("evaluate", run, "--dataset", place / "tiles", "--normal", "bad", "--json")
    )
    assert turned["images"] == {"normal": 16, "anomalous": 30}
    assert turned["metrics"]["auroc"]["value"] == pytest.approx(1 - expected, abs=1e-9)
    few: Any = json.loads(typed("evaluate", run, "--dataset", place / "tiles", "--limit", 20, "--json"))
    assert sum(few["images"].values()) == 20
