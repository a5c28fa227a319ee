"""`autoad report`: a run as one HTML file that needs no network."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoad_cli.tables import METRICS, REPORT, interval
from autoad_core.errors import RunError
from autoad_core.spec import Spec

if TYPE_CHECKING:
    from autoad_core.run import Record, Run

COLOURS = {"search": "#1f5fa8", "random": "#b0570b"}
TALL = 120  # of an image, in the diagram
COLUMNS = {"image": 104, "encoder": 112, "code": 104, "decoder": 64}  # widths
CASES = {
    "clearest": "Anomalies with the highest scores",
    "missed": "Anomalies with the lowest scores: what is missed first",
    "false alarm": "Normal images with the highest scores: what gives false alarms first",
}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file; report.html in RUN by default.",
)
def report(run: Path, output: Path | None) -> None:
    """Write what a search found as one HTML file: models, curves, heat maps, warnings, configuration."""
    from autoad_core.run import Run

    opened = Run(run)
    _ = opened.config
    if opened.result() is None:
        raise RunError(f"{run}: not finished, so there is nothing to report yet; autoad resume {run}")
    click.echo(str(write(opened, output or run / REPORT)))


def write(run: Run, target: Path) -> Path:
    """The report of a finished run, written to ``target``.

    Raises:
        RunError: The disk is full, or nothing may be written there.
    """
    from autoad_core.run import explain_disk

    text = html(run)
    with explain_disk(target.parent):
        aside = target.with_name(f".{target.name}")
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
    return target


def html(run: Run) -> str:
    """The page."""
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined

    result, saved = run.result() or {}, run.config
    records = run.records()
    pixel = result.get("metric", "auroc") != "auroc"
    metric = METRICS[result["metric"]] if pixel else "AUROC"
    if not pixel and len(result["groups"]) > 1:
        metric = f"{result['aggregate']} AUROC of {', '.join(result['groups'])}"
    environment = Environment(
        loader=PackageLoader("autoad_cli", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = interval
    best = result["models"][0] if result["models"] else None
    resolved = dict(saved["resolved"])
    return environment.get_template("report.html.j2").render(
        name=run.folder.resolve().name,
        result=result,
        best=best,
        metric=metric,
        set_metric=METRICS.get(result.get("metric", ""), "AUROC"),
        columns=[k for k in METRICS if k != "mean"] if pixel else ["auroc"],
        others=[k for k in METRICS if k not in ("mean", result["metric"])] if pixel else [],
        refined=next(iter(result.get("refined", ())), None),
        titles={**METRICS, "auroc": "AUROC, all anomalies together"},
        rows=[*result["models"], *result.get("refined", ()), *result["baselines"]],
        diagrams=[
            (row["name"], diagram(Spec.from_dict(row["spec"]), _layout(row))) for row in result["models"]
        ],
        curve=search_curve(records, metric),
        costs=cost_chart(records, metric),
        cases=_cases(run, result.get("cases", [])),
        config=yaml.safe_dump(saved["config"], sort_keys=False),
        components=resolved.pop("components", {}),
        hashes=resolved.pop("data", {}),
        machine=resolved.pop("machine", {}),
        controller=resolved.get("controller", ""),
    )


def _layout(row: Mapping[str, Any]) -> str:
    return f"{row['parameters']:,} parameters" if "parameters" in row else ""


def _cases(run: Run, cases: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The pictures by kind, each with its file as a data address."""
    found = []
    for kind, title in CASES.items():
        shown = []
        for case in cases:
            path = run.cases / Path(str(case["file"])).name
            if case["kind"] == kind and path.is_file():
                data = base64.b64encode(path.read_bytes()).decode()
                shown.append({**case, "source": f"data:image/jpeg;base64,{data}"})
        if shown:
            found.append((title, shown))
    return found


def search_curve(records: Sequence[Record], metric: str) -> str:
    """Best reward so far over the trials, as SVG; random search beside the controller's."""
    figure, axes = _chart("trial", f"best {metric} so far, validation")
    for phase, label in (("search", "search"), ("random", "random search")):
        values = [r["value"] if r["status"] == "ok" else None for r in records if r["phase"] == phase]
        best = list(itertools.accumulate((v if v is not None else float("-inf") for v in values), max))
        first = next((i for i, v in enumerate(best) if v > float("-inf")), len(best))
        if best[first:]:
            numbers = range(first + 1, len(best) + 1)
            axes.step(numbers, best[first:], where="post", color=COLOURS[phase], label=label, linewidth=2)
            axes.plot(
                [i + 1 for i, v in enumerate(values) if v is not None],
                [v for v in values if v is not None],
                "o",
                color=COLOURS[phase],
                alpha=0.45,
                markersize=4,
            )
    return _svg(figure, axes)


def cost_chart(records: Sequence[Record], metric: str) -> str:
    """Reward against predicted cost, as SVG."""
    figure, axes = _chart("predicted seconds of training", f"{metric}, validation")
    axes.set_xscale("log")
    for formatted in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatted(lambda value, _place: f"{value:g}")
    for phase, label in (("search", "search"), ("random", "random search")):
        found = [r for r in records if r["phase"] == phase and r["status"] == "ok" and r.get("cost")]
        if found:
            axes.plot(
                [r["cost"] for r in found],
                [r["value"] for r in found],
                "o",
                color=COLOURS[phase],
                alpha=0.6,
                markersize=5,
                label=label,
            )
    return _svg(figure, axes)


def _chart(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y if len(y) < 44 else "reward, validation")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any, axes: Any) -> str:
    """The chart as an SVG element, the same for the same data; empty where there is nothing in it."""
    import matplotlib as mpl

    if not axes.lines:
        return ""
    axes.legend(frameon=False, fontsize=9)
    out = io.StringIO()
    with mpl.rc_context(
        {"svg.hashsalt": axes.get_xlabel(), "svg.fonttype": "none", "font.family": "sans-serif"}
    ):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :]


def diagram(spec: Spec, note: str) -> list[dict[str, Any]]:
    """Boxes of a model from the image to its reconstruction, for the template to draw; ``x`` is a box's middle.

    Heights tell roughly how much pooling leaves of the image's side, widths the channels.
    """

    def box(kind: str, title: str, lines: Sequence[str], height: float, width: float = 24) -> dict[str, Any]:
        return {"kind": kind, "title": title, "lines": lines, "height": height, "width": width}

    def short(name: str) -> str:
        return " + ".join(part.rpartition("/")[2] for part in name.split("+"))

    height, encoder = float(TALL), []
    for layer in spec.layers:
        height = max(14.0, height / layer.pooling_kernel**0.6)
        lines = (
            f"{layer.channels} channels",
            f"{layer.kernel}x{layer.kernel} convolution",
            f"{short(layer.pooling)} pool {layer.pooling_kernel}",
            f"norm: {short(layer.normalization)}",
            short(layer.activation),
        )
        encoder.append(box("encoder", "", lines, height, 18 + 5 * layer.channels**0.5))
    boxes = [
        box("image", "image", (), TALL),
        *encoder,
        box("code", "code", (short(spec.hypothesis),), max(14.0, height * 0.8)),
        *({**layer, "kind": "decoder", "lines": ()} for layer in reversed(encoder)),
        box("image", "reconstruction", (short(spec.distance), note), TALL),
    ]
    left = 0.0
    for one in boxes:
        column = max(COLUMNS[one["kind"]], one["width"] + 16)
        one["x"] = left + column / 2
        left += column
    return boxes
