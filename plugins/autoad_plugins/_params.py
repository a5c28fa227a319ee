"""Checks of what a configuration gives to a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoad_core.errors import DataError


def whole(name: str, value: Any, low: int, high: int) -> int:
    """``value``, if it is a whole number from ``low`` to ``high``.

    Raises:
        DataError: It is not; the message starts with ``name``.
    """
    if type(value) is not int or not low <= value <= high:
        raise DataError(f"{name}: {value!r} must be a whole number from {low:,} to {high:,}")
    return value


def one_of(name: str, value: Any, options: Sequence[str]) -> str:
    """``value``, if it is one of ``options``.

    Raises:
        DataError: It is not; the message starts with ``name``.
    """
    if value not in options:
        raise DataError(f"{name}: {value!r} must be one of {', '.join(options)}")
    return str(value)


def flag(name: str, value: Any) -> bool:
    """``value``, if it is true or false.

    Raises:
        DataError: It is not; the message starts with ``name``.
    """
    if type(value) is not bool:
        raise DataError(f"{name}: {value!r} must be true or false")
    return value


def sides(name: str, value: Any) -> tuple[int, int]:
    """(H, W) from one number or from [h, w].

    Raises:
        DataError: Neither, or a side outside 1 to 4096.
    """
    pair = value if isinstance(value, (list, tuple)) else [value, value]
    if len(pair) != 2:
        raise DataError(f"{name}: {value!r} must be one number or [height, width]")
    height, width = (whole(name, side, 1, 4096) for side in pair)
    return height, width
