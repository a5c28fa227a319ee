"""Built-in hypotheses: what counts as normal. Each has its torch code in a private file of its name."""

from __future__ import annotations

from collections.abc import Iterator

from autoad_core import Component, hookimpl


@hookimpl
def autoad_hypotheses() -> Iterator[Component]:
    yield Component(
        name="reconstruction",
        target="autoad_plugins._reconstruction:Reconstruction",
        summary="Normal images are reconstructed well: mean squared error",
        in_paper=True,
    )
    yield Component(
        name="centroid",
        target="autoad_plugins._centroid:Centroid",
        summary="Normal codes lie in one ball: Deep SVDD with a soft boundary",
        in_paper=True,
    )
    yield Component(
        name="cluster",
        target="autoad_plugins._cluster:Cluster",
        summary="Normal codes lie in clusters: deep embedded clustering (DEC)",
        in_paper=True,
    )
    yield Component(
        name="density",
        target="autoad_plugins._density:Density",
        summary="Normal codes are likely under a Gaussian mixture: DAGMM's energy",
        in_paper=True,
    )
    yield Component(
        name="mahalanobis",
        target="autoad_plugins._mahalanobis:Mahalanobis",
        summary="Squared Mahalanobis distance of the code under a shrunk covariance; adds nothing to the loss",
    )
