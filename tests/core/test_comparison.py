"""What a reader of the table is warned of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autoad_core.comparison import cautions
from autoad_core.split import Part, Split


def split(normal: int = 30, anomalous: int = 30) -> Split:
    def part(groups: list[int]) -> Part:
        return Part(np.zeros((len(groups), 1, 2, 2), np.float32), np.array(groups))

    shown = part([0] * normal + [1] * anomalous)
    return Split(("spot",), part([0] * 10), shown, shown)


def figure(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": max(0, value - half), "high": min(1, value + half)}


def row(name: str, value: float, half: float = 0.05, **more: Any) -> dict[str, Any]:
    part = {"reward": figure(value, half), "metrics": {"auroc": figure(value, half)}}
    return {"name": name, "validation": part, "test": part, **more}


@pytest.mark.parametrize(("told", "warned"), [(0.95, True), (0.02, True), (0.6, False), (0.82, False)])
def test_sets_that_brightness_tells_apart(told: float, warned: bool) -> None:
    """Either way round: normal images that are darker than the training's are as suspicious."""
    found = cautions([row("mean pixel", told)], [row("trial 1", 0.97)], split())
    lines = [line for line in found if line.startswith("the mean pixel alone tells anomalous")]
    assert len(lines) == (2 if warned else 0)  # validation and test
    other = cautions([row("PCA", told)], [row("trial 1", 0.97)], split())
    assert not any("mean pixel" in line for line in other)


def test_pixel_searches_are_judged_by_whole_images() -> None:
    brightness = row("mean pixel", 0.1)
    for part in ("validation", "test"):
        brightness[part]["metrics"] = {"pixel_auroc": figure(0.5), "image_auroc": figure(0.01)}
    found = cautions([brightness], [row("trial 1", 0.97)], split())
    assert sum("differ in brightness" in line for line in found) == 2


def test_what_is_as_good_and_simpler_is_named() -> None:
    others = [row("random search", 0.95, spec={}), row("PCA", 0.9), row("mean pixel", 0.6)]
    assert cautions(others, [row("trial 1", 0.9)], split()) == [
        "random search is as good as the best model found on validation",
        "PCA is as good as the best model found on validation, and simpler",
    ]


def test_few_images_and_wide_intervals_are_named() -> None:
    found = cautions([], [row("trial 1", 0.8, half=0.15, warnings=["it was lucky"])], split(normal=12))
    assert found == [
        "validation has 12 normal and 30 anomalous images: its figures mean little",
        "test has 12 normal and 30 anomalous images: its figures mean little",
        "the test interval of the best model is wide, 0.800 [0.650, 0.950]: more labelled images would narrow it",
        "best model: it was lucky",
    ]
