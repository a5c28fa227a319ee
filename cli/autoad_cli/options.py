"""From a YAML file and command-line options to a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from autoad_core.config import Config, load, merge, parse
from autoad_core.errors import ConfigError

# What `autoad search` does alone, in about a minute: no other split of a data set that comes with a package leaves
# nearest neighbours in pixels as much to miss.
DEMO = {
    "data": {"dataset": "digits", "normal": ["5", "6", "7", "8", "9"]},
    "train": {"epochs": 48},
    "search": {"promote": 6},
}


def dataset_ref(value: str) -> dict[str, Any]:
    """``--dataset``: the name of a data set, as ``mvtec-ad,category=bottle`` with parameters; or a folder of images.

    Raises:
        ConfigError: It is empty, or a parameter without a value.
    """
    if not value:
        raise ConfigError("--dataset: is empty; give the name of a data set, or a folder of images")
    if os.sep in value or value in (".", "..") or Path(value).is_dir():
        return {"name": "folder", "params": {"path": str(Path(value).expanduser())}}
    name, *given = value.split(",")
    params = {}
    for one in given:
        key, equals, text = one.partition("=")
        if not (key and equals and text):
            raise ConfigError(f"--dataset: {one!r} behind {name!r} is no parameter; write {name},name=value")
        params[key.strip()] = int(text) if text.strip().isdecimal() else text.strip()
    return {"name": name, "params": params}


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
    if path is not None:
        _expect_file(path)
    data = load(path) if path else {}
    over: dict[str, Any] = {}
    for key, value in options.items():
        if value is None:
            continue
        section, _, name = key.rpartition(".")
        target = over.setdefault(section, {}) if section else over
        target[name] = value
    data = merge(data, over)
    images = data.get("data") or {}
    if isinstance(images, dict) and not images.get("dataset"):
        demo = dict(DEMO)
        if images.get("anomalies") or images.get("protocol") not in (None, "auto", "one-class"):
            demo["data"] = {"dataset": "digits"}  # beside anomalies of another set, all digits are normal
        data = merge(demo, data | {"data": images})
        images = data["data"]
    if isinstance(images, dict) and not images.get("root") and (root := data_root(None)):
        data["data"] = {**images, "root": str(root)}
    return parse(data, str(path) if path else "options")


def _expect_file(path: Path) -> None:
    """Raises ConfigError where images, not a configuration, were probably meant, or nothing is there."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; to search among its images: autoad search --dataset {path}")
    if not path.exists():
        images = "" if path.suffix else f"; to name a data set: autoad search --dataset {path}"
        raise ConfigError(f"{path}: no such configuration; autoad init {path} writes one{images}")
