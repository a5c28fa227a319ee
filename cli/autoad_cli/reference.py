"""The configuration described from its own models: as commented YAML, and as a page of the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autoad_core.config import Config, Ref, parse

WIDTH = 100


def commented_yaml() -> str:
    """Every key with its default, its meaning above it."""
    head = "# A search by AutoAD. Every key has its default; delete what you do not change.\n"
    return head + "\n".join(_yaml(Config, parse({}), "")) + "\n"


def _yaml(model: type[BaseModel], values: BaseModel, indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        comment = textwrap.wrap(field.description or "", WIDTH - len(indent))
        yield from (f"{indent}# {line}" for line in comment)
        if isinstance(value, BaseModel) and not isinstance(value, Ref):
            yield f"{indent}{name}:"
            yield from _yaml(type(value), value, indent + "  ")
        else:
            plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else values.model_dump(mode="json")[name]
            text = yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
            yield f"{indent}{name}: {text}"


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
        plain = values.model_dump(mode="json")[name]
        default = yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()
        text = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{path}{name}` | `{default}` | {text}{_allowed(field)} |")
    return lines + sections


def _allowed(field: FieldInfo) -> str:
    """The values that a key may have, where they can be listed, and its bounds."""
    out = ""
    if get_origin(field.annotation) is not None and all(isinstance(a, str) for a in get_args(field.annotation)):
        out = " One of " + ", ".join(f"`{a}`" for a in get_args(field.annotation)) + "."
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds: list[Any] = [f"{signs[k]} {getattr(m, k)}" for m in field.metadata for k in signs if hasattr(m, k)]
    return out + (f" {' and '.join(bounds)}." if bounds else "")
