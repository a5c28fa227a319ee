"""`autoad check`: what a data set holds, in words, and what is odd about it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from autoad_cli.main import Context


@click.command()
@click.argument("data", metavar="NAME|DIR")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data sets; or AUTOAD_DATA.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def check(context: Context, data: str, data_root: Path | None, as_json: bool) -> None:
    """Say what a data set or a folder of images holds, and what is odd about it."""
    from autoad_cli import options
    from autoad_core.check import examine
    from autoad_core.config import Ref
    from autoad_core.split import open_dataset

    ref = Ref.model_validate(options.dataset_ref(data))
    root = options.data_root(data_root)
    findings = examine(open_dataset(context.plugins.registry, ref, root=root, shape=None, seed=0))
    if as_json:
        click.echo(json.dumps([asdict(f) for f in findings], indent=1))
        return
    for finding in findings:
        click.echo(f"odd: {finding.text}" if finding.level == "warning" else finding.text)
    odd = sum(f.level == "warning" for f in findings)
    click.echo(f"{odd} odd {'thing' if odd == 1 else 'things'} found." if odd else "Nothing odd found.")
