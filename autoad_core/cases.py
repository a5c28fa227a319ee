"""Pictures of test images that tell how the best model works: its clearest anomalies, those that it misses, its false alarms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from autoad_core.data import Bools, Floats, Ints
from autoad_core.modelfile import Model
from autoad_core.pictures import Look, Picture, panels, plain
from autoad_core.split import Split

EACH = 4
CONTOUR_RATE = 0.001  # share of normal pixels that contours enclose
_QUALITY = 88


def draw(model: Model, split: Split, folder: Path) -> list[dict[str, Any]]:
    """Write pictures into ``folder``, and tell of each its ``kind``, ``file``, ``group``, ``score`` and ``p_value``.

    Args:
        model: Knows what to expect of its scores.
        split: Its test part is shown.
    """
    folder.mkdir(exist_ok=True)
    test, usual = split.test, model.expected()
    assert usual is not None  # so says `model`
    found = model(torch.from_numpy(test.images))
    scores = found if found.ndim == 1 else found.max((1, 2))
    look = Look.of(usual, CONTOUR_RATE) if usual.pixels else None
    told = []
    for kind, number, row in picked(scores, test.groups):
        mask = test.masks[row] if test.masks else None
        picture = _picture(test.images[row], found[row] if found.ndim == 3 else None, look, mask)
        file = f"{kind.replace(' ', '-')}-{number}.jpg"
        Image.fromarray(picture).save(folder / file, quality=_QUALITY)
        group = split.groups[test.groups[row] - 1] if test.groups[row] else "normal"
        p_value = usual.p_value(float(scores[row]))
        told.append(
            {"kind": kind, "file": file, "group": group, "score": float(scores[row]), "p_value": p_value}
        )
    return told


def picked(scores: Floats, groups: Ints, each: int = EACH) -> Iterator[tuple[str, int, int]]:
    """(kind, number, row) of the test images to show; none twice, and no more than half of the anomalies of a kind.

    Args:
        scores: (n,).
        groups: (n,), 0 for normal.
    """
    order = np.argsort(-scores, kind="stable")
    anomalous, normal = order[groups[order] > 0], order[groups[order] == 0]
    few = min(each, (len(anomalous) + 1) // 2)
    kinds = (
        ("clearest", anomalous[:few]),
        ("missed", anomalous[few:][::-1][:few]),
        ("false alarm", normal[:each]),
    )
    for kind, rows in kinds:
        for number, row in enumerate(rows.tolist(), start=1):
            yield kind, number, row


def _picture(image: Floats, scores: Floats | None, look: Look | None, mask: Bools | None) -> Picture:
    if scores is None or look is None:
        return plain(image)
    return panels(image, scores, look, mask)
