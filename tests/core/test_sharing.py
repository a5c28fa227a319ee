"""Weights that children share: what a pool is made of, and what a child takes from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoad_core import sharing
from autoad_core.discovery import discover
from autoad_core.errors import RunError
from autoad_core.model import Autoencoder, parameters
from autoad_core.spec import Layer, Spec

REGISTRY = discover(builtin_only=True).registry


def network(seed: int = 0, channels: int = 8, **changes: object) -> Autoencoder:
    layer = {
        "channels": channels,
        "kernel": 3,
        "pooling": "max",
        "pooling_kernel": 3,
        "normalization": "batch",
        "activation": "relu",
    } | changes
    torch.manual_seed(seed)
    return Autoencoder(
        Spec("reconstruction", "l2", (Layer(**layer),)).resolve(REGISTRY),  # type: ignore[arg-type]
        (1, 8, 8),
        REGISTRY,
    )


def test_weights_are_the_parameters_of_the_network() -> None:
    net = network()
    found = sharing.weights(net)
    assert sum(t.numel() for t in found.values()) == parameters(net)
    key = next(k for k in found if k.startswith("encoder.0.0.weight"))
    assert key == "encoder.0.0.weight torch.nn.modules.conv.Conv2d 8x1x3x3,8"


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, {"encoder.0.0", "encoder.0.2.0", "deconvolutions.0"}),
        ({"activation": "tanh"}, {"encoder.0.0", "encoder.0.2.0", "deconvolutions.0"}),
        ({"normalization": "none"}, {"encoder.0.0", "deconvolutions.0"}),
        ({"kernel": 5}, {"encoder.0.2.0"}),
        ({"channels": 16}, set()),
    ],
)
def test_what_two_children_share(changes: dict[str, object], same: set[str]) -> None:
    both = set(sharing.weights(network())) & set(sharing.weights(network(**changes)))  # type: ignore[arg-type]
    assert {key.split()[0].rpartition(".")[0] for key in both} == same


def test_a_child_adopts_what_fits_and_keeps_the_rest(tmp_path: Path) -> None:
    donor, child, untouched = network(1), network(2, kernel=5), network(2, kernel=5)
    sharing.leave(donor, tmp_path, 0)
    sharing.advance(tmp_path, 0, 0, [0], 4)
    count = sharing.adopt(child, sharing.pool_file(tmp_path, 4))
    given, found, own = (sharing.weights(net) for net in (donor, child, untouched))
    assert 0 < count == sum(found[k].numel() for k in found if k in given)
    for key, tensor in found.items():
        assert torch.equal(tensor, given[key] if key in given else own[key])


def values(**each: float) -> dict[str, Tensor]:
    return {name: torch.tensor([v, -v]) for name, v in each.items()}


def test_a_pool_moves_by_the_mean_step_of_the_children() -> None:
    """a and d: from where the children started; b: known since, so theirs are unlike it; c: new; z: nobody's."""
    start, newest = values(a=1.0, z=1.0, d=0.0), values(a=5.0, z=1.0, d=0.0, b=100.0)
    children = [values(a=2.0, b=10.0, c=7.0), values(a=3.0, b=20.0, c=9.0), values(a=7.0, d=2.0)]
    merged = sharing.merge(start, newest, children)
    found = {name: tensor.tolist()[0] for name, tensor in merged.items()}
    assert found == {"a": 5 + (1 + 2 + 6) / 3, "b": 100, "c": 7, "z": 1, "d": 2}


def test_alternating_batches_build_on_each_other(tmp_path: Path) -> None:
    """Every child adds one to the weight that it starts from, as in a search: all steps are in the pool at the end."""
    net = nn.Linear(1, 1, bias=False)
    for batch in range(6):
        start = max(0, batch - 1) * 2
        for trial in (2 * batch, 2 * batch + 1):
            nn.init.constant_(net.weight, 10.0)
            if start:
                sharing.adopt(net, sharing.pool_file(tmp_path, start))
            net.weight.data += 1
            sharing.leave(net, tmp_path, trial)
        sharing.advance(tmp_path, start, 2 * batch, [2 * batch, 2 * batch + 1], 2 * batch + 2)
    sharing.adopt(net, sharing.pool_file(tmp_path, 12))
    assert (
        net.weight.item() == 10 + 5
    )  # the two first batches both began from nothing, and the first one's weights entered


def test_a_pool_is_made_once_and_its_children_removed(tmp_path: Path) -> None:
    for trial in range(3):
        sharing.leave(nn.Linear(2, 1), tmp_path, trial)
    sharing.advance(tmp_path, 0, 0, [0, 1, 2], 4)
    before = sharing.pool_file(tmp_path, 4).read_bytes()
    sharing.advance(tmp_path, 0, 0, [0, 1, 2], 4)
    assert [p.name for p in tmp_path.iterdir()] == ["pool-4.safetensors"]
    assert sharing.pool_file(tmp_path, 4).read_bytes() == before


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"\0" * 40)])
def test_lost_pools_are_named(tmp_path: Path, damage: object) -> None:
    sharing.leave(network(), tmp_path, 0)
    sharing.advance(tmp_path, 0, 0, [0], 4)
    damage(sharing.pool_file(tmp_path, 4))  # type: ignore[operator]
    with pytest.raises(RunError, match=r"pool-4.safetensors: shared weights are missing or damaged"):
        sharing.adopt(network(), sharing.pool_file(tmp_path, 4))
    sharing.leave(network(), tmp_path, 4)
    with pytest.raises(RunError, match=r"pool-4.safetensors: shared weights are missing or damaged"):
        sharing.advance(tmp_path, 0, 4, [4], 8)
