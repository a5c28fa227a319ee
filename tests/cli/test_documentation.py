"""The documentation does what it says: the tutorial runs, generated pages are current, the example plugin installs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from PIL import Image

from autoad_cli.reference import commented_yaml, markdown
from autoad_core.config import parse
from commandline import COMMAND, autoad

ROOT = Path(__file__).parents[2]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    tutorial = ROOT / "docs" / "tutorial.md"
    subprocess.run([sys.executable, "-c", blocks(tutorial, "python")[0]], cwd=tmp_path, check=True)
    for name, text in zip(("tiles.yaml", "spots.yaml"), blocks(tutorial, "yaml"), strict=True):
        (tmp_path / name).write_text(text)
    lines = "".join(blocks(tutorial, "console")).splitlines()
    commands = [shlex.split(line.removeprefix("$ autoad ")) for line in lines if line.startswith("$ autoad ")]
    assert len(commands) == len(lines) >= 6
    printed: dict[str, str] = {}
    for command in commands:
        printed.setdefault(command[0], autoad(*command, cwd=tmp_path, check=0).stdout)
    assert "good" in printed["check"]
    assert "nearest neighbours" in printed["show"]
    assert "auroc" in printed["evaluate"]
    assert len(printed["predict"].splitlines()) == 41
    result = json.loads((tmp_path / "runs" / "spots" / "result.json").read_text())
    assert result["models"][0]["test"]["metrics"]["au_pro"]["value"] > 0.8
    pictures = list((tmp_path / "maps").iterdir())
    assert len(pictures) == 40
    for picture in pictures:
        with Image.open(picture) as shown:
            assert shown.size == (3 * 32 + 2 * 8, 32)  # image, map and mask


def test_the_tutorial_shows_the_example_plugin() -> None:
    python = blocks(ROOT / "docs" / "tutorial.md", "python")
    example = ROOT / "examples" / "autoad-hello"
    assert python[1].strip() in (example / "autoad_hello.py").read_text()
    assert python[2].strip() == (example / "test_hello.py").read_text().strip()


def test_generated_pages_are_current() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == markdown(), "run: make docs"


def test_the_commented_configuration_is_the_default() -> None:
    import yaml

    assert parse(yaml.safe_load(commented_yaml())) == parse({})
    paper = yaml.safe_load(commented_yaml()) | {"preset": "paper"}
    assert parse(paper) == parse({"preset": "paper"}), "a key that the preset sets is not commented out"


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


@pytest.mark.parametrize("config", sorted((ROOT / "examples").rglob("*.yaml")), ids=lambda p: p.stem)
def test_examples_are_valid(config: Path) -> None:
    from autoad_core.config import load

    parse(load(config), str(config))


@pytest.mark.slow
def test_the_example_plugin_from_installation_to_removal(tmp_path: Path) -> None:
    """In an environment that sees this one's packages, so that nothing else notices the plugin."""
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    here = sysconfig.get_paths()["purelib"]
    there = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (there / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "COVERAGE_PROCESS_START")}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            arguments, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def command(*arguments: str) -> str:
        return run(str(python), *COMMAND[1:], *arguments)

    example = ROOT / "examples" / "autoad-hello"
    lines = sum(len(p.read_text().splitlines()) for p in example.iterdir() if p.is_file())
    assert lines < 60
    pip = (sys.executable, "-m", "pip", "--python", str(python))
    run(*pip, "install", "--quiet", "--no-deps", "--no-build-isolation", str(example))
    rows = {r["id"]: r for r in json.loads(command("list-components", "--kind", "hypothesis", "--json"))}
    assert rows["autoad-hello/shell"]["distribution"] == "autoad-hello"
    assert rows["autoad-hello/shell"]["version"] == "0.1.0"
    assert rows["autoad-hello/shell"]["loadable"]
    (tmp_path / "shell.yaml").write_text(
        "data: {dataset: digits, normal: ['5']}\nspace: {hypothesis: [shell], layers: 1, channels: [8]}\n"
        "search: {trials: 3, random_trials: 0, promote: 1}\ntrain: {images: 64, epochs: 4}\n"
    )
    command("search", "shell.yaml", "--run", "run")
    records = [json.loads(line) for line in (tmp_path / "run" / "trials.jsonl").read_text().splitlines()]
    assert {r["spec"]["hypothesis"] for r in records} == {"autoad-hello/shell"}
    assert any(r["status"] == "ok" for r in records)
    run(str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example / "test_hello.py"))
    run(*pip, "uninstall", "--quiet", "--yes", "autoad-hello")
    assert "autoad-hello/shell" not in command("list-components")
