"""A broken plugin costs only itself. The seven in tests/broken are real distributions on disk, one a fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from autoad_core.component import HOOKS, Component, Hooks, Kind
from autoad_core.discovery import discover, installed
from autoad_core.errors import AmbiguousName, BrokenComponent, ConfigError, UnknownName
from autoad_core.registry import Entry, Origin, Registry

BROKEN = Path(__file__).parents[1] / "broken"
FAULTS = {
    "autoad-import-error": "load: ModuleNotFoundError: No module named 'no_such_module'",
    "autoad-exit": "load: SystemExit: boom",
    "autoad-typo": "load: unknown hook 'autoad_distanses'; known: autoad_activations",
    "autoad-halfway": "autoad_distances: RuntimeError: half way",
    "autoad-signature": "load: PluginValidationError",
    "autoad-next": "version: written for plugin API 'autoad.v2', this is v1",
}


def autoad(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "autoad_cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BROKEN), **environment},
    )


def test_every_good_component_is_listed_and_each_fault_is_one_line() -> None:
    done = autoad("list-components", "--json")
    assert done.returncode == 0
    ids = {row["id"] for row in json.loads(done.stdout)}
    assert {
        "autoad/l2",
        "autoad/random",
        "autoad-clash/cosine",
        "autoad-clash/l2",
        "autoad-typo/beside-typo",
    } <= ids
    assert "autoad-halfway/ghost" in ids
    assert not any("never-complete" in i for i in ids)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == len(FAULTS)
    for distribution, fault in FAULTS.items():
        assert sum(f"{distribution} 0.1 (main): {fault}" in line for line in lines) == 1


def test_check_fails_and_no_plugins_silences() -> None:
    assert autoad("list-components", "--check").returncode == 1
    done = autoad("--no-plugins", "list-components", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "autoad-clash" not in done.stdout


def test_rows_tell_what_is_missing_and_what_clashes() -> None:
    rows = {row["id"]: row for row in json.loads(autoad("list-components", "--json").stdout)}
    keys = ["kind", "id", "name", "distribution", "version", "plugin", "summary", "loadable", "problem"]
    assert list(rows["autoad/l2"]) == keys
    ghost = rows["autoad-halfway/ghost"]
    assert not ghost["loadable"]
    assert ghost["problem"] == "needs no.such; pip install 'autoad-halfway[ghost]'"
    assert "write autoad/l2" in rows["autoad/l2"]["problem"]
    assert rows["autoad/l1"]["problem"] == ""


def test_strict_raises_the_first_problem() -> None:
    done = autoad("list-components", AUTOAD_STRICT="1")
    assert done.returncode != 0


def test_kind_restricts_the_list() -> None:
    rows = json.loads(autoad("list-components", "--kind", "controller", "--json").stdout)
    assert {row["kind"] for row in rows} == {"controller"}


def test_a_clash_is_an_error_only_when_the_short_name_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BROKEN))
    registry = discover().registry
    assert registry.get(Kind.DISTANCE, "autoad/l2").origin.distribution == "autoad"
    assert registry.get(Kind.DISTANCE, "cosine").id == "autoad-clash/cosine"
    with pytest.raises(AmbiguousName, match="write one of: autoad-clash/l2, autoad/l2"):
        registry.get(Kind.DISTANCE, "l2")
    with pytest.raises(
        BrokenComponent, match=r"No module named 'no'\); try: pip install 'autoad-halfway\[ghost\]'"
    ):
        registry.get(Kind.CONTROLLER, "ghost").load()


def test_unknown_names_get_the_closest() -> None:
    registry = discover(builtin_only=True).registry
    with pytest.raises(UnknownName, match="no distance is called 'ssin'; did you mean ssim"):
        registry.get(Kind.DISTANCE, "ssin")
    with pytest.raises(UnknownName, match=r"no dataset is called 'zzz'; known: .*digits"):
        registry.get(Kind.DATASET, "zzz")


def test_params_must_fit_the_factory() -> None:
    entry = discover(builtin_only=True).registry.get(Kind.CONTROLLER, "random")
    with pytest.raises(ConfigError, match=r"controller 'autoad/random': .*'lr'; its params: none"):
        entry.build({"lr": 1}, space=None, seed=0)


def test_every_builtin_comes_from_an_entry_point_of_the_public_group() -> None:
    mine = [ep for ep in installed() if ep.dist is not None and ep.dist.name == "autoad"]
    without = [ep for ep in mine if ep.name != "distances"]
    assert any(e.kind is Kind.DISTANCE for e in discover(mine).registry)
    assert not any(e.kind is Kind.DISTANCE for e in discover(without).registry)
    assert not discover([]).registry.of(Kind.CONTROLLER)


def test_a_hook_that_gives_something_else_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd_plugin.py").write_text(
        "from autoad_core import Component, hookimpl\n"
        "@hookimpl\ndef autoad_distances():\n"
        "    one = Component(name='one', target='a:b', summary='')\n"
        "    return [one, one, 'two']\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = discover([EntryPoint("odd", "odd_plugin", "autoad.v1")])
    assert [e.component.name for e in found.registry] == ["one"]
    assert "declared twice" in str(found.problems[0])
    assert "gave 'two', expected a Component" in str(found.problems[1])
    with pytest.raises(ValueError, match="declared twice"):
        discover([EntryPoint("odd", "odd_plugin", "autoad.v1")], strict=True)


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from autoad_core.discovery import discover; found = discover(builtin_only=True);"
        "[e.missing() for e in found.registry]; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_kind_has_a_hook_with_a_docstring() -> None:
    assert set(HOOKS) == set(Kind)
    for hook in HOOKS.values():
        assert getattr(Hooks, hook).__doc__
        assert getattr(Hooks(), hook)() == ()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"name": "L2"}, "must match"),
        ({"target": "no colon"}, "must read 'package.module:attribute'"),
        ({"summary": "a\nb"}, "one line"),
    ],
)
def test_components_say_what_is_wrong(bad: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Component(**{"name": "x", "target": "a:b", "summary": "", **bad})  # type: ignore[arg-type]


def test_missing_modules_are_found_without_importing() -> None:
    def entry(**more: object) -> Entry:
        component = Component(name="x", summary="", **more)  # type: ignore[arg-type]
        return Entry(Kind.DISTANCE, component, Origin("p", "d", "1"))

    assert entry(target="json.decoder:JSONDecoder").missing() == ()
    assert entry(target="json.nothing:X").missing() == ("json.nothing",)
    assert entry(target="json.decoder.deeper:X").missing() == ("json.decoder.deeper",)
    assert entry(target="json:loads", requires=("no_such",)).missing() == ("no_such",)
    with pytest.raises(BrokenComponent, match="no_such"):
        entry(target="json:loads", requires=("no_such",)).load()
    assert Registry().of(Kind.POOLING) == []
