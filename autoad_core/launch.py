"""A run from its beginning to its end, or from where it was stopped: search, compare, write the result."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import autoad_core.config as configuration
from autoad_core import modelfile, run, simulate
from autoad_core.component import Kind
from autoad_core.config import Config
from autoad_core.controller import Fixed
from autoad_core.cost import cost_cap
from autoad_core.discovery import Plugins
from autoad_core.errors import RunError
from autoad_core.experiment import Experiment, prepare
from autoad_core.result import compare
from autoad_core.run import Record, Run
from autoad_core.search import Engine, Limits, Phase, Progress, best, with_source
from autoad_core.split import Split, check_apart, image_hashes, search_sample
from autoad_core.trial import TRUTH, Task
from autoad_core.workers import Pool, Setup, available_cores, warm_up

GIB = 2**30
# What a run must know of itself to go on.
RESOLVED = ("components", "controller", "scores", "space", "data", "bfloat16", "builtin_only")


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
    torch.set_num_threads(1)  # a controller's sums must not depend on the cores; workers do the work
    if config.table is not None:
        return simulate.start(config, folder, plugins, progress, stop)
    warm_up()
    experiment = prepare(config, plugins, builtin_only=builtin_only)
    plain = config.model_dump(mode="json")
    with run.create(folder, plain, experiment.resolved) as opened:
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
    torch.set_num_threads(1)
    with run.open_run(folder) as opened:
        if (result := opened.result()) is not None:
            return result
        saved = opened.config
        config = configuration.parse(saved["config"], str(folder / "config.yaml"))
        if workers is not None:
            config = config.model_copy(update={"workers": workers})
        if config.table is not None:
            return simulate.resume(opened, config, plugins, progress, stop)
        warm_up()
        resolved = saved["resolved"]
        if missing := [k for k in RESOLVED if k not in resolved]:
            raise RunError(
                f"{folder}: config.yaml lacks resolved.{missing[0]}; restore the file, or start a new run"
            )
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
    _record_test(opened, experiment.split)
    task = _write_task(opened, experiment)
    config = experiment.config
    setup = Setup(task, opened.candidates, experiment.builtin_only, int(config.search.memory_limit * GIB))
    opened.candidates.mkdir(parents=True, exist_ok=True)
    size = config.workers or available_cores()
    with Pool(setup, size, config.search.time_limit) as pool:
        engine = Engine(
            opened, experiment.space, experiment.layout, _limits(experiment), pool, progress, stop
        )
        try:
            found = _search(engine, experiment)
        finally:
            engine.close()
    progress.note("comparing with what is simpler")
    result = compare(opened, experiment, *found)
    modelfile.write_json(opened.folder / "result.json", result)
    run.tidy(opened)
    return result


def _record_test(opened: Run, split: Split) -> None:
    """Write down the hashes of the test images, once and whole: a run may be killed as it begins."""
    path = opened.folder / "test.hashes"
    if not path.exists():
        aside = path.with_suffix(".new")
        aside.write_text("".join(f"{h}\n" for h in sorted(h.hex() for h in image_hashes(split.test.images))))
        aside.replace(path)


def _limits(experiment: Experiment) -> Limits:
    config, images = experiment.config, math.prod(experiment.budget(1.0))
    cap = cost_cap(
        experiment.space, experiment.layout, config.search.max_cost, images, config.train.batch_size
    )
    return Limits(config.search.lag, cap, images, config.train.batch_size, config.seed)


def _search(engine: Engine, experiment: Experiment) -> tuple[list[Record], list[Record], Record | None]:
    """All records, those of the models to report, and the one of random search."""
    search, space, seed = experiment.config.search, experiment.space, experiment.config.seed
    registry = experiment.registry
    if experiment.config.architecture is not None:
        known = space.canonical((0,) * len(space.choices))
        models = engine.run_phase(Phase("search", 1, 1.0, Fixed([known]), search.keep), 0)
        return models, models, None

    def controller(name: str, params: Mapping[str, Any]) -> Any:
        return registry.get(Kind.CONTROLLER, name).build(params, space=space, seed=seed)

    first = search.first_budget
    made = controller(experiment.controller, experiment.config.controller.params)
    found = engine.run_phase(
        Phase("search", search.trials, first, made, search.keep, search.weight_sharing), 0
    )
    records = list(found)
    at_random = found[: search.random_trials]
    if search.random_trials and experiment.controller != "autoad/random":
        phase = Phase("random", search.random_trials, first, controller("autoad/random", {}), 1)
        at_random = engine.run_phase(phase, len(records))
        records += at_random
    random_best = next(iter(best(with_source(at_random, records), 1)), None)
    if first == 1:
        finalists = best(found, search.keep)
        engine.retrain([*finalists, *([random_best] if random_best else [])])
        return records, finalists, random_best
    top = best(found, search.promote)
    archs = dict.fromkeys(tuple(r["arch"]) for r in [*top, *([random_best] if random_best else [])])
    full = engine.run_phase(Phase("full", len(archs), 1.0, Fixed(list(archs)), len(archs)), len(records))
    chosen = {tuple(r["arch"]) for r in top}
    # More training can make a score worse, so the models of the first stage stay in the race.
    finalists = best([*found, *(r for r in full if tuple(r["arch"]) in chosen)], search.keep)
    mine = [r for r in [*at_random, *full] if random_best and r["arch"] == random_best["arch"]]
    random_final = next(iter(best(with_source(mine, records + full), 1)), None)
    engine.retrain([*finalists, *([random_final] if random_final else [])])
    return records + full, finalists, random_final


def _write_task(opened: Run, experiment: Experiment) -> Task:
    """Lay out the images of the search: training and a sample of validation, after the guard has looked at them."""
    config, split = experiment.config, experiment.split
    sample = search_sample(
        split.validation, config.data.search_normal, config.data.search_anomalous, config.seed
    )
    check_apart(image_hashes(split.test.images), split.train, sample)
    shutil.rmtree(opened.images, ignore_errors=True)
    opened.images.mkdir(parents=True)
    most = max(experiment.budget(fraction)[1] for fraction in (1.0, config.search.first_budget))
    np.save(opened.images / "train.npy", split.train.images[:most])
    np.save(opened.images / "validation.npy", sample.images)
    np.save(opened.images / "groups.npy", sample.groups)
    for name in TRUTH if experiment.pixels else ():
        np.save(opened.images / f"{name}.npy", np.stack([getattr(t, name) for t in sample.truths()]))
    return Task(
        folder=opened.images,
        shape=split.shape,
        groups=split.groups,
        distances=experiment.distances,
        scores=experiment.scores,
        aggregate=config.reward.aggregate,
        train=config.train,
        decoder=config.space.decoder,
        bfloat16=experiment.bfloat16,
        versions=experiment.resolved["components"],
        shared=opened.shared,
        pixels=experiment.pixels,
        shown=configuration.images_shown(config),
    )
