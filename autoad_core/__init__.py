"""Public names for plugin authors. Importing this package never imports torch."""

from autoad_core.component import Component, Kind, hookimpl
from autoad_core.controller import Controller, Outcome
from autoad_core.space import Arch, Choice, Space

__all__ = ["Arch", "Choice", "Component", "Controller", "Kind", "Outcome", "Space", "hookimpl"]
