"""`autoad list-components`: what there is, who provides it, and what was left out."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import click

from autoad_cli.main import Context
from autoad_core.component import Kind
from autoad_core.registry import Entry


@click.command("list-components")
@click.option("--kind", type=click.Choice([k.value for k in Kind]), help="Only this kind.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.option(
    "--check",
    is_flag=True,
    help="Exit 1 on any problem: a plugin skipped, a name twice, a missing module that no extra brings.",
)
@click.pass_obj
def list_components(context: Context, kind: str | None, as_json: bool, check: bool) -> None:
    """Show every component, the package it comes from, and whether it can be loaded."""
    plugins = context.plugins
    names = Counter((e.kind, e.component.name) for e in plugins.registry)
    rows = [
        _row(e, clash=names[e.kind, e.component.name] > 1)
        for e in plugins.registry
        if kind in (None, e.kind.value)
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        _print(rows)
    offered = {e.id for e in plugins.registry if e.component.extra}  # what is not installed is no fault
    faults = [r for r in rows if r["problem"] and (r["loadable"] or r["id"] not in offered)]
    if check and (plugins.problems or faults):
        sys.exit(1)


def _row(entry: Entry, *, clash: bool) -> dict[str, Any]:
    missing = entry.missing()
    problem = ""
    if missing:
        problem = f"needs {', '.join(missing)}"
        problem += f"; pip install '{entry.component.extra}'" if entry.component.extra else ""
    elif clash:
        problem = f"several packages provide {entry.component.name!r}; write {entry.id}"
    return {
        "kind": entry.kind.value,
        "id": entry.id,
        "name": entry.component.name,
        "distribution": entry.origin.distribution,
        "version": entry.origin.version,
        "plugin": entry.origin.plugin,
        "summary": entry.component.summary,
        "loadable": not missing,
        "problem": problem,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    """Aligned columns; plain text, so that it can be piped and costs no start-up."""
    columns = [(r["kind"], r["id"], f"{r['distribution']} {r['version']} ({r['plugin']})") for r in rows]
    widths = [max((len(c[i]) for c in columns), default=0) for i in range(3)]
    for row, column in zip(rows, columns, strict=True):
        line = "  ".join(c.ljust(w) for c, w in zip(column, widths, strict=True))
        click.echo(f"{line}  {row['summary']}" + (f"  [{row['problem']}]" if row["problem"] else ""))
