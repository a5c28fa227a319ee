"""Fault: a hook with an argument that the specification does not have."""

from autoad_core import hookimpl


@hookimpl
def autoad_distances(extra):
    return []
