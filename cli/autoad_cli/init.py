"""`autoad init`: a commented configuration to start from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", default="autoad.yaml", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def init(file: Path, force: bool) -> None:
    """Write FILE, a configuration with every key, its default and what it means."""
    from autoad_cli.reference import commented_yaml
    from autoad_core.errors import RunError

    if file.exists() and not force:
        raise RunError(f"{file}: exists; choose another name, or overwrite it with --force")
    file.write_text(commented_yaml(), encoding="utf-8")
    click.echo(f"{file}: edit it, then run: autoad search {file}")
