"""From a YAML file and command-line options to a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from autoad_core.config import Config, load, merge, parse

# What `autoad search` does alone: no data set that comes with a package is harder for nearest neighbours in pixels.
DEMO = {"dataset": "digits", "normal": ["5", "6", "7", "8", "9"]}


def dataset_ref(value: str) -> dict[str, Any]:
    """``--dataset``: the name of a data set, or a folder of images."""
    if os.sep in value or value in (".", "..") or Path(value).is_dir():
        return {"name": "folder", "params": {"path": str(Path(value).expanduser())}}
    return {"name": value}


def data_root(given: Path | None) -> Path | None:
    """``--data-root``, or ``AUTOAD_DATA``."""
    if given is not None:
        return given
    return Path(os.environ["AUTOAD_DATA"]) if os.environ.get("AUTOAD_DATA") else None


def read_config(path: Path | None, options: dict[str, Any]) -> Config:
    """The file's values with the options put over them; an option that is None says nothing.

    Raises:
        ConfigError: See `autoad_core.config.parse`.
    """
    data = load(path) if path else {}
    over: dict[str, Any] = {}
    for key, value in options.items():
        if value is None:
            continue
        section, _, name = key.rpartition(".")
        target = over.setdefault(section, {}) if section else over
        target[name] = value
    data = merge(data, over)
    images: Any = data.get("data") or {}
    if isinstance(images, dict):
        if not images.get("dataset"):
            images = merge(DEMO, images)
        if not images.get("root") and (root := data_root(None)):
            images = {**images, "root": str(root)}
        data["data"] = images
    return parse(data, str(path) if path else "options")
