"""`autoad predict` and `autoad evaluate`: a trained model at work."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from autoad_cli.heatmaps import Heatmaps
from autoad_cli.main import Context

if TYPE_CHECKING:
    from autoad_core.modelfile import Model
    from autoad_core.thresholds import Usual

BATCH = 64
BATCH_PIXELS = 2**22


def load_model(context: Context, path: Path, refine: str | None = None) -> Model:
    """A model's folder, or a run's, whose best model is taken.

    Args:
        refine: Refinements that its maps go through, in a row with commas between, or ``none``; by default its own.
    """
    import torch

    from autoad_core import modelfile
    from autoad_core.config import Ref
    from autoad_core.errors import ModelError, at
    from autoad_core.run import Run

    torch.set_num_threads(1)  # the same sums as the search made, whatever the number of cores
    if (path / "config.yaml").exists():
        result = Run(path).result()
        if result is None:
            raise ModelError(f"{path}: this run has no model yet; autoad resume {path}")
        if not result["models"]:
            raise ModelError(f"{path}: this run found no model; autoad show {path}, and search again")
        if "path" not in result["models"][0]:
            raise ModelError(f"{path}: its trials were looked up in a table, and there is no model")
        path = path / "models" / f"{result['models'][0]['id']:04d}"
    model = modelfile.load(path, context.plugins.registry)
    names = [name.strip() for name in refine.split(",")] if refine not in (None, "none") else []
    with at("--refine"):
        return modelfile.refining(
            model,
            context.plugins.registry,
            model.refine if refine is None else [Ref(name=name) for name in names],
        )


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of CSV.")
@click.option("--score", help="Which of the model's scores; the one that validation preferred by default.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file instead of stdout.")
@click.option(
    "--false-alarms",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="Share of normal images that may be called anomalous.",
)
@click.option(
    "--heatmaps",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for pictures that show where the anomaly is.",
)
@click.option(
    "--refine",
    metavar="NAME,...",
    help="Refinements of the maps, one after the other, such as saliency,grad-cam; none for raw maps, the model's own by "
    "default. See autoad list-components.",
)
@click.option(
    "--pixel-false-alarms",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.001,
    show_default=True,
    help="Share of a normal image's pixels that the contour in a picture may enclose.",
)
@click.pass_obj
def predict(
    context: Context,
    model: Path,
    paths: tuple[str, ...],
    as_json: bool,
    score: str | None,
    output: Path | None,
    false_alarms: float,
    heatmaps: Path | None,
    refine: str | None,
    pixel_false_alarms: float,
) -> None:
    """Score images: files, folders (recursively) and globs. The larger the score, the less normal the image.

    MODEL is a model's folder or a run's. `p_value` is the share of normal images that would score so high, and `verdict` says
    whether that is at most --false-alarms. An image that cannot be read has its reason in the column `error`; the exit code is 0
    whatever the scores.
    """
    from autoad_core.errors import UnknownName
    from autoad_core.images import find_images

    loaded = load_model(context, model, refine)
    name = score or loaded.score
    if name not in loaded.scores:
        raise UnknownName(f"{model}: no score is called {name!r}; known: {', '.join(loaded.scores)}")
    judge = Verdicts(loaded.expected(name), false_alarms, refined=bool(loaded.chain))
    if judge.note:
        click.echo(f"note: {judge.note}", err=True)
    pictures = Heatmaps.prepare(loaded, name, heatmaps, pixel_false_alarms) if heatmaps else None
    if pictures and pictures.note:
        click.echo(f"note: {pictures.note}", err=True)
    found = find_images(paths)
    where = str(output) if output else "-"
    with click.open_file(where, "w", encoding="utf-8", errors="surrogateescape") as file:
        _write(file, _rows(loaded, found, name, judge, pictures), as_json=as_json)


class Verdicts:
    """p-values and verdicts of one score of a model.

    Args:
        usual: Of its scores; None where that is not known.
        rate: Of false alarms.
        refined: Whether the scores are those of refined maps.
    """

    def __init__(self, usual: Usual | None, rate: float, *, refined: bool = False) -> None:
        self._usual, self._rate = usual, rate
        self.note = ""
        if self._usual is None:
            why = "the model knows no scores of normal images"
            if refined:
                why += " after these refinements and by this score, only by the best after those in the search's key refine"
            self.note = f"{why}, so there are no p-values and verdicts" + "; see --refine none" * refined
        elif self._usual.least_rate > rate:
            self.note = (
                f"{len(self._usual.scores)} normal validation images can promise no rate of false alarms below "
                f"{self._usual.least_rate:.3f}, so there are no verdicts; raise --false-alarms, or search with more good images"
            )

    def __call__(self, score: float) -> dict[str, Any]:
        """The columns ``p_value`` and ``verdict``."""
        if self._usual is None:
            return {"p_value": None, "verdict": ""}
        p = self._usual.p_value(score)
        verdict = "anomalous" if p <= self._rate else "normal"
        return {"p_value": round(p, 6), "verdict": "" if self.note else verdict}


def _rows(
    model: Model,
    found: Iterator[Path],
    score: str,
    judge: Verdicts,
    pictures: Heatmaps | None,
) -> Iterator[dict[str, Any]]:
    """One row an image, in order, read and scored in batches so that any number of images fits."""
    import numpy as np
    import torch

    from autoad_core.errors import DataError
    from autoad_core.images import read_image

    shape = model.detector.shape
    size = max(1, min(BATCH, BATCH_PIXELS // (shape[1] * shape[2])))
    while batch := list(islice(found, size)):
        images, errors = {}, {}
        for path in batch:
            try:
                images[path] = read_image(path, shape, fit=True)
            except DataError as error:
                errors[path] = str(error)
        scores: dict[Path, float] = {}
        if images:
            values = model(torch.from_numpy(np.stack(list(images.values()))), score)
            if pictures:
                for path, one in zip(images, values, strict=True):
                    pictures.draw(path, one)
            flat = values if values.ndim == 1 else values.max((1, 2))
            scores = dict(zip(images, flat.tolist(), strict=True))
        for path in batch:
            told = judge(scores[path]) if path in scores else {"p_value": None, "verdict": ""}
            yield {"path": str(path), "score": scores.get(path), **told, "error": errors.get(path, "")}


def _write(file: IO[str], rows: Iterator[dict[str, Any]], *, as_json: bool) -> None:
    columns = ("path", "score", "p_value", "verdict", "error")
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    quoting = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
    if not as_json:
        writer.writeheader()
    for row in rows:
        if as_json:
            file.write(json.dumps(row) + "\n")
        else:  # readers end a line at a lone "\r" as well, which the writer does not expect
            (quoting if "\r" in row["path"] else writer).writerow(row)
        file.flush()


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--dataset", metavar="NAME|DIR", required=True, help="Labelled images: a data set, or a folder."
)
@click.option("--normal", multiple=True, help="Normal classes; `good`, or the first class, by default.")
@click.option("--data-root", type=click.Path(path_type=Path), help="Folder of the data sets; or AUTOAD_DATA.")
@click.option("--refine", metavar="NAME,...", help="As for autoad predict.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Images at most, drawn with seed 0.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def evaluate(
    context: Context,
    model: Path,
    dataset: str,
    normal: tuple[str, ...],
    data_root: Path | None,
    refine: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Measure a model on a labelled data set: every metric, with 95 % bootstrap intervals.

    A model of pixels is measured on the masks as well, where there are some. All images of the set are used; those that the model
    was trained on, if they are among them, flatter it.
    """
    from autoad_cli import options
    from autoad_cli.tables import interval
    from autoad_core import pixel_metrics
    from autoad_core.config import Ref
    from autoad_core.metrics import intervals
    from autoad_core.split import open_dataset

    loaded = load_model(context, model, refine)
    ref = Ref.model_validate(options.dataset_ref(dataset))
    root = options.data_root(data_root)
    data = open_dataset(context.plugins.registry, ref, root=root, shape=loaded.detector.shape, seed=0)
    scores, anomalous, maps, truths = _score_all(loaded, data, normal, limit)
    result = intervals(scores, anomalous)
    usual = loaded.expected()
    if any(truth.regions for truth in truths):
        connected = usual.connected if usual else None
        found = pixel_metrics.intervals(maps, truths, connected or 0.0)
        if connected is None:  # no good images say from where on RPRO counts
            found.pop("rpro")
        result |= {name: found[name] for name in (*pixel_metrics.METRICS, "rpro") if name in found}
    elif loaded.usual and loaded.usual[loaded.score].pixels:
        click.echo("note: no masks there, so only whole images are measured", err=True)
    counts = {"normal": int((~anomalous).sum()), "anomalous": int(anomalous.sum())}
    if as_json:
        figures = {k: {"value": i.value, "low": i.low, "high": i.high} for k, i in result.items()}
        click.echo(json.dumps({"score": loaded.score, "images": counts, "metrics": figures}, indent=1))
        return
    click.echo(
        f"{counts['normal']} normal and {counts['anomalous']} anomalous images, score {loaded.score!r}"
    )
    for name, figure in result.items():
        click.echo(f"{name:<14}  {interval({'value': figure.value, 'low': figure.low, 'high': figure.high})}")
    if min(counts.values()) < 20:
        click.echo("note: fewer than 20 images of one kind; the figures mean little", err=True)


def _score_all(
    model: Model, data: Any, normal: tuple[str, ...], limit: int
) -> tuple[Any, Any, list[Any], list[Any]]:
    """Scores (n,) and labels (n,) bool, True for anomalous, of a data set; maps and truths of the images that have a mask."""
    import numpy as np
    import torch

    from autoad_core.errors import ConfigError, DataError
    from autoad_core.images import resize
    from autoad_core.pixel_metrics import Truth

    classes = normal or (("good",) if "good" in data.classes else data.classes[:1])
    if unknown := [c for c in classes if c not in data.classes]:
        raise ConfigError(f"--normal: no class {unknown[0]!r}; known: {', '.join(data.classes[:40])}")
    rows = np.sort(np.random.default_rng(0).permutation(len(data.labels))[:limit])
    anomalous = ~np.isin(data.labels[rows], [data.classes.index(c) for c in classes])
    if anomalous.all() or not anomalous.any():
        raise DataError(
            f"--dataset: {len(rows)} images, {'all' if anomalous.any() else 'none'} of them anomalous; both kinds "
            "are needed: add labelled images, name the normal classes with --normal, or raise --limit"
        )
    scores = []
    maps: list[Any] = []
    truths: list[Any] = []
    _, height, width = model.detector.shape
    size = max(1, min(1024, 16 * BATCH_PIXELS // (height * width)))
    for part in np.array_split(rows, -(-len(rows) // size)):
        images = data.read(part)
        if images.shape[1:] != model.detector.shape:
            images = resize(images, model.detector.shape)
        found = model(torch.from_numpy(images))
        scores.append(found if found.ndim == 1 else found.max((1, 2)))
        for one, mask in zip(found, (data.masks(part) or ()) if found.ndim == 3 else (), strict=False):
            if mask is not None:
                maps.append(one)
                truths.append(Truth.of(mask, (height, width)))
    return np.concatenate(scores), anomalous, maps, truths
