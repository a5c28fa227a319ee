"""Fault: a misspelt hook, beside a good one."""

from autoad_core import Component, hookimpl


@hookimpl
def autoad_distanses():
    return []


@hookimpl
def autoad_controllers():
    return [
        Component(name="beside-typo", target="autoad_typo:make", summary="A good one beside a misspelt hook")
    ]


def make(space, seed):
    raise AssertionError("only listed")
