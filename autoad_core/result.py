"""The result of a run: the models that it found beside what is simpler, and what a reader must know about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from autoad_core import cases, modelfile, pixel_detector
from autoad_core.comparison import cautions, simple_methods, trained
from autoad_core.data import Ints
from autoad_core.detector import Detector
from autoad_core.experiment import Experiment
from autoad_core.judges import Contestant, ImageJudge, Judge, PixelJudge, Row, rows
from autoad_core.modelfile import Model
from autoad_core.pixel_baselines import simple_maps
from autoad_core.run import Record, Run
from autoad_core.spec import Spec
from autoad_core.split import Split, check_apart, search_sample
from autoad_core.thresholds import Usual
from autoad_core.training import seed_everything, settle
from autoad_core.workers import available_cores


def compare(
    opened: Run,
    experiment: Experiment,
    records: list[Record],
    finalists: list[Record],
    at_random: Record | None,
) -> dict[str, Any]:
    """What goes into ``result.json``: rows of the final table; the finalists' models move to ``models/`` with their figures."""
    torch.set_num_threads(1)  # the same sums whatever the number of cores
    config, split = experiment.config, experiment.split
    check_apart(
        (bytes.fromhex(h) for h in (opened.folder / "test.hashes").read_text().split()),
        split.train,
        split.validation,
    )
    data = config.data
    sample = search_sample(split.validation, data.search_normal, data.search_anomalous, config.seed)
    judge: Judge = ImageJudge(split, sample, config.reward.aggregate, config.seed)
    if experiment.pixels:
        judge = PixelJudge(split, sample, experiment.pixels, config.seed)
    threads = config.workers or available_cores()
    probe = _detector(experiment, Spec.from_values(experiment.space.decode(tuple(records[0]["arch"]))), 0)
    own = [str(option) for option in experiment.space.choices[1].options]
    others = [_random_contestant(opened, experiment, at_random)] if at_random else []
    if experiment.pixels:
        smoothings = config.reward.smoothing
        others += simple_maps(judge, probe.distances, own, experiment.scores, smoothings, threads)
    else:
        others += simple_methods(judge, probe.distances, own, experiment.scores)
    others += [_untrained(experiment, finalists[0])] if finalists else []
    found = [_found_contestant(opened, experiment, record) for record in finalists]
    every = rows(judge, [*found, *others], threads)
    models, simpler = every[: len(found)], every[len(found) :]
    for record, row in zip(finalists, models, strict=True):
        _keep(opened, experiment, record, row)
    models.sort(key=lambda row: -row["validation"]["reward"]["value"])
    shown: list[dict[str, Any]] = []
    refined: list[Row] = []
    if models:
        best = _with_refinements(opened, experiment, models[0]["id"])
        shown = cases.draw(best, split, opened.cases)
        if best.chain:
            by = ", ".join(ref.name.rpartition("/")[2] for ref in best.refine)
            refined = [judge.row(trained(f"{models[0]['name']}, refined by {by}", best, {}))]
    statuses = [r["status"] if r["cached"] is None else "cached" for r in records]
    return {
        "models": models,
        "refined": refined,
        "baselines": simpler,
        "counts": {s: statuses.count(s) for s in ("ok", "failed", "skipped", "cached")},
        "aggregate": config.reward.aggregate,
        "metric": experiment.pixels.metric if experiment.pixels else "auroc",
        "space": experiment.space.size,
        "groups": list(split.groups),
        "images": {p: _counted(getattr(split, p).groups) for p in ("train", "validation", "test")},
        "cases": shown,
        "notes": [*split.notes, *_held_out(split), *cautions(simpler, models, split)],
    }


def _keep(opened: Run, experiment: Experiment, record: Record, row: Row) -> None:
    """Put a model, its figures and what is usual of its scores where they stay."""
    target = opened.models / f"{record['id']:04d}"
    model = modelfile.load(opened.candidates / str(record["id"]), experiment.registry)
    shown = experiment.split.validation
    normal = torch.from_numpy(shown.images[shown.groups == 0])
    area = experiment.pixels.area if experiment.pixels else 1
    raw = model.detector.raw_terms(normal)
    usual = {name: Usual.of(model.detector.score(raw, terms), area) for name, terms in model.scores.items()}
    model = replace(model, usual=usual, refine=experiment.refine)
    if model.refine:  # which takes long, so that of the other scores nothing is known after it
        after = replace(model, chain=experiment.refinements)
        model = replace(model, usual_refined={model.score: Usual.of(after(normal), area)})
    modelfile.save(model, target, experiment.resolved["components"])
    modelfile.write_json(target / "metrics.json", row)


def _with_refinements(opened: Run, experiment: Experiment, number: int) -> Model:
    """A model that `_keep` has put in its place, with its refinements at work."""
    model = modelfile.load(opened.models / f"{number:04d}", experiment.registry)
    return replace(model, chain=experiment.refinements)


def _found_contestant(opened: Run, experiment: Experiment, record: Record) -> Contestant:
    model = modelfile.load(opened.candidates / str(record["id"]), experiment.registry)
    path = str(opened.models / f"{record['id']:04d}")
    return trained(f"trial {record['id']}", model, {**_told(record), "path": path})


def _random_contestant(opened: Run, experiment: Experiment, record: Record) -> Contestant:
    model = modelfile.load(opened.candidates / str(record["id"]), experiment.registry)
    return trained(f"random search, {experiment.config.search.random_trials} trials", model, _told(record))


def _told(record: Record) -> dict[str, Any]:
    """What a row repeats of its trial."""
    keys = ("id", "spec", "warnings", "parameters", "budget")
    return {k: record[k] for k in keys} | {"search_value": record["value"]}


def _untrained(experiment: Experiment, record: Record) -> Contestant:
    """The best model's net before its first step: what training adds."""
    detector = _detector(experiment, Spec.from_dict(record["spec"]), record["seed"])
    images = torch.from_numpy(experiment.split.train.images)
    settle(detector, images, start=True)
    settle(detector, images)
    return trained("untrained net of the best", Model(detector, experiment.scores, record["score"]), {})


def _detector(experiment: Experiment, spec: Spec, seed: int) -> Detector:
    seed_everything(seed)
    return pixel_detector.build(
        spec,
        experiment.split.shape,
        experiment.registry,
        experiment.pixels,
        distances=experiment.distances,
        decoder=experiment.config.space.decoder,
        bfloat16=experiment.bfloat16,
    )


def _held_out(split: Split) -> list[str]:
    names = [split.groups[g - 1] for g in sorted({*split.test.groups} - {*split.validation.groups})]
    if not names:
        return []
    return [
        f"held out: {', '.join(names)}; the column `test` leaves them out, and what is said of the whole test has them"
    ]


def _counted(groups: Ints) -> dict[str, int]:
    return {"normal": int((groups == 0).sum()), "anomalous": int((groups > 0).sum())}
