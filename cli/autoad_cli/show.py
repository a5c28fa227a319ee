"""`autoad show`: a run, finished or not."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The result, or the trials so far, as JSON.")
@click.option(
    "--top",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Trials to list of a run that is not finished.",
)
def show(run: Path, as_json: bool, top: int) -> None:
    """Show what a run found, or has found so far."""
    from autoad_cli.progress import describe
    from autoad_cli.tables import print_result
    from autoad_core.run import Run
    from autoad_core.spec import Spec

    opened = Run(run)
    _ = opened.config
    result = opened.result()
    if result is not None:
        if as_json:
            click.echo(json.dumps(result | {"run": str(run)}, indent=1))
        else:
            print_result(result, run)
        return
    records = opened.records()
    if as_json:
        click.echo(json.dumps({"run": str(run), "trials": records}, indent=1))
        return
    click.echo(f"{run}: not finished, {len(records)} trials; go on with: autoad resume {run}")
    ranked = sorted((r for r in records if r["status"] == "ok"), key=lambda r: (-r["value"], r["id"]))
    for record in ranked[:top]:
        click.echo(f"trial {record['id']:>4}  {describe(record)}  {Spec.from_dict(record['spec'])}")
