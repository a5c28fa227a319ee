"""The report: what it says, that it needs nothing else, and how it looks to a browser."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autoad_cli.report import diagram, html, search_curve, write
from autoad_core.cases import picked
from autoad_core.errors import RunError
from autoad_core.run import Run
from autoad_core.spec import Layer, Spec
from commandline import TINY, autoad, error_line


def layer(channels: int, pooling_kernel: int, normalization: str = "autoad/batch") -> Layer:
    return Layer(
        channels=channels,
        kernel=3,
        pooling="autoad/max",
        pooling_kernel=pooling_kernel,
        normalization=normalization,
        activation="autoad/relu",
    )


LAYER = layer(32, 3)
SPEC = Spec("autoad/cluster", "autoad/l21+autoad/ssim", (LAYER, LAYER))


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.04}


def row(name: str, value: float, **more: Any) -> dict[str, Any]:
    metrics = {
        k: interval(value - i / 100)
        for i, k in enumerate(("pixel_auroc", "au_pro", "rpro", "image_auroc", "mean"))
    }
    figures = {"reward": interval(value), "sets": {}, "metrics": metrics}
    return {"name": name, "validation": figures, "test": figures, "score": "own", **more}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run for pixel maps, by hand, with names that are markup."""
    folder = tmp_path / "run <b>bold</b>"
    (folder / "cases").mkdir(parents=True)
    Image.fromarray(np.zeros((20, 60, 3), np.uint8)).save(folder / "cases" / "missed-1.jpg")
    case = {"kind": "missed", "file": "missed-1.jpg", "group": "<i>dent</i>", "score": 1.5, "p_value": 0.25}
    best = row("trial 3", 0.9, id=3, spec=SPEC.to_dict(), parameters=12345, warnings=[])
    result = {
        "models": [best],
        "baselines": [row("PCA", 0.8), row("random search, 2 trials", 0.7, id=4)],
        "counts": {"ok": 4, "failed": 1, "skipped": 0, "cached": 0},
        "aggregate": "minimum",
        "metric": "au_pro",
        "space": 1234,
        "groups": ["<i>dent</i>"],
        "images": {part: {"normal": 10, "anomalous": 5} for part in ("train", "validation", "test")},
        "cases": [case],
        "notes": ["a warning & more"],
    }
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text(
        "config: {seed: 7, data: {dataset: {name: folder}}}\n"
        "resolved: {components: {autoad/cluster: '0.1'}, data: {train: abc123}, machine: {cores: 2}, controller: autoad/random}\n"
    )
    values = [("search", 0.5), ("search", None), ("search", 0.8), ("random", 0.6), ("random", 0.55)]
    records = [
        {
            "id": i,
            "phase": phase,
            "status": "failed" if value is None else "ok",
            "value": value,
            "cost": 2.0 + i,
        }
        for i, (phase, value) in enumerate(values)
    ]
    (folder / "trials.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return Run(folder)


def test_the_page_says_what_came_out(run: Run) -> None:
    text = html(run)
    for told in (
        "AU-PRO",
        "0.890",  # the best model's AU-PRO on test, in large
        "[0.850, 0.940]",
        "a warning &amp; more",
        "random search, 2 trials",
        "12,345 parameters",
        "abc123",
        "seed: 7",
        "autoad/cluster 0.1",
        "p = 0.25",
        "32 channels",
        "l21 + ssim",
    ):
        assert told in text, told
    assert text.count('<tr class="model">') == 1  # random search is no model of the run
    assert "<b>bold" not in text.replace("<b>0", "")
    assert "<i>dent" not in text


def test_the_page_needs_no_network_and_is_the_same_each_time(run: Run) -> None:
    text = html(run)
    addresses = set(re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s)>]{1,12})""", text))
    assert all(a.startswith(("data:", "#")) for a in addresses), addresses
    assert "<script" not in text
    assert html(run) == text
    assert write(run, run.folder / "report.html").stat().st_size < 5_000_000


def test_the_curve_is_of_the_best_so_far() -> None:
    records = [
        {"phase": "search", "status": "failed", "value": None},
        {"phase": "search", "status": "ok", "value": 0.5},
        {"phase": "search", "status": "ok", "value": 0.4},
    ]
    assert "<svg" in search_curve(records, "AUROC")
    assert "random search" not in search_curve(records, "AUROC")
    assert search_curve(records[:1], "AUROC") == ""
    assert search_curve([], "AUROC") == ""


def test_the_diagram_goes_from_image_to_reconstruction_and_nothing_overlaps() -> None:
    for channels in (3, 256):
        wide = layer(channels, 7, "autoad/none")
        boxes = diagram(Spec("a/b", "a/c", (LAYER, wide)), "note")
        kinds = ["image", "encoder", "encoder", "code", "decoder", "decoder", "image"]
        assert [box["kind"] for box in boxes] == kinds
        ends = [(box["x"] - box["width"] / 2, box["x"] + box["width"] / 2) for box in boxes]
        assert all(a[1] < b[0] for a, b in itertools.pairwise(ends))
        assert boxes[1]["height"] > boxes[2]["height"]
        assert boxes[5]["height"] == boxes[1]["height"]


def test_the_cases_are_the_extremes_and_none_is_shown_twice() -> None:
    scores = np.array([5, 1, 4, 2, 3, 0, 9], np.float32)
    groups = np.array([1, 0, 2, 1, 0, 0, 1])
    found = list(picked(scores, groups, 2))
    assert found == [
        ("clearest", 1, 6),
        ("clearest", 2, 0),
        ("missed", 1, 3),
        ("missed", 2, 2),
        ("false alarm", 1, 4),
        ("false alarm", 2, 1),
    ]
    rows = [row for _, _, row in picked(scores, groups, 10)]
    assert sorted(rows) == list(range(7))


def test_a_run_without_an_end_or_a_place_to_write_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere.*no such file or folder"):
        write(run, tmp_path / "nowhere" / "report.html")
    (run.folder / "result.json").unlink()
    assert "not finished, so there is nothing to report" in error_line(autoad("report", run.folder, check=1))
    assert "not a run of autoad" in error_line(autoad("report", tmp_path, check=1))


@pytest.mark.slow
def test_a_search_writes_its_report_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    done = autoad("search", "tiny.yaml", "--run", "run", cwd=tmp_path, check=0)
    assert done.stdout.endswith("report: run/report.html\n")
    text = (tmp_path / "run" / "report.html").read_text()
    assert "nearest neighbours" in text
    assert text.count("<img") == 12  # four clear, four missed, four false alarms
    again = autoad("report", "run", "--output", "other.html", cwd=tmp_path, check=0)
    assert again.stdout == "other.html\n"
    assert (tmp_path / "other.html").read_text() == text


# In a browser

PROBE = """<script>addEventListener("load", () => {
  const broken = [...document.images].filter(i => !(i.complete && i.naturalWidth > 0)).length;
  const wide = document.documentElement.scrollWidth - innerWidth;
  document.body.innerHTML = `<pre>images=${document.images.length} broken=${broken} overflow=${wide} charts=${
    [...document.querySelectorAll("svg")].filter(s => s.getBoundingClientRect().height > 20).length}</pre>`;
});</script>"""


@pytest.fixture
def browser() -> str:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("width", [400, 1300])
def test_a_browser_shows_it_without_complaint(browser: str, run: Run, tmp_path: Path, width: int) -> None:
    page = tmp_path / "page.html"
    page.write_text(html(run).replace("</body>", f"{PROBE}</body>"))
    quiet = (
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    )
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet, "--enable-logging=stderr"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    (found,) = re.findall(r"images=(\d+) broken=(\d+) overflow=(-?\d+) charts=(\d+)", done.stdout)
    images, broken, overflow, charts = map(int, found)
    assert (images, broken) == (1, 0)
    assert charts == 3  # two curves and a diagram
    assert overflow <= 0, "the page is wider than the window"
