"""Weights of pretrained networks, from files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from autoad_core.errors import DataError


def load_state(network: torch.nn.Module, weights: str) -> None:
    """Load a file of a network's state: safetensors, or what torch saved, of which only tensors are read.

    Raises:
        DataError: It is not there, damaged, or of another network.
    """
    path = Path(weights)
    if not path.is_file():
        raise DataError(f"weights: {path} is no file; name one with the network's weights")
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (OSError, RuntimeError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"weights: {path} does not hold this network's weights ({reason})") from error
    except Exception as error:  # of a damaged or foreign file unpickling raises anything
        raise DataError(f"weights: {path} cannot be read ({type(error).__name__}); get it again") from error
