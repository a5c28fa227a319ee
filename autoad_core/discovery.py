"""Find plugins by entry point and fill a registry. A broken plugin costs only itself."""

from __future__ import annotations

import importlib.metadata as md
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pluggy

from autoad_core.component import API, GROUP, HOOKS, Component, Hooks, Kind
from autoad_core.registry import Entry, Origin, Registry

BUILTIN = "autoad"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a plugin, or one of its hooks, was left out."""

    origin: Origin
    stage: str
    error: BaseException | str

    def __str__(self) -> str:
        what = self.error if isinstance(self.error, str) else f"{type(self.error).__name__}: {self.error}"
        return f"{self.origin}: {self.stage}: {' '.join(what.split())}"


@dataclass(frozen=True, slots=True)
class Plugins:
    """What was found: components in the registry, and one problem for each fault."""

    registry: Registry = field(default_factory=Registry)
    problems: list[Problem] = field(default_factory=list)


def installed() -> list[md.EntryPoint]:
    """Entry points of every ``autoad.vN`` group, without importing any.

    Goes by group because a bare ``entry_points()`` iterates differently before Python 3.12.
    """
    groups = sorted(g for g in md.entry_points().groups if re.fullmatch(r"autoad\.v\d+", g))
    return [ep for g in groups for ep in md.entry_points(group=g)]


def discover(
    entry_points: Iterable[md.EntryPoint] | None = None, *, builtin_only: bool = False, strict: bool = False
) -> Plugins:
    """Load every plugin of this API version.

    Args:
        entry_points: What to consider; `installed` by default.
        builtin_only: Skip, without importing, what other distributions provide.
        strict: Raise the first problem instead of recording it (for plugin authors).
    """
    manager = pluggy.PluginManager("autoad")
    manager.add_hookspecs(Hooks)
    found = Plugins()

    def problem(origin: Origin, stage: str, error: BaseException | str) -> None:
        found.problems.append(Problem(origin, stage, error))
        if strict:
            raise error if isinstance(error, BaseException) else ValueError(error)

    eps = installed() if entry_points is None else entry_points
    for ep in sorted(eps, key=lambda e: (e.group, e.name)):
        origin = _origin(ep)
        if builtin_only and origin.distribution != BUILTIN:
            continue
        if ep.group != GROUP:
            problem(origin, "version", f"written for plugin API {ep.group!r}, this is v{API}")
            continue
        try:
            plugin = ep.load()
            manager.register(plugin, f"{origin.distribution}:{ep.name}")
        except (Exception, SystemExit) as error:
            problem(origin, "load", error)
            continue
        _collect(manager, plugin, origin, found.registry, problem)
    return found


def _origin(ep: md.EntryPoint) -> Origin:
    return Origin(ep.name, ep.dist.name if ep.dist else "?", ep.dist.version if ep.dist else "?")


def _collect(
    manager: pluggy.PluginManager,
    plugin: object,
    origin: Origin,
    registry: Registry,
    problem: Callable[[Origin, str, BaseException | str], None],
) -> None:
    """Add what one plugin declares; whatever is wrong with it is reported and skipped."""
    kinds = {hook: kind for kind, hook in HOOKS.items()}
    for caller in manager.get_hookcallers(plugin) or ():
        if not caller.has_spec():
            problem(origin, "load", f"unknown hook {caller.name!r}; known: {', '.join(kinds)}")
            continue
        # One call per implementation, not manager.hook.x(): an exception there would silence every
        # other plugin, and results would not say who gave them.
        implementation = next(i for i in caller.get_hookimpls() if i.plugin is plugin)
        try:
            items: tuple[object, ...] = tuple(implementation.function())  # type: ignore[arg-type]
        except (Exception, SystemExit) as error:
            problem(origin, caller.name, error)
            continue
        for item in items:
            _add(item, kinds[caller.name], origin, registry, problem)


def _add(
    item: object,
    kind: Kind,
    origin: Origin,
    registry: Registry,
    problem: Callable[[Origin, str, BaseException | str], None],
) -> None:
    if not isinstance(item, Component):
        problem(origin, HOOKS[kind], f"gave {item!r}, expected a Component")
        return
    try:
        registry.add(Entry(kind, item, origin))
    except ValueError as error:
        problem(origin, HOOKS[kind], error)
