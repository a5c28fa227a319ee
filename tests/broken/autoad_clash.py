"""Fault: a name that a built-in has too; the other component is good."""

from autoad_core import Component, hookimpl


@hookimpl
def autoad_distances():
    return [
        Component(name="cosine", target="autoad_clash:make", summary="A good one"),
        Component(name="l2", target="autoad_clash:make", summary="Another l2"),
    ]


def make():
    raise AssertionError("only listed")
