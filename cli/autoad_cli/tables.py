"""The result of a run as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from autoad_core.spec import Spec

METRICS = {
    "pixel_auroc": "pixel AUROC",
    "au_pro": "AU-PRO",
    "rpro": "RPRO",
    "image_auroc": "image AUROC",
    "mean": "mean of pixel AUROC, AU-PRO, RPRO and image AUROC",
}
REPORT = "report.html"
MIN_WIDTH = 118  # of a table that is piped


class Stdout(Console):
    """A console that leaves a reader who has gone, as `head` does, to the command."""

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError, where rich would end with exit code 1."""
        raise BrokenPipeError


def console() -> Console:
    """Stdout; wide enough for the table where it is not a terminal."""
    out = Stdout()
    return out if out.is_terminal else Stdout(width=MIN_WIDTH)


def interval(figure: dict[str, float]) -> str:
    """``0.951 [0.932, 0.967]``."""
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def print_result(result: dict[str, Any], folder: Path) -> None:
    """The best models beside what is simpler, validation and test apart, with intervals."""
    out = console()
    pixel = result.get("metric", "auroc") != "auroc"
    aggregate = (
        METRICS[result["metric"]]
        if pixel
        else "AUROC"
        if len(result["groups"]) == 1
        else f"{result['aggregate']} AUROC of {', '.join(result['groups'])}"
    )
    table = Table(
        title=f"{aggregate}, with {result.get('intervals', '95 % bootstrap intervals')}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("", "validation", "test", "score", "parameters"):
        table.add_column(
            name, justify="right" if name == "parameters" else "left", no_wrap=name in ("validation", "test")
        )
    for row in result["models"]:
        table.add_row(*_cells(row, "bold"))
    for row in result.get("refined", ()):
        table.add_row(*_cells(row, ""))
    table.add_section()
    for row in result["baselines"]:
        table.add_row(*_cells(row, ""))
    out.print(table)
    out.print()
    for row in result["models"]:
        out.print(
            f"{row['name']}: {Spec.from_dict(row['spec'])}", highlight=False, markup=False, soft_wrap=True
        )
    best = result["models"][0] if result["models"] else None
    for row in [*([best] if best else []), *result.get("refined", ()), *result["baselines"]] if pixel else ():
        told = ", ".join(
            f"{METRICS[k]} {interval(row['test']['metrics'][k])}" for k in METRICS if k != "mean"
        )
        out.print(f"{row['name']}, test: {told}", highlight=False, markup=False, soft_wrap=True)
    if best and len(result["groups"]) > 1 and best["test"]["sets"]:
        sets = [f"{name} {interval(figure)}" for name, figure in best["test"]["sets"].items()]
        name = METRICS.get(result.get("metric", ""), "AUROC")
        out.print(
            f"\n{best['name']}, test {name} by set: {'; '.join(sets)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    counts, images = result["counts"], result["images"]
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    sizes = "; ".join(
        f"{part} {n['normal']} normal, {n['anomalous']} anomalous" for part, n in images.items()
    )
    size = result["space"]
    told += f", of a space of {size:,}" if size < 1e6 else f", of a space of {size:.3g}"
    out.print(f"\ntrials: {told}", highlight=False)
    if sizes:
        out.print(f"images: {sizes}", highlight=False)
    for note in result["notes"]:
        out.print(f"note: {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    out.print(f"run: {folder}", highlight=False, soft_wrap=True)
    if best and "path" in best:
        out.print(f"next: autoad predict {folder} PATH...", highlight=False, soft_wrap=True)
    if (folder / REPORT).exists():
        out.print(f"report: {folder / REPORT}", highlight=False, soft_wrap=True)


def _cells(row: dict[str, Any], style: str) -> list[str]:
    cells = [
        row["name"],
        interval(row["validation"]["reward"]),
        interval(row["test"]["reward"]),
        row.get("score", ""),
        f"{row['parameters']:,}" if "parameters" in row else "",
    ]
    return [f"[{style}]{c}[/]" if style and c else c for c in cells]
