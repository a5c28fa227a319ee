"""The result of a run: the models that it found beside what is simpler, and what a reader must know about them."""

from __future__ import annotations

import shutil
from typing import Any

import torch

from autoad_core import modelfile
from autoad_core.comparison import Judge, Row, baseline_rows, cautions, detector_row
from autoad_core.data import Ints
from autoad_core.detector import Detector
from autoad_core.experiment import Experiment
from autoad_core.run import Record, Run
from autoad_core.spec import Spec
from autoad_core.split import check_apart
from autoad_core.training import seed_everything, settle


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
    judge = Judge(split, config.reward.aggregate, config.seed)
    models = []
    for record in finalists:
        target = opened.models / f"{record['id']:04d}"
        row = _model_row(opened, experiment, judge, record, str(target))
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(opened.candidates / str(record["id"]), target)
        modelfile.write_json(target / "metrics.json", row)
        models.append(row)
    models.sort(key=lambda row: -row["validation"]["auroc"]["value"])
    rows = []
    if at_random is not None:
        rows.append(_model_row(opened, experiment, judge, at_random, None))
    probe = _detector(experiment, Spec.from_values(experiment.space.decode(tuple(records[0]["arch"]))), 0)
    own = [str(option) for option in experiment.space.choices[1].options]
    rows += baseline_rows(judge, probe.distances, own, experiment.scores)
    if finalists:
        rows.append(_untrained_row(experiment, judge, finalists[0]))
    statuses = [r["status"] if r["cached"] is None else "cached" for r in records]
    return {
        "models": models,
        "baselines": rows,
        "counts": {s: statuses.count(s) for s in ("ok", "failed", "skipped", "cached")},
        "aggregate": config.reward.aggregate,
        "space": experiment.space.size,
        "groups": list(split.groups),
        "images": {p: _counted(getattr(split, p).groups) for p in ("train", "validation", "test")},
        "notes": [*split.notes, *cautions(rows, models, split)],
    }


def _model_row(opened: Run, experiment: Experiment, judge: Judge, record: Record, path: str | None) -> Row:
    model = modelfile.load(opened.candidates / str(record["id"]), experiment.registry)
    name = (
        f"trial {record['id']}" if path else f"random search, {experiment.config.search.random_trials} trials"
    )
    more = {k: record[k] for k in ("id", "spec", "warnings", "parameters", "budget")}
    return detector_row(
        judge,
        name,
        model.detector,
        model.scores,
        model.score,
        **more,
        path=path,
        search_value=record["value"],
    )


def _untrained_row(experiment: Experiment, judge: Judge, record: Record) -> Row:
    """The best model's net before its first step: what training adds."""
    detector = _detector(experiment, Spec.from_dict(record["spec"]), record["seed"])
    images = torch.from_numpy(experiment.split.train.images)
    settle(detector, images, start=True)
    settle(detector, images)
    return detector_row(judge, "untrained net of the best", detector, experiment.scores, record["score"])


def _detector(experiment: Experiment, spec: Spec, seed: int) -> Detector:
    seed_everything(seed)
    return Detector(
        spec,
        experiment.shape,
        experiment.registry,
        distances=experiment.distances,
        decoder=experiment.config.space.decoder,
        bfloat16=experiment.bfloat16,
    )


def _counted(groups: Ints) -> dict[str, int]:
    return {"normal": int((groups == 0).sum()), "anomalous": int((groups > 0).sum())}
