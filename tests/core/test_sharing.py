"""Weights that children share: what a pool is made of, and what a child takes from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoad_core import sharing
from autoad_core.discovery import discover
from autoad_core.errors import RunError
from autoad_core.model import Autoencoder
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


def test_weights_are_every_float_of_the_network() -> None:
    net = network()
    floats = [t for t in net.state_dict().values() if t.is_floating_point()]
    found = sharing.weights(net)
    assert sum(t.numel() for t in found.values()) == sum(t.numel() for t in floats)
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
    sharing.advance(tmp_path, 0, [0], 4)
    count = sharing.adopt(child, sharing.pool_file(tmp_path, 4))
    given, found, own = (sharing.weights(net) for net in (donor, child, untouched))
    assert 0 < count == sum(found[k].numel() for k in found if k in given)
    for key, tensor in found.items():
        assert torch.equal(tensor, given[key] if key in given else own[key])


def values(*each: float) -> dict[str, Tensor]:
    return {name: torch.tensor([v, -v]) for name, v in zip("abc", each, strict=False)}


def test_known_keys_take_the_mean_and_new_ones_the_first() -> None:
    children = [values(1.0, 10.0), values(2.0, 20.0), values(6.0)]
    merged = sharing.merge({"a": torch.zeros(2), "z": torch.ones(2)}, children)
    assert merged["a"].tolist() == [3, -3]
    assert merged["b"].tolist() == [10, -10]
    assert merged["z"].tolist() == [1, 1]


def test_a_pool_is_made_once_and_its_children_removed(tmp_path: Path) -> None:
    for trial in range(3):
        sharing.leave(nn.Linear(2, 1), tmp_path, trial)
    sharing.advance(tmp_path, 0, [0, 1, 2], 4)
    before = sharing.pool_file(tmp_path, 4).read_bytes()
    sharing.advance(tmp_path, 0, [0, 1, 2], 4)
    assert [p.name for p in tmp_path.iterdir()] == ["pool-4.safetensors"]
    assert sharing.pool_file(tmp_path, 4).read_bytes() == before


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b"\0" * 40)])
def test_lost_pools_are_named(tmp_path: Path, damage: object) -> None:
    sharing.leave(network(), tmp_path, 0)
    sharing.advance(tmp_path, 0, [0], 4)
    damage(sharing.pool_file(tmp_path, 4))  # type: ignore[operator]
    with pytest.raises(RunError, match=r"pool-4.safetensors: shared weights are missing or damaged"):
        sharing.adopt(network(), sharing.pool_file(tmp_path, 4))
    sharing.leave(network(), tmp_path, 4)
    with pytest.raises(RunError, match=r"pool-4.safetensors: shared weights are missing or damaged"):
        sharing.advance(tmp_path, 4, [4], 8)
