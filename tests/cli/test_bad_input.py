"""Whatever is wrong, one line says what, where and what to do, and nothing is lost."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import struct
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import autoad_core.check
from autoad_cli.main import cli
from commandline import COMMAND, autoad
from pictures import write_oddities, write_pictures

CONFIG = """
data: {{dataset: {{name: folder, params: {{path: "{path}", size: 8}}}}}}
space: {{layers: 1, channels: [3, 8]}}
search: {{trials: 6, random_trials: 2, promote: 2, keep: 1, lag: 2}}
train: {{images: 16, epochs: 1}}
"""
LAYER = "{channels: 8, kernel: 3, pooling: max, pooling_kernel: 1, normalization: none, activation: relu}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOAD_DATA", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``search.yaml``, its images, and the finished ``run`` of it."""
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "images", 30, 16)
    (folder / "search.yaml").write_text(CONFIG.format(path=folder / "images"))
    autoad("search", "search.yaml", "--run", "run", "--workers", 1, cwd=folder, check=0)
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file with its contents, every folder."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def the_error(stderr: str) -> str:
    """The one line that says what is wrong."""
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("Error:")]
    assert len(lines) == 1, stderr
    assert len(lines[0]) < 600
    return lines[0].removeprefix("Error: ")


def refused(*arguments: object, code: int) -> str:
    """What the command says as it ends with ``code``, having printed nothing and left all files as they were.

    Paths are as seen from the working directory.
    """
    before = tree(Path.cwd())
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert (done.exit_code, done.stdout) == (code, ""), done.output
    assert tree(Path.cwd()) == before
    return the_error(done.stderr).replace(f"{Path.cwd()}/", "")


def journal(run: Path) -> list[dict[str, Any]]:
    """The journal without clocks."""
    records = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k != "clock"} for r in records]


def same_end(run: Path, other: Path) -> bool:
    """Whether two runs have the same journal, models and result, but for their own path."""

    def end(folder: Path) -> dict[str, bytes]:
        files = [folder / "result.json", *sorted((folder / "models").rglob("*.*"))]
        return {str(f.relative_to(folder)): f.read_bytes() for f in files}

    def names(folder: Path) -> bytes:
        return (
            json.loads((folder / "result.json").read_text())["models"][0]["path"].split("/models")[0].encode()
        )

    mine = {k: v.replace(names(run), b"RUN") for k, v in end(run).items()}
    return journal(run) == journal(other) and mine == {
        k: v.replace(names(other), b"RUN") for k, v in end(other).items()
    }


# Configurations


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("serch: {trials: 3}", "c.yaml: serch: unknown key; did you mean 'search'?"),
        ("search: {trails: 3}", "c.yaml: search.trails: unknown key; did you mean 'trials'?"),
        (
            "data: {dataset: {name: digits, parms: {}}}",
            "c.yaml: data.dataset.parms: unknown key; did you mean 'params'?",
        ),
        (
            "space: {hypothesis: [cluste]}",
            "space.hypothesis: no hypothesis is called 'cluste'; did you mean cluster?",
        ),
        ("space: {distance: [l2+sim]}", "space.distance: no distance is called 'sim'; did you mean ssim?"),
        ("space: {pooling: [min]}", "space.pooling: no pooling is called 'min'; known: average, max"),
        (
            "controller: regularised-evolution",
            "controller: no controller is called 'regularised-evolution'; did you mean regularized-evolution?",
        ),
        ("data: {dataset: digit}", "data.dataset: no dataset is called 'digit'; did you mean digits?"),
        (
            "data: {dataset: digits, anomalies: [uniform, gausian]}",
            "data.anomalies.1: no dataset is called 'gausian'; did you mean gaussian?",
        ),
        (
            "reward: {scores: {own: [l3]}}",
            "reward.scores.own: no distance is called 'l3'; known: l1, l2, l21, relative, ssim",
        ),
        ("reward: {scores: {own: []}}", "reward.scores.own: names no term"),
        (
            "data: {dataset: {name: digits, params: {size: 9}}}",
            "data.dataset: dataset 'autoad/digits': got an unexpected keyword argument 'size'; its params: none",
        ),
        (
            "controller: {name: random, params: {population: 9}}",
            "controller: controller 'autoad/random': got an unexpected keyword argument 'population'; its params: none",
        ),
        ("space: {layers: 9}", "c.yaml: space.layers: Input should be less than or equal to 6, got 9"),
        ("space: {channels: [8, 5000]}", "c.yaml: space.channels: must be from 1 to 4096, got [8, 5000]"),
        ("space: {kernel: [2]}", "c.yaml: space.kernel: must be odd, so that the convolution keeps the size"),
        (
            f"architecture: {{hypothesis: cluster, distance: l2, layers: [{LAYER.replace('3', '2')}]}}",
            "architecture.layers.0.kernel: must be odd, got 2",
        ),
        (
            f"architecture: {{hypothesis: cluster, distance: l2, layers: [{LAYER.replace('max', 'mux')}]}}",
            "architecture: no pooling is called 'mux'; did you mean max?",
        ),
        (
            f"architecture: {{hypothesis: cluster, distance: l2, layers: [{LAYER}], params: {{a.b: 1}}}}",
            "architecture.params: no component has the choice 'a.b'",
        ),
        ("search: {trials: 3.5}", "c.yaml: search.trials: Input should be a valid integer"),
        ("search: all", "c.yaml: search: Input should be a valid dictionary, got 'all'"),
        (
            "data: {dataset: digits, normal: [nine]}",
            "data.normal: no 'nine' there; known: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
        ("data: {protocol: ood}", "data.anomalies: protocol 'ood' needs at least one data set of anomalies"),
        ("search: [1", "c.yaml: not YAML (while parsing a flow sequence at line 1, column 9"),
        ("search: {trials: 1}\nsearch: {lag: 2}", "c.yaml: not YAML (the key 'search' is given twice"),
    ],
)
def test_a_wrong_configuration_says_where_and_writes_nothing(here: Path, text: str, message: str) -> None:
    (here / "c.yaml").write_text(text)
    assert refused("search", "c.yaml", "--run", "run", code=2).startswith(message)


def test_wrong_options_are_told_as_wrong_keys(here: Path) -> None:
    assert "search.trials: Input should be greater than or equal to 1, got 0" in refused(
        "search", "--trials", 0, code=2
    )
    assert "'x' is not a valid integer" in refused("search", "--trials", "x", code=2)
    assert "space.layers: Input should be less than or equal to 6, got 7" in refused(
        "search", "--layers", 7, code=2
    )
    assert "no controller is called 'rand'; did you mean random?" in refused(
        "search", "--controller", "rand", code=2
    )
    assert "--dataset: is empty" in refused("search", "--dataset", "", code=2)
    assert "No such option" in refused("search", "--trails", 3, code=2)
    assert "No such command 'serch'" in refused("serch", code=2)


def test_a_configuration_that_is_not_there_or_is_something_else(here: Path) -> None:
    message = "mine.yaml: no such configuration; autoad init mine.yaml writes one"
    assert refused("search", "mine.yaml", code=2) == message
    assert refused("search", "digits", code=2).endswith("to name a data set: autoad search --dataset digits")
    write_pictures(here / "images", 1, 0)
    message = "images: is a folder; to search among its images: autoad search --dataset images"
    assert refused("search", "images", code=2) == message
    assert "cannot be read ('utf-8' codec" in refused("search", "images/good/00.png", code=2)


# Images


@pytest.mark.parametrize("command", ["search", "check", "evaluate"])
def test_a_missing_data_root_says_where_to_get_the_set(here: Path, place: Path, command: str) -> None:
    arguments: dict[str, tuple[object, ...]] = {
        "search": ("search", "--dataset"),
        "check": ("check",),
        "evaluate": ("evaluate", place / "run", "--dataset"),
    }
    asked = (*arguments[command], "mnist")
    assert refused(*asked, code=1) == "mnist: no data root; pass --data-root DIR or set AUTOAD_DATA"
    message = refused(*asked, "--data-root", "nowhere", code=1)
    assert message.startswith("mnist: there is no folder nowhere; get train-images-idx3-ubyte.gz")
    assert "put it into nowhere/mnist" in message
    assert "no dataset is called 'mmist'; did you mean mnist" in refused(*asked[:-1], "mmist", code=2)


@pytest.mark.parametrize("command", [("search", "--dataset"), ("check",)])
def test_a_folder_without_usable_images(here: Path, command: tuple[str, ...]) -> None:
    assert "nowhere/x is no folder" in refused(*command, "nowhere/x", code=1)
    (here / "empty").mkdir()
    message = refused(*command, "empty", code=1)
    assert message.startswith("empty: no good images; expected train/good, good or images (.bmp")
    assert message.endswith("found nothing; rename the folder of good images to good, or name another folder")
    write_pictures(here / "images", 1, 3)
    (here / "images" / "good").rename(here / "images" / "fine")
    assert "found the folders bad, fine; rename" in refused(*command, "images", code=1)
    (here / "images" / "good").mkdir()
    (here / "images" / "good" / "zero.png").touch()
    message = refused(*command, "images", code=1)
    assert message.startswith("images: no good image can be read")
    assert (
        "images/good/zero.png: cannot be read as an image (the file is empty); replace or remove it"
        in message
    )


def test_too_few_images_for_a_search(here: Path) -> None:
    write_pictures(here / "one", 1, 0)
    message = "dataset 'folder' in one: 1 normal images to train on, at least 2 needed; add images"
    assert refused("search", "--dataset", "one", code=1).startswith(message)
    write_pictures(here / "fine", 20, 0)
    message = refused("search", "--dataset", "fine", code=1)
    assert message.startswith(
        "dataset 'folder' in fine: 0 anomalous images for validation, at least 1 needed"
    )
    assert message.endswith("add images of defects, each kind in a folder of its own beside the good ones")
    for i in range(1, 20):
        shutil.copy(here / "fine" / "good" / "00.png", here / "fine" / "good" / f"{i:02d}.png")
    message = refused("search", "--dataset", "fine", code=1)
    assert "0 normal images to train on" in message
    assert "left out: their pixels equal a later part's" in message


@pytest.mark.slow
def test_odd_images_are_told_and_the_others_searched(place: Path, tmp_path: Path) -> None:
    write_oddities(tmp_path / "odd", 36, 18)
    done = autoad(
        "search", place / "search.yaml", "--dataset", "odd", "--trials", 1, "--json", cwd=tmp_path, check=0
    )
    result = json.loads(done.stdout)
    assert result["run"] == "runs/search"
    told = "\n".join(result["notes"])
    for text in (
        "odd/good/nothing.png: cannot be read as an image (the file is empty); replace or remove it",
        "odd/good/words.jpg: cannot be read as an image (not in a known format); replace or remove it",
        "odd/bad/cut.png: cannot be read as an image (",
        "images of 3 sizes, all brought to one",
    ):
        assert text in told
        assert text in done.stderr
    counts = result["images"].values()
    assert sum(n["normal"] for n in counts) <= 36
    assert sum(n["anomalous"] for n in counts) <= 18
    assert result["images"]["train"]["normal"] >= 15
    assert "Warning" not in done.stderr


def write_idx(folder: Path, n: int = 20) -> Path:
    """MNIST of ``n`` images in each part, in its published layout."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (n, 28, 28), np.uint8).tobytes()
        labels = bytes(i % 10 for i in range(n))
        for name, head, body in (
            ("images-idx3", struct.pack(">4I", 0x803, n, 28, 28), images),
            ("labels-idx1", struct.pack(">2I", 0x801, n), labels),
        ):
            with gzip.open(folder / f"{part}-{name}-ubyte.gz", "wb", compresslevel=1) as file:
                file.write(head + body)
    return folder / "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: data[: len(data) // 2], "Compressed file ended before the end-of-stream marker"),
        (
            lambda data: gzip.decompress(data)[:5000],
            "announces 15,680 bytes after its header and has only 4,984",
        ),
        (lambda data: gzip.decompress(data)[:9], "ends within its header"),
        (lambda data: b"", "starts with nothing, expected 00000803"),
        (lambda data: b"\x89PNG" + data, "starts with 89504e47, expected 00000803"),
    ],
    ids=["gzip", "plain", "header", "empty", "another format"],
)
def test_a_truncated_idx_file_is_named(here: Path, damage: Callable[[bytes], bytes], reason: str) -> None:
    file = write_idx(here / "data" / "mnist")
    file.write_bytes(damage(file.read_bytes()))
    for command in (("check", "mnist"), ("search", "--dataset", "mnist")):
        message = refused(*command, "--data-root", "data", code=1)
        assert message.startswith(f"data/mnist/{file.name}: cannot be read as IDX ({reason}")
        assert message.endswith("); get the file again")


# Models and runs


@pytest.fixture
def model(here: Path, place: Path) -> Path:
    """A model that may be damaged, and ``good.png`` to score."""
    shutil.copy(place / "images" / "good" / "00.png", "good.png")
    best = next((place / "run" / "models").iterdir())
    return Path(shutil.copytree(best, "model"))


def edit(path: Path, **changes: Any) -> None:
    """Replace values of a JSON object."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A change of what a safetensors file says about itself."""

    def apply(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        entries = json.loads(data[8 : 8 + size])
        change(entries)
        text = json.dumps(entries).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    return apply


def grow(entries: dict[str, Any]) -> None:
    name = sorted(entries)[-1]
    entries[name]["shape"][0] *= 2


def reach_out(entries: dict[str, Any]) -> None:
    name = sorted(entries)[-1]
    entries[name]["data_offsets"][1] = 2**40


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: struct.pack("<Q", 2**60) + data[8:],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"\x80\x04]q\x00." + data,
        header(grow),
        header(reach_out),
        header(lambda entries: entries.pop(sorted(entries)[0])),
    ],
    ids=["huge header", "cut", "empty", "pickle", "shape", "offsets", "missing tensor"],
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_tampered_weights_are_refused(
    model: Path, place: Path, damage: Callable[[bytes], bytes], command: str
) -> None:
    weights = model / "weights.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    what = ("good.png",) if command == "predict" else ("--dataset", place / "images")
    message = refused(command, model, *what, code=1)
    assert message.startswith(f"{weights}: ")
    assert "damaged or not safetensors" in message or "does not fit spec.json" in message


def test_a_model_of_another_version_or_of_a_missing_plugin(model: Path) -> None:
    spec = json.loads((model / "spec.json").read_text())
    edit(model / "spec.json", format=1)
    message = "model: model format 1, this version reads 3; train it again or use the version that wrote it"
    assert refused("predict", model, "good.png", code=1) == message
    edit(model / "spec.json", format=3, spec=spec["spec"] | {"hypothesis": "autoad-other/shell"})
    assert "no hypothesis is called 'autoad-other/shell'" in refused("predict", model, "good.png", code=2)
    edit(model / "spec.json", spec=spec["spec"], shape=[1, 8])
    message = refused("predict", model, "good.png", code=1)
    assert message.startswith("model: spec.json or calibration.json is damaged")
    (model / "spec.json").unlink()
    message = refused("predict", model, "good.png", code=1)
    assert message == "model/spec.json: cannot be read (No such file or directory); is model a model folder?"


def test_what_is_no_run_is_told_so(here: Path, place: Path) -> None:
    for command in ("show", "resume"):
        message = refused(command, "nothing", code=1)
        assert message.startswith("nothing: not a run of autoad (config.yaml: No such file or directory)")
        assert message.endswith("name a folder that autoad search made")
    run = Path(shutil.copytree(place / "run", "run"))
    message = refused("search", place / "search.yaml", "--run", "run", code=1)
    assert message == "run: exists and is not empty; autoad resume run, or choose another with --run"
    for content in ("[]", "{", '{"models": 3}', ""):
        (run / "result.json").write_text(content)
        for command in ("show", "resume"):
            assert refused(command, "run", code=1).startswith("run/result.json: ")
    (run / "result.json").unlink()
    (run / "config.yaml").write_text("config: {}\nresolved: {space: {}}\n")
    message = "run: config.yaml lacks resolved.components; restore the file, or start a new run"
    assert refused("resume", "run", code=1) == message
    (run / "config.yaml").write_text("config: 1\nresolved: 2\n")
    assert "not a run of autoad" in refused("show", "run", code=1)
    assert "no such configuration" in refused("search", run / "config.yml", code=2)


def test_a_run_does_not_go_on_with_other_data(here: Path, place: Path) -> None:
    shutil.copytree(place / "images", "images")
    run = Path(shutil.copytree(place / "run", "run"))
    (run / "result.json").unlink()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace(str(place / "images"), str(here / "images")))
    (here / "images" / "good" / "00.png").unlink()
    message = "run: data has changed since the run began; restore it, or start a new run"
    before = (run / "trials.jsonl").read_bytes()
    done = CliRunner().invoke(cli, ["resume", "run"])
    assert (done.exit_code, the_error(done.stderr)) == (1, message)
    assert (run / "trials.jsonl").read_bytes() == before


def test_a_damaged_journal_is_not_guessed_at(here: Path, place: Path) -> None:
    run = Path(shutil.copytree(place / "run", "run"))
    (run / "result.json").unlink()
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    (run / "trials.jsonl").write_text("".join([lines[0], lines[1][:50] + "\n", *lines[2:]]))
    assert refused("show", "run", code=1).startswith("run/trials.jsonl: line 2 is damaged (")
    done = CliRunner().invoke(cli, ["resume", "run"])
    assert done.exit_code == 1
    assert the_error(done.stderr).endswith("; restore the file")


@pytest.mark.slow
def test_a_half_written_state_costs_nothing_but_time(place: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    shutil.rmtree(run / "models")
    (run / "result.json").unlink()
    lines = (run / "trials.jsonl").read_bytes().splitlines(keepends=True)
    (run / "trials.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:40])
    for file in (run / "state").glob("*.json"):
        file.write_bytes(file.read_bytes()[:20])
    (run / "state" / ".000004.json.123").write_text("{")
    for folder in (run / "state" / "models" / ".3.123", run / "state" / "pending", run / "state" / "images"):
        folder.mkdir(parents=True)
    (run / "state" / "pending" / "5.json").write_text('{"status": "o')
    (run / "state" / "images" / "train.npy").write_bytes(b"\x93NUMPY")
    done = autoad("resume", "run", cwd=tmp_path, check=0)
    assert "the last line of trials.jsonl was torn" in done.stderr
    assert "damaged, perhaps by a crash; the one before it is used, or the journal" in done.stderr
    assert same_end(run, place / "run")


# Disks

FULL = """
mount -t tmpfs -o size=1000k autoad-test disk && head -c "$1" /dev/zero > disk/ballast || exit 99
shift
"$@" search search.yaml --run disk/run --workers 1 2> first.err; echo $? > first.rc
rm disk/ballast
"$@" show disk/run > show.out
"$@" resume disk/run 2> second.err; echo $? > second.rc
cp -r disk/run run
"""


@cache
def namespaces() -> bool:
    """Whether this user may mount, in a namespace of his own that ends with the command."""
    if shutil.which("unshare") is None:
        return False
    probe = (
        "mkdir d && mount -t tmpfs -o size=4k autoad-test d && mount --bind d d && mount -o remount,bind,ro d"
    )
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", probe]
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def on_a_small_disk(folder: Path, room: int) -> None:
    """Search where there are ``room`` kB, give more, resume: in a mounted file system, or under a limit for files."""
    (folder / "disk").mkdir()
    if namespaces():
        script = ["unshare", "--map-root-user", "--mount", "sh", "-c", FULL, "sh", str((1000 - room) * 1024)]
        subprocess.run([*script, *COMMAND], cwd=folder, check=True, capture_output=True, timeout=600)
        return

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000 + room * 60, resource.RLIM_INFINITY))

    search = [*COMMAND, "search", "search.yaml", "--run", "disk/run", "--workers", "1"]
    done = subprocess.run(search, cwd=folder, check=False, capture_output=True, text=True, preexec_fn=limit)
    (folder / "first.err").write_text(done.stderr)
    (folder / "first.rc").write_text(str(done.returncode))
    (folder / "show.out").write_text(autoad("show", "disk/run", cwd=folder).stdout)
    done = autoad("resume", "disk/run", cwd=folder)
    (folder / "second.err").write_text(done.stderr)
    (folder / "second.rc").write_text(str(done.returncode))
    shutil.copytree(folder / "disk" / "run", folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("room", [8, 72, 100])
def test_a_full_disk_stops_a_search_that_can_go_on(place: Path, tmp_path: Path, room: int) -> None:
    shutil.copy(place / "search.yaml", tmp_path)
    on_a_small_disk(tmp_path, room)
    message = the_error((tmp_path / "first.err").read_text())
    assert (tmp_path / "first.rc").read_text().strip() == "1"
    assert message.startswith("disk/run")
    assert "the disk is full; free some space" in message or "larger than is allowed here" in message
    assert message.endswith("What was finished stays: autoad resume disk/run")
    assert "not finished" in (tmp_path / "show.out").read_text()
    assert (tmp_path / "second.rc").read_text().strip() == "0", (tmp_path / "second.err").read_text()
    assert same_end(tmp_path / "run", place / "run")


def test_output_to_a_full_disk(here: Path, model: Path) -> None:
    """/dev/full is a disk that is always full, and the kernel itself says so."""
    Path("scores.csv").symlink_to("/dev/full")
    assert "the disk is full; free some space" in refused(
        "predict", model, "good.png", "--output", "scores.csv", code=1
    )
    with Path("/dev/full").open("w") as full:
        for command in (["list-components"], ["predict", str(model), "good.png"], ["check", "digits"]):
            done = subprocess.run(
                [*COMMAND, *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
            )
            assert done.returncode == 1
            assert the_error(done.stderr) == "output: the disk is full; free some space"


READ_ONLY = 'mount --bind ro ro && mount -o remount,bind,ro ro || exit 99; exec "$@"'
WITHOUT_PERMISSION = [
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
]  # what lets root write anywhere


def ways() -> dict[str, Sequence[str]]:
    """Prefixes under which a command cannot write to the folder ``ro``, whose permissions forbid it."""
    found: dict[str, Sequence[str]] = {}
    if namespaces():
        found["mount"] = ["unshare", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh"]
    if os.geteuid() != 0:
        found["permissions"] = []
    elif shutil.which("setpriv"):
        found["permissions"] = WITHOUT_PERMISSION
    return found


@pytest.mark.slow
@pytest.mark.parametrize("way", sorted(ways()) or ["none"])
def test_a_read_only_folder(place: Path, tmp_path: Path, way: str) -> None:
    prefix = ways()[way]
    shutil.copy(place / "images" / "good" / "00.png", tmp_path / "good.png")
    ro = tmp_path / "ro"
    shutil.copytree(place / "run", ro / "done")
    shutil.copytree(place / "run", ro / "half")
    (ro / "half" / "result.json").unlink()
    before = tree(ro)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*prefix, *COMMAND, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)

    for folder in (ro, ro / "half", ro / "half" / "state"):
        folder.chmod(0o555)
    (ro / "half" / "lock").chmod(0o444)
    try:
        why = "the file system is read-only" if way == "mount" else "no permission"
        for arguments, where in (
            (("search", place / "search.yaml", "--run", "ro/new"), "ro/new: "),
            (("resume", "ro/half"), "ro/half/lock: "),
            (("predict", "ro/done", "good.png", "--output", "ro/x.csv"), "ro/x.csv: "),
            (("init", "ro/x.yaml"), "ro/x.yaml: "),
        ):
            done = run(*arguments)
            assert done.returncode == 1, done.stderr
            assert the_error(done.stderr).startswith(where + why)
        assert run("show", "ro/done").returncode == 0
        assert "not finished" in run("show", "ro/half").stdout
        assert run("predict", "ro/done", "good.png").returncode == 0
        assert tree(ro) == before
    finally:
        for folder in (ro, ro / "half", ro / "half" / "state"):
            folder.chmod(0o755)


def test_a_run_needs_a_name_that_can_be_written_down(here: Path, place: Path) -> None:
    message = refused("search", place / "search.yaml", "--run", os.fsdecode(b"r\xff"), code=1)
    assert message.endswith("the name is not UTF-8; choose another with --run")


# Children that die

GREEDY = """
data: {dataset: gaussian, anomalies: [uniform]}
space: {layers: 1, channels: [3, 256], kernel: [1], hypothesis: [reconstruction, centroid]}
search: {trials: 6, random_trials: 0, promote: 1, keep: 1, lag: 4, memory_limit: 0.5, max_cost: 1}
train: {images: 600, epochs: 1, batch_size: 600}
"""


@pytest.mark.slow
def test_a_child_that_wants_too_much_memory_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "greedy.yaml").write_text(GREEDY)
    done = autoad("search", "greedy.yaml", "--run", "run", "--workers", 1, "--json", cwd=tmp_path, check=0)
    result, records = json.loads(done.stdout), journal(tmp_path / "run")
    failed = [r for r in records if r["status"] == "failed"]
    assert failed
    assert {r["spec"]["layers"][0]["channels"] for r in failed} == {256}
    assert {r["error"] for r in failed} == {"out of memory: it needed more than memory_limit"}
    assert result["counts"]["failed"] == len(failed)
    assert any(r["status"] == "ok" for r in records if r["id"] > failed[0]["id"])


@pytest.mark.slow
def test_a_search_in_which_every_child_fails_says_why(place: Path, tmp_path: Path) -> None:
    text = (place / "search.yaml").read_text()
    (tmp_path / "hasty.yaml").write_text(text.replace("trials: 6", "trials: 1, time_limit: 0.001"))
    done = autoad("search", "hasty.yaml", "--run", "run", "--workers", 1, cwd=tmp_path, check=1)
    message = the_error(done.stderr)
    assert message.startswith(
        "run: no model was found, every trial failed or was skipped; run/trials.jsonl says"
    )
    assert message.endswith(journal(tmp_path / "run")[0]["error"])
    image = next((place / "images" / "good").iterdir())
    message = the_error(autoad("predict", "run", image, cwd=tmp_path, check=1).stderr)
    assert message == "run: this run found no model; autoad show run, and search again"


# What to score


def test_paths_that_name_no_image(model: Path) -> None:
    assert (
        refused("predict", model, "nope.png", code=1)
        == "nope.png: no such file or folder; check the spelling"
    )
    assert refused("predict", model, "*.tiff", code=1).startswith("*.tiff: no images here; looked for .bmp")
    Path("empty").mkdir()
    assert refused("predict", model, "good.png", "empty", code=1).startswith("empty: no images here")
    assert refused("predict", model, "", code=1).startswith("an empty path")
    assert "Missing argument 'PATHS...'" in refused("predict", model, code=2)
    assert "no score is called 'best'; known: own, sum" in refused(
        "predict", model, "good.png", "--score", "best", code=2
    )
    assert refused("predict", model, "good.png", "--output", "no/x.csv", code=1).startswith(
        "no/x.csv: no such"
    )


def test_what_cannot_be_measured(model: Path, place: Path) -> None:
    write_pictures(Path("fine"), 4, 0)
    message = refused("evaluate", model, "--dataset", "fine", code=1)
    assert message.startswith("--dataset: 4 images, none of them anomalous; both kinds are needed")
    images = place / "images"
    message = refused("evaluate", model, "--dataset", images, "--normal", "nice", code=2)
    assert message == "--normal: no class 'nice'; known: good, bad"
    message = refused("evaluate", model, "--dataset", images, "--normal", "good", "--normal", "bad", code=1)
    assert "none of them anomalous" in message
    assert "'--limit': 0 is not in the range" in refused(
        "evaluate", model, "--dataset", images, "--limit", 0, code=2
    )


def test_init_overwrites_nothing(here: Path) -> None:
    (here / "autoad.yaml").write_text("seed: 3")
    message = "autoad.yaml: exists; choose another name, or overwrite it with --force"
    assert refused("init", code=1) == message
    assert refused("init", "no/x.yaml", code=1) == "no/x.yaml: no such file or folder; check the spelling"


# Faults


def test_verbose_shows_where_and_says_the_same(here: Path) -> None:
    short = autoad("show", "nothing", cwd=here, check=1)
    long = autoad("-v", "show", "nothing", cwd=here, check=1)
    assert long.stderr.startswith("Traceback")
    assert long.stderr.endswith(short.stderr)
    assert autoad("-v", "search", "nothing.yaml", cwd=here, check=2).stderr.startswith("Traceback")


def test_a_fault_of_the_program_is_one_line_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(autoad_core.check, "examine", broken)
    message = refused("check", "digits", code=1)
    assert message.startswith("ZeroDivisionError: two lines; a fault of this program: autoad -v shows where")
    shown: list[BaseException] = []
    monkeypatch.setattr(traceback, "print_exception", shown.append)
    assert refused("-v", "check", "digits", code=1) == message
    assert isinstance(shown[0], ZeroDivisionError)


def test_control_c_outside_a_search(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(autoad_core.check, "examine", interrupted)
    done = CliRunner().invoke(cli, ["check", "digits"])
    assert (done.exit_code, done.stderr) == (130, "Interrupted.\n")
