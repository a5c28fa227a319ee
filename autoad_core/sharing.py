"""Weight sharing between the children of a search (Li et al., eq. 3), so that none has to begin from nothing.

The shared weights are a pool of parameters, keyed by their place in the network and the operation with its shapes. A child
starts from what the pool has for it, and trains. Eq. 3 estimates the gradient by the mean over sampled children: so the pool
moves, under each key, by the mean of the steps that a batch's children made from where they started. Where their start had
nothing, each child began elsewhere, and the mean of two unlike networks is none: there the first child's weights enter, if no
earlier batch's have. Children count in the order of their trials, so that sums round alike whatever order they finished in.

The files, in ``state/shared`` of a run: ``pool-N`` after the first N trials, and ``trial-I`` as child I left its weights.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from autoad_core.errors import RunError

Pool = Mapping[str, Tensor]


def weights(network: nn.Module) -> dict[str, Tensor]:
    """The network's own parameters, under the keys of a pool. Running statistics are not shared: steps of them do not add up."""
    found = {}
    for place, module in network.named_modules():
        operation = f"{type(module).__module__}.{type(module).__qualname__}"
        own = dict(module.named_parameters(recurse=False))
        shapes = ",".join("x".join(map(str, tensor.shape)) for tensor in own.values())
        for name, tensor in own.items():
            found[f"{place}.{name} {operation} {shapes}"] = tensor.detach()
    return found


def pool_file(folder: Path, merged: int) -> Path:
    """Where the pool after ``merged`` trials lies."""
    return folder / f"pool-{merged}.safetensors"


def child_file(folder: Path, trial: int) -> Path:
    """Where a trial leaves its weights."""
    return folder / f"trial-{trial}.safetensors"


def adopt(network: nn.Module, pool: Path) -> int:
    """Copy what the pool in a file has for ``network`` into it; how many numbers were copied.

    Raises:
        RunError: The file is missing or damaged.
    """
    count = 0
    try:
        with safe_open(pool, framework="pt") as file:
            known = set(file.keys())
            for key, tensor in weights(network).items():
                if key in known:
                    tensor.copy_(file.get_tensor(key))
                    count += tensor.numel()
    except (OSError, SafetensorError) as error:
        raise _lost(pool) from error
    return count


def leave(network: nn.Module, folder: Path, trial: int) -> None:
    """Keep what a child made of the weights, for `merge`."""
    _write(child_file(folder, trial), weights(network))


def advance(folder: Path, start: int, before: int, trials: Sequence[int], to: int) -> None:
    """Make the pool after ``to`` trials: that after ``before``, moved by the children of ``trials``, in order.

    The children's files are removed; where the pool is there already, nothing else is done.

    Args:
        folder: Of the files.
        start: How many trials the pool held that the children started from; 0 for none.
        before: How many the newest pool holds; 0 for none.
        trials: Those of the batch that were trained.
        to: How many the new pool holds.

    Raises:
        RunError: A file that it needs is missing or damaged.
    """
    target = pool_file(folder, to)
    if not target.exists():
        begun, newest = (_read(pool_file(folder, n)) if n else {} for n in (start, before))
        _write(target, merge(begun, newest, [_read(child_file(folder, trial)) for trial in trials]))
    for trial in trials:
        child_file(folder, trial).unlink(missing_ok=True)


def merge(start: Pool, newest: Pool, children: Sequence[Pool]) -> dict[str, Tensor]:
    """``newest`` moved by what ``children`` made of ``start``; see the module."""
    found: dict[str, list[Tensor]] = {}
    for child in children:
        for key, tensor in child.items():
            found.setdefault(key, []).append(tensor)
    moved = {k: newest[k] + (torch.stack(each) - start[k]).mean(0) for k, each in found.items() if k in start}
    return {k: each[0] for k, each in found.items()} | {**newest} | moved


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise _lost(path) from error


def _write(path: Path, tensors: Pool) -> None:
    """Whole or not at all. Not save_file, to which a full disk is no OSError."""
    path.parent.mkdir(exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(save({key: tensor.contiguous() for key, tensor in tensors.items()}))
    aside.replace(path)


def _lost(path: Path) -> RunError:
    return RunError(f"{path}: shared weights are missing or damaged; restore the file, or start a new run")
