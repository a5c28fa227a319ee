"""The declaration: what `autoad list-components` shows. It must not import torch."""

from autoad_core import Component, hookimpl


@hookimpl
def autoad_hypotheses():
    yield Component(
        name="shell",
        target="autoad_hello_shell:Shell",
        summary="Normal codes have a usual length: they lie in a shell around the origin",
    )
