"""Errors a user can act on. Each message says what was wrong, where, and what to do next."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

_WHAT_TO_DO = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file would be larger than is allowed here; raise the limit (ulimit -f)",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.EACCES: "no permission; choose another place, or change its permissions",
    errno.EPERM: "no permission; choose another place, or change its permissions",
    errno.ENOENT: "no such file or folder; check the spelling",
    errno.ENOTDIR: "a file is in the place of a folder; check the spelling",
    errno.EISDIR: "is a folder; name a file",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def shown(value: object) -> str:
    """A value as messages show it: one line of at most 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a number of more than 4,300 digits, endless nesting
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def trouble(error: OSError) -> str:
    """What the system refused to do, and what to do about it; without the path."""
    return _WHAT_TO_DO.get(error.errno or 0, error.strerror or " ".join(str(error).split()))


class AutoADError(Exception):
    """Base class; the command line prints these as one line, without a traceback."""


class UnknownName(AutoADError):
    """No component of that kind has this name."""


class AmbiguousName(AutoADError):
    """Several distributions provide this name; ask for ``distribution/name``."""


class BrokenComponent(AutoADError):
    """The component is declared but its target cannot be imported or built."""


class ConfigError(AutoADError):
    """The configuration is wrong; the message starts with the path of the key."""


class SpaceError(AutoADError):
    """A value lies outside the search space."""


class DataError(AutoADError):
    """A data set is missing, damaged, or cannot serve the protocol asked for."""


class RunError(AutoADError):
    """A run directory cannot be created, locked, read or continued."""


class ModelError(AutoADError):
    """A saved model is damaged, of another version, or does not fit the images."""


class Interrupted(AutoADError):
    """The user asked to stop; what was finished is safe."""


@contextmanager
def at(key: str) -> Iterator[None]:
    """Put the path of a configuration's key before what is wrong with the name or the parameters there."""
    try:
        yield
    except (UnknownName, AmbiguousName, BrokenComponent, ConfigError) as error:
        raise type(error)(f"{key}: {error}") from error
