"""From a configuration to a finished run: load, split, search, compare. `start` begins a run, `resume` goes on with one."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import autoad_core.config as configuration
from autoad_core import modelfile, run
from autoad_core.assemble import LayerOptions, assemble, component_ids, single_point
from autoad_core.comparison import Judge, Row, baseline_rows, cautions, detector_row
from autoad_core.component import Kind
from autoad_core.config import Config
from autoad_core.cost import cost_cap
from autoad_core.detector import HYPOTHESIS, OWN_DISTANCE, Detector
from autoad_core.discovery import Plugins
from autoad_core.errors import ConfigError, RunError
from autoad_core.geometry import Shape
from autoad_core.model import bfloat16_is_fast
from autoad_core.registry import Registry
from autoad_core.run import Record, Run
from autoad_core.search import Engine, Fixed, Limits, Phase, Progress, best
from autoad_core.space import Space
from autoad_core.spec import Spec
from autoad_core.split import Split, check_apart, image_hashes, make_split, search_sample
from autoad_core.training import seed_everything, settle
from autoad_core.trial import Task
from autoad_core.workers import Pool, Setup

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Experiment:
    """A configuration with everything in it looked up.

    Attributes:
        resolved: What goes into ``config.yaml`` beside the configuration, so that a run can be told from another.
    """

    config: Config
    registry: Registry
    split: Split
    space: Space
    distances: tuple[str, ...]
    scores: Mapping[str, tuple[str, ...]]
    controller: str
    bfloat16: bool
    builtin_only: bool
    resolved: Mapping[str, Any]

    @property
    def shape(self) -> Shape:
        """(C, H, W) of the images."""
        return self.split.shape

    @property
    def full_images(self) -> int:
        """Training images times epochs at the full budget."""
        epochs, images = configuration.budget(self.config.train, len(self.split.train), 1.0)
        return epochs * images


def prepare(
    config: Config, plugins: Plugins, *, builtin_only: bool = False, bfloat16: bool | None = None
) -> Experiment:
    """Load the data and resolve every name.

    Args:
        bfloat16: The arithmetic of a run that goes on; None decides by ``train.precision`` and the processor.

    Raises:
        AutoADError: Whatever is wrong, in one line.
    """
    registry = plugins.registry
    controller = registry.get(Kind.CONTROLLER, config.controller.name).id
    split = make_split(config.data, registry, config.seed)
    space = make_space(config, registry, split.shape)
    distances, scores = _resolve_scores(config, registry, space)
    if bfloat16 is None:
        precision = config.train.precision
        bfloat16 = precision == "bfloat16" or (precision == "auto" and bfloat16_is_fast())
    used = {str(o) for c in space.choices for o in c.options if isinstance(o, str)} | set(distances)
    ids = {part for option in used for part in option.split("+")} | {controller}
    versions = {e.id: e.origin.version for e in registry if e.id in ids}
    resolved = {
        "components": dict(sorted(versions.items())),
        "controller": controller,
        "scores": {k: list(v) for k, v in scores.items()},
        "space": {c.name: list(c.options) for c in space.choices},
        "data": split.digests(),
        "bfloat16": bfloat16,
        "builtin_only": builtin_only,
        "machine": _machine(),
    }
    return Experiment(
        config, registry, split, space, distances, scores, controller, bfloat16, builtin_only, resolved
    )


def make_space(config: Config, registry: Registry, shape: Shape) -> Space:
    """The search space of a configuration, or the one point that ``architecture`` names."""
    if config.architecture is not None:
        return single_point(registry, shape, Spec.from_dict(config.architecture).resolve(registry))
    given, paper = config.space, config.preset == "paper"

    def ids(kind: Kind) -> tuple[str, ...]:
        found = component_ids(registry, kind, getattr(given, kind.value), paper=paper)
        if not found:
            raise ConfigError(
                f"space.{kind}: nothing to choose from; is a plugin missing? see autoad list-components"
            )
        return found

    layer = LayerOptions(
        channels=given.channels,
        kernel=given.kernel,
        pooling=ids(Kind.POOLING),
        pooling_kernel=given.pooling_kernel,
        normalization=ids(Kind.NORMALIZATION),
        activation=ids(Kind.ACTIVATION),
    )
    try:
        return assemble(registry, shape, ids(Kind.HYPOTHESIS), ids(Kind.DISTANCE), [layer] * given.layers)
    except ValueError as error:
        raise ConfigError(f"space: {error}") from error


def start(
    config: Config,
    folder: Path,
    plugins: Plugins,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    *,
    builtin_only: bool = False,
) -> dict[str, Any]:
    """A new run in ``folder``; returns its result, which is also in ``result.json``.

    Raises:
        AutoADError: Before anything is written, for a wrong configuration or data; `RunError` for the folder; `Interrupted`.
    """
    experiment = prepare(config, plugins, builtin_only=builtin_only)
    plain = config.model_dump(mode="json")
    with run.create(folder, plain, experiment.resolved) as opened:
        hashes = sorted(h.hex() for h in image_hashes(experiment.split.test.images))
        (folder / "test.hashes").write_text("\n".join(hashes) + "\n")
        return _carry_out(opened, experiment, progress, stop)


def resume(
    folder: Path,
    plugins: Plugins,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
    *,
    workers: int | None = None,
) -> dict[str, Any]:
    """Go on with a run that was stopped, as if it had not been; a finished one gives its result again.

    Raises:
        RunError: Not a run, in use, or made from data that has changed since.
    """
    with run.open_run(folder) as opened:
        if (result := opened.result()) is not None:
            return result
        saved = opened.config
        config = configuration.parse(saved["config"], str(folder / "config.yaml"))
        if workers is not None:
            config = config.model_copy(update={"workers": workers})
        resolved = saved["resolved"]
        experiment = prepare(
            config, plugins, builtin_only=bool(resolved["builtin_only"]), bfloat16=bool(resolved["bfloat16"])
        )
        for key in ("data", "space", "scores", "controller"):
            if experiment.resolved[key] != resolved[key]:
                raise RunError(
                    f"{folder}: {key} has changed since the run began; restore it, or start a new run"
                )
        if changed := sorted(
            k for k, v in resolved["components"].items() if experiment.resolved["components"].get(k) != v
        ):
            progress.note(f"{changed[0]} has another version than when the run began; results may differ")
        return _carry_out(opened, experiment, progress, stop)


def _carry_out(
    opened: Run, experiment: Experiment, progress: Progress, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Search, compare, and write the result."""
    for note in experiment.split.notes:
        progress.note(note)
    task = _write_task(opened, experiment)
    config = experiment.config
    setup = Setup(task, opened.candidates, experiment.builtin_only, int(config.search.memory_limit * GIB))
    opened.candidates.mkdir(parents=True, exist_ok=True)
    size = config.workers or len(os.sched_getaffinity(0))
    with Pool(setup, size, config.search.time_limit) as pool:
        engine = Engine(opened, experiment.space, experiment.shape, _limits(experiment), pool, progress, stop)
        try:
            found = _search(engine, experiment)
        finally:
            engine.close()
    progress.note("comparing with what is simpler")
    result = _compare(opened, experiment, *found)
    modelfile.write_json(opened.folder / "result.json", result)
    run.tidy(opened)
    return result


def _limits(experiment: Experiment) -> Limits:
    config, images = experiment.config, experiment.full_images
    cap = cost_cap(
        experiment.space, experiment.shape, config.search.max_cost, images, config.train.batch_size
    )
    return Limits(config.search.lag, cap, images, config.train.batch_size, config.search.keep, config.seed)


def _search(engine: Engine, experiment: Experiment) -> tuple[list[Record], list[Record], Record | None]:
    """All records, those of the models to report, and the one of random search."""
    search, space, seed = experiment.config.search, experiment.space, experiment.config.seed
    registry = experiment.registry
    if experiment.config.architecture is not None:
        known = space.canonical((0,) * len(space.choices))
        models = engine.run_phase(Phase("search", 1, 1.0, Fixed([known])), 0)
        return models, models, None

    def controller(name: str, params: Mapping[str, Any]) -> Any:
        return registry.get(Kind.CONTROLLER, name).build(params, space=space, seed=seed)

    first = search.first_budget
    made = controller(experiment.controller, experiment.config.controller.params)
    found = engine.run_phase(Phase("search", search.trials, first, made), 0)
    records = list(found)
    at_random = found[: search.random_trials]
    if search.random_trials and experiment.controller != "autoad/random":
        phase = Phase("random", search.random_trials, first, controller("autoad/random", {}))
        at_random = engine.run_phase(phase, len(records))
        records += at_random
    random_best = next(iter(best(_with_source(at_random, records), 1)), None)
    if first == 1:
        finalists = best(found, search.keep)
        engine.retrain([*finalists, *([random_best] if random_best else [])])
        return records, finalists, random_best
    top = best(found, search.promote)
    archs = dict.fromkeys(tuple(r["arch"]) for r in [*top, *([random_best] if random_best else [])])
    full = engine.run_phase(Phase("full", len(archs), 1.0, Fixed(list(archs))), len(records))
    chosen = {tuple(r["arch"]) for r in top}
    finalists = best([r for r in full if tuple(r["arch"]) in chosen], search.keep)
    random_full = next((r for r in full if random_best and r["arch"] == random_best["arch"]), None)
    random_full = random_full if random_full and random_full["status"] == "ok" else None
    engine.retrain([*finalists, *([random_full] if random_full else [])])
    return records + full, finalists, random_full


def _with_source(records: list[Record], everything: list[Record]) -> list[Record]:
    """Cached records replaced by those of the trial that was trained."""
    return [r if r["cached"] is None else everything[r["cached"]] for r in records]


def _compare(
    opened: Run,
    experiment: Experiment,
    records: list[Record],
    finalists: list[Record],
    at_random: Record | None,
) -> dict[str, Any]:
    """Rows of the final table; the finalists' models move to ``models/`` with their figures."""
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


def _write_task(opened: Run, experiment: Experiment) -> Task:
    """Lay out the images of the search: training and a sample of validation, after the guard has looked at them."""
    config, split = experiment.config, experiment.split
    sample = search_sample(
        split.validation, config.data.search_normal, config.data.search_anomalous, config.seed
    )
    check_apart(image_hashes(split.test.images), split.train, sample)
    shutil.rmtree(opened.images, ignore_errors=True)
    opened.images.mkdir(parents=True)
    _, count = configuration.budget(config.train, len(split.train), 1.0)
    most = max(count, configuration.budget(config.train, len(split.train), config.search.first_budget)[1])
    np.save(opened.images / "train.npy", split.train.images[:most])
    np.save(opened.images / "validation.npy", sample.images)
    np.save(opened.images / "groups.npy", sample.groups)
    return Task(
        folder=opened.images,
        shape=experiment.shape,
        groups=split.groups,
        distances=experiment.distances,
        scores=experiment.scores,
        aggregate=config.reward.aggregate,
        train=config.train,
        decoder=config.space.decoder,
        bfloat16=experiment.bfloat16,
        versions=experiment.resolved["components"],
    )


def _resolve_scores(
    config: Config, registry: Registry, space: Space
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Ids of all distances to evaluate, and the scores' definitions with ids."""
    scores = {}
    for name, terms in config.reward.scores.items():
        if not terms:
            raise ConfigError(f"reward.scores.{name}: names no term")
        special = (OWN_DISTANCE, HYPOTHESIS)
        scores[name] = tuple(t if t in special else registry.get(Kind.DISTANCE, t).id for t in terms)
    parts = [part for option in space.choices[1].options for part in str(option).split("+")]
    parts += [t for terms in scores.values() for t in terms if t not in (OWN_DISTANCE, HYPOTHESIS)]
    return tuple(dict.fromkeys(parts)), scores


def _counted(groups: Any) -> dict[str, int]:
    return {"normal": int((groups == 0).sum()), "anomalous": int((groups > 0).sum())}


def _machine() -> dict[str, str | int]:
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processor": platform.machine(),
        "cores": os.cpu_count() or 1,
    }
