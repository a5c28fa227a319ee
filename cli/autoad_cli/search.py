"""`autoad search` and `autoad resume`."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from autoad_cli.main import Context

RUNS = Path("runs")


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option(
    "--dataset", metavar="NAME|DIR", help="A data set, or a folder of images with good/ and bad/ in it."
)
@click.option("--controller", metavar="NAME", help="The search strategy.")
@click.option("--trials", type=int, help="Architectures to try.")
@click.option("--layers", type=int, help="Encoder layers.")
@click.option("--workers", type=int, help="Processes that train; one a core by default.")
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--preset", type=click.Choice(["default", "paper"]), help="`paper` for the published settings.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data sets; or AUTOAD_DATA.")
@click.option(
    "--run", "folder", type=click.Path(path_type=Path), help="Folder of the run; runs/NAME by default."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
@click.pass_obj
def search(
    context: Context,
    config: Path | None,
    dataset: str | None,
    controller: str | None,
    trials: int | None,
    layers: int | None,
    workers: int | None,
    seed: int | None,
    preset: str | None,
    data_root: Path | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Search for a detector, by a YAML file CONFIG, by options, or both; options win.

    Alone it searches on the handwritten digits that come with scikit-learn, in about a minute.
    """
    from autoad_cli.options import dataset_ref, read_config

    if dataset and Path(dataset).is_dir():
        dataset = str(Path(dataset).absolute())  # the run may be resumed from another folder
    options = {
        "data.dataset": dataset_ref(dataset) if dataset is not None else None,
        "data.root": str(data_root) if data_root else None,
        "controller": controller,
        "search.trials": trials,
        "space.layers": layers,
        "workers": workers,
        "seed": seed,
        "preset": preset,
    }
    settings = read_config(config, options)
    from autoad_core import launch

    if folder is None:
        name = (
            config.stem
            if config
            else f"{_slug(settings.data.dataset.name)}-{_slug(settings.controller.name)}"
        )
        folder = _free(RUNS / name)

    def work(progress: Any, stop: Callable[[], bool]) -> dict[str, Any]:
        return launch.start(
            settings, folder, context.plugins, progress, stop, builtin_only=context.builtin_only
        )

    _watch(work, folder, as_json=as_json)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--workers", type=click.IntRange(min=0), help="Processes that train; as the run says by default."
)
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
@click.pass_obj
def resume(context: Context, run: Path, workers: int | None, as_json: bool) -> None:
    """Go on with a search that was stopped, as if it had not been."""
    from autoad_core import launch

    def work(progress: Any, stop: Callable[[], bool]) -> dict[str, Any]:
        return launch.resume(run, context.plugins, progress, stop, workers=workers)

    _watch(work, run, as_json=as_json)


def _watch(work: Callable[[Any, Callable[[], bool]], dict[str, Any]], folder: Path, *, as_json: bool) -> None:
    """Run ``work`` under a progress display; the first Ctrl-C asks it to stop, the second one stops it."""
    from autoad_cli import report
    from autoad_cli.progress import display
    from autoad_cli.tables import REPORT, print_result
    from autoad_core.errors import RunError
    from autoad_core.run import Run

    stopping = False

    def ask(_signal: int, _frame: object) -> None:
        nonlocal stopping
        if stopping:
            raise KeyboardInterrupt
        stopping = True
        click.echo("Stopping after the running trials; Ctrl-C again stops at once.", err=True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        with display() as progress:
            result = work(progress, lambda: stopping)
    except KeyboardInterrupt:
        click.echo(f"Interrupted; go on with: autoad resume {folder}", err=True)
        raise SystemExit(130) from None
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        report.write(Run(folder), folder / REPORT)
    except RunError as error:  # the result is there all the same
        click.echo(f"note: no report: {error}", err=True)
    if as_json:
        click.echo(json.dumps(result | {"run": str(folder)}, indent=1))
    else:
        print_result(result, folder)
    if not result["models"]:
        reason = next((r["error"] for r in Run(folder).records() if r.get("error")), "no trial")
        raise RunError(
            f"{folder}: no model was found, every trial failed or was skipped; {folder}/trials.jsonl says why, "
            f"the first time: {reason}"
        )


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name.rpartition("/")[2])


def _free(folder: Path) -> Path:
    """``folder``, or the first of ``folder-2``, ``folder-3`` ... that does not exist."""
    number = 2
    path = folder
    while path.exists():
        path = folder.with_name(f"{folder.name}-{number}")
        number += 1
    return path
