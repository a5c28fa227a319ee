"""Fault: an exception half-way through a hook; the other hook is good."""

from autoad_core import Component, hookimpl


@hookimpl
def autoad_distances():
    yield Component(name="never-complete", target="autoad_halfway:make", summary="Lost with its hook")
    raise RuntimeError("half way")


@hookimpl
def autoad_controllers():
    return [
        Component(
            name="ghost",
            target="no.such:Thing",
            summary="Declared well, but its target is missing",
            extra="autoad-halfway[ghost]",
        )
    ]
