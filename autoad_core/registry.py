"""Names to components, with where each came from."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import Any

from autoad_core.component import Component, Kind
from autoad_core.errors import AmbiguousName, BrokenComponent, ConfigError, UnknownName


@dataclass(frozen=True, slots=True)
class Origin:
    """Who provides a component."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.plugin})"


@dataclass(frozen=True, slots=True)
class Entry:
    """One component of one kind, and its provider."""

    kind: Kind
    component: Component
    origin: Origin

    @property
    def id(self) -> str:
        """``distribution/name``: unambiguous, and what runs and models are saved with."""
        return f"{self.origin.distribution}/{self.component.name}"

    def missing(self) -> tuple[str, ...]:
        """The modules that `load` would not find, without importing anything heavy."""
        modules = (*self.component.requires, self.component.target.partition(":")[0])
        return tuple(m for m in modules if not _importable(m))

    def load(self) -> Any:
        """Import the factory.

        Raises:
            BrokenComponent: The import failed. The cause is chained.
        """
        try:
            for module in self.component.requires:
                importlib.import_module(module)
            return pkgutil.resolve_name(self.component.target)
        except (Exception, SystemExit) as error:
            hint = f"; try: pip install '{self.component.extra}'" if self.component.extra else ""
            raise BrokenComponent(
                f"{self.kind} {self.id!r} from {self.origin} cannot be imported "
                f"({type(error).__name__}: {error}){hint}"
            ) from error

    def build(self, params: Mapping[str, Any], **context: Any) -> Any:
        """Call the factory with the user's ``params`` and the core's ``context``.

        Raises:
            BrokenComponent: The import failed.
            ConfigError: The params do not fit the factory's signature, or it refused one of them.
        """
        factory = self.load()
        try:
            inspect.signature(factory).bind(**{**context, **params})
        except TypeError as error:
            takes = ", ".join(p for p in inspect.signature(factory).parameters if p not in context)
            raise ConfigError(f"{self.kind} {self.id!r}: {error}; its params: {takes or 'none'}") from error
        try:
            return factory(**context, **params)
        except (TypeError, ValueError, OverflowError) as error:
            if not params:
                raise
            raise ConfigError(f"{self.kind} {self.id!r}: {error}") from error


def _importable(module: str) -> bool:
    """Whether a module can be found; unlike ``find_spec`` of a dotted name, this imports no parent package."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for i in range(len(rest)):
            if spec is None or spec.submodule_search_locations is None:
                return False
            name = ".".join((top, *rest[: i + 1]))
            spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    except (ImportError, ValueError):
        return False
    return spec is not None


class Registry:
    """All entries. Adding is explicit; nothing registers itself on import."""

    def __init__(self) -> None:
        self._entries: dict[tuple[Kind, str], Entry] = {}

    def add(self, entry: Entry) -> None:
        """Raises ValueError when one distribution gives a kind the same name twice."""
        key = (entry.kind, entry.id)
        if key in self._entries:
            raise ValueError(
                f"{entry.kind} {entry.id!r} is declared twice: by "
                f"{self._entries[key].origin.plugin} and {entry.origin.plugin}"
            )
        self._entries[key] = entry

    def __iter__(self) -> Iterator[Entry]:
        """Entries by kind, then name."""
        return iter(sorted(self._entries.values(), key=lambda e: (e.kind, e.component.name, e.id)))

    def of(self, kind: Kind) -> list[Entry]:
        """The entries of one kind, in the order in which each distribution declares them."""
        return [e for e in self._entries.values() if e.kind is kind]

    def get(self, kind: Kind, name: str) -> Entry:
        """Look up ``name`` or ``distribution/name``.

        Raises:
            UnknownName: With the closest known names.
            AmbiguousName: With the full ids to choose from.
        """
        mine = self.of(kind)
        found = [e for e in mine if name in (e.id, e.component.name)]
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(sorted(e.id for e in found))
            raise AmbiguousName(f"{kind} {name!r} is provided by several packages; write one of: {ids}")
        known = sorted({e.component.name for e in mine})
        close = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(known) or 'none'}"
        raise UnknownName(f"no {kind} is called {name!r}; {hint}")
