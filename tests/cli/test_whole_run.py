"""The two promises of the engine, with real workers, and the whole way from a search to a prediction."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from commandline import TINY, autoad, error_line, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped, with one worker."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY)
    autoad("search", "tiny.yaml", "--run", "run", "--workers", 1, cwd=folder, check=0)
    return folder / "run"


def journal(run: Path) -> list[dict[str, Any]]:
    """The journal without clocks."""
    records = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    return [{k: v for k, v in r.items() if k != "clock"} for r in records]


def contents(run: Path) -> dict[str, bytes]:
    """Every file of the models, and the result, without the path of the run."""
    files = {
        str(p.relative_to(run)): p.read_bytes() for p in sorted((run / "models").rglob("*")) if p.is_file()
    }
    files["result.json"] = (run / "result.json").read_bytes()
    return {name: data.replace(str(run).encode(), b"RUN") for name, data in files.items()}


@pytest.mark.parametrize("workers", [2, 4])
def test_the_journal_is_the_same_for_any_number_of_workers(
    finished: Path, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    autoad("search", "tiny.yaml", "--run", "run", "--workers", workers, cwd=tmp_path, check=0)
    assert journal(tmp_path / "run") == journal(finished)
    assert contents(tmp_path / "run") == contents(finished)


def test_ten_kills_and_resumes_leave_no_trace(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    rng = random.Random(0)
    log = tmp_path / "log"
    process = start("search", "tiny.yaml", "--run", "run", "--workers", 2, cwd=tmp_path, stderr=log)
    for _ in range(10):
        kill_at_a_random_moment(process, tmp_path / "run", rng)
        process = start("resume", "run", cwd=tmp_path, stderr=log)
    assert process.wait(300) == 0, log.read_text()
    assert journal(tmp_path / "run") == journal(finished)
    assert contents(tmp_path / "run") == contents(finished)
    assert not list((tmp_path / "run" / "state").glob("*/"))


def test_shared_weights_do_not_know_workers_or_kills(tmp_path: Path) -> None:
    text = TINY.replace("lag: 4", "lag: 2, weight_sharing: true")
    whole = tmp_path / "whole"
    whole.mkdir()
    for folder in (tmp_path, whole):
        (folder / "tiny.yaml").write_text(text)
    autoad("search", "tiny.yaml", "--run", "run", "--workers", 1, cwd=whole, check=0)
    records = journal(whole / "run")
    assert [r["pool"] for r in records if r["phase"] == "search"] == [0, 0, 0, 0, 2, 2, 4, 4, 6, 6]
    assert all(r["shared"] == 0 for r in records[:4] if r["status"] == "ok")
    assert any(r["shared"] > 0 for r in records if r["status"] == "ok" and r.get("pool"))
    rng, log = random.Random(1), tmp_path / "log"
    process = start("search", "tiny.yaml", "--run", "run", "--workers", 3, cwd=tmp_path, stderr=log)
    for _ in range(4):
        kill_at_a_random_moment(process, tmp_path / "run", rng)
        process = start("resume", "run", "--workers", 3, cwd=tmp_path, stderr=log)
    assert process.wait(300) == 0, log.read_text()
    assert journal(tmp_path / "run") == records
    assert contents(tmp_path / "run") == contents(whole / "run")
    assert not list((tmp_path / "run" / "state").glob("*/"))


def kill_at_a_random_moment(process: Any, run: Path, rng: random.Random) -> None:
    """SIGKILL within a second and a half of the moment when the run is open; its orphans must end by themselves."""
    begin = time.monotonic()
    while process.poll() is None and not (run / "state" / "images" / "groups.npy").exists():
        time.sleep(0.02)
        assert time.monotonic() - begin < 60
    time.sleep(rng.random() * 1.5)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "a worker outlived the search"


def test_show_and_json(finished: Path, tmp_path: Path) -> None:
    text = autoad("show", finished, check=0).stdout
    for row in (
        "PCA",
        "nearest neighbours",
        "mean pixel",
        "random search, 3 trials",
        "untrained net",
        "validation",
        "test",
    ):
        assert row in text
    result = json.loads(autoad("show", finished, "--json", check=0).stdout)
    assert {"models", "baselines", "counts", "notes", "run"} <= set(result)
    best = result["models"][0]
    assert best["test"]["reward"]["low"] <= best["test"]["reward"]["value"] <= best["test"]["reward"]["high"]
    assert sum(result["counts"].values()) == len(journal(finished))
    assert "show: not a run" in error_line(autoad("show", tmp_path)) or "not a run" in error_line(
        autoad("show", tmp_path)
    )


def test_resume_of_a_finished_run_tells_its_result(finished: Path) -> None:
    before = (finished / "trials.jsonl").read_bytes()
    assert autoad("resume", finished, check=0).stdout == autoad("show", finished, check=0).stdout
    assert (finished / "trials.jsonl").read_bytes() == before


def test_predict_streams_scores_and_reports_what_it_cannot_read(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(70):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(folder / f"{i:02d}.png")
    Image.fromarray(rng.integers(0, 255, (30, 20, 3), np.uint8)).save(folder / "deeper" / "colour.jpg")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not an image")
    rows = list(csv.DictReader(io.StringIO(autoad("predict", finished, folder, check=0).stdout)))
    assert len(rows) == 73
    broken = {Path(r["path"]).name for r in rows if r["error"]}
    assert broken == {"empty.png", "text.png"}
    assert all((r["score"] == "") == bool(r["error"]) for r in rows)
    lines = autoad("predict", finished, "--json", folder / "*.png", check=0).stdout.splitlines()
    assert len(lines) == 72
    by_name = {r["path"]: r["score"] for r in rows}
    for line in map(json.loads, lines):
        if line["score"] is not None:
            assert line["score"] == pytest.approx(float(by_name[line["path"]]), rel=1e-4, abs=1e-4)
    assert "known: own, sum" in error_line(autoad("predict", finished, folder, "--score", "other"))
    assert "no such file or folder" in error_line(autoad("predict", finished, tmp_path / "nowhere"))


def test_scores_of_predict_are_those_of_the_search(finished: Path, tmp_path: Path) -> None:
    """Digits written as PNG (16 grey levels survive) and scored from files rank as in the run."""
    done = autoad(
        "evaluate", finished, "--dataset", "digits", "--normal", "5", "--normal", "6", "--json", check=0
    )
    found = json.loads(done.stdout)["metrics"]["auroc"]["value"]
    test = json.loads(autoad("show", finished, "--json").stdout)["models"][0]["test"]["reward"]
    assert test["low"] - 0.1 < found < test["high"] + 0.1


def test_two_searches_on_one_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    first = start("search", "tiny.yaml", "--run", "run", cwd=tmp_path, stderr=tmp_path / "log")
    while not (tmp_path / "run" / "config.yaml").exists():
        time.sleep(0.05)
    assert "another process works on this run" in error_line(autoad("resume", "run", cwd=tmp_path, check=1))
    assert first.wait(200) == 0


def test_first_control_c_saves_second_ends_at_once(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("epochs: 2", "epochs: 200"))
    log = tmp_path / "log"
    process = start("search", "tiny.yaml", "--run", "run", "--workers", 2, cwd=tmp_path, stderr=log)
    wait_for_trials(tmp_path / "run", 1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(120) == 130
    assert "autoad resume run" in log.read_text()
    done = len(journal(tmp_path / "run"))
    assert "not finished" in autoad("show", "run", cwd=tmp_path, check=0).stdout
    process = start("resume", "run", cwd=tmp_path, stderr=log)
    wait_for_trials(tmp_path / "run", done + 1)
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGINT)
    begin = time.monotonic()
    assert process.wait(30) == 130
    assert time.monotonic() - begin < 10


def wait_for_trials(run: Path, count: int) -> None:
    begin = time.monotonic()
    while (
        not (run / "trials.jsonl").exists() or len((run / "trials.jsonl").read_bytes().splitlines()) < count
    ):
        time.sleep(0.05)
        assert time.monotonic() - begin < 120


def test_a_worker_killed_from_outside_is_replaced(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    process = start(
        "search", "tiny.yaml", "--run", "run", "--workers", 1, cwd=tmp_path, stderr=tmp_path / "log"
    )
    wait_for_trials(tmp_path / "run", 2)
    workers = [p for p in psutil.Process(process.pid).children(recursive=True) if not p.children()]
    max(workers, key=lambda p: p.cpu_times().user).kill()
    assert process.wait(200) == 0
    assert journal(tmp_path / "run") == journal(finished)


def test_a_child_that_takes_too_long_is_ended_and_the_search_goes_on(tmp_path: Path) -> None:
    slow = TINY.replace("trials: 10", "trials: 2, time_limit: 0.2").replace("epochs: 2", "epochs: 100000")
    (tmp_path / "slow.yaml").write_text(slow)
    done = autoad("search", "slow.yaml", "--run", "run", cwd=tmp_path, check=1)
    assert "no model was found" in error_line(done)
    records = journal(tmp_path / "run")
    assert {r["status"] for r in records} <= {"failed", "skipped"}
    assert any("time_limit = 0.2" in r["error"] for r in records)
    assert any("ended by a limit" in w for r in records for w in r["warnings"])
