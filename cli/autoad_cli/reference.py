"""The configuration described from its own models: as commented YAML, and as a page of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autoad_core.config import PRESETS, Config, Ref, merge, parse

WIDTH = 100


def commented_yaml() -> str:
    """Every key with its default, its meaning above it; keys that a preset sets are left to it."""
    head = "# A search by AutoAD. Every key has its default; delete what you do not change.\n"
    return head + "\n".join(_yaml(Config, parse({}), "", merge_all(PRESETS.values()))) + "\n"


def merge_all(presets: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys that any of the presets sets."""
    keys: dict[str, Any] = {}
    for preset in presets:
        keys = merge(keys, preset)
    return keys


def _yaml(model: type[BaseModel], values: BaseModel, indent: str, preset: Mapping[str, Any]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        comment = textwrap.wrap(field.description or "", WIDTH - len(indent))
        yield from (f"{indent}# {line}" for line in comment)
        if isinstance(value, BaseModel) and not isinstance(value, Ref):
            yield f"{indent}{name}:"
            yield from _yaml(type(value), value, indent + "  ", preset.get(name, {}))
        else:
            yield f"{indent}{'# ' if name in preset else ''}{name}: {_plain(values, name)}"


def _plain(values: BaseModel, name: str) -> str:
    """A value as YAML on one line."""
    text: str = yaml.safe_dump(values.model_dump(mode="json")[name], default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()


def markdown() -> str:
    """`docs/configuration.md`."""
    lines = [
        "# Configuration",
        "",
        "<!-- Generated from autoad_core/config.py by `make docs`; a test compares the two. -->",
        "",
        "A YAML file for `autoad search FILE`. Every key is optional; `autoad init` writes a file with all of them. "
        "Options of the command line win over the file, the file over the preset.",
        "",
        *_section(Config, parse({}), "", ""),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _section(model: type[BaseModel], values: BaseModel, path: str, intro: str) -> list[str]:
    lines = [f"## `{path}`", "", intro, ""] if path else []
    lines += ["| key | default | meaning |", "|---|---|---|"]
    sections: list[str] = []
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        if isinstance(value, BaseModel) and not isinstance(value, Ref):
            lines.append(f"| `{path}{name}` | | {field.description} See below. |")
            sections += ["", *_section(type(value), value, f"{path}{name}.", field.description or "")]
            continue
        text = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{path}{name}` | `{_plain(values, name)}` | {text}{_allowed(field)} |")
    return lines + sections


def _allowed(field: FieldInfo) -> str:
    """The values that a key may have, where they can be listed, and its bounds."""
    out = ""
    if get_origin(field.annotation) is not None and all(
        isinstance(a, str) for a in get_args(field.annotation)
    ):
        out = " One of " + ", ".join(f"`{a}`" for a in get_args(field.annotation)) + "."
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds: list[Any] = [
        f"{signs[k]} {getattr(m, k)}" for m in field.metadata for k in signs if hasattr(m, k)
    ]
    return out + (f" {' and '.join(bounds)}." if bounds else "")
