"""Errors a user can act on. Each message says what was wrong, where, and what to do next."""


def shown(value: object) -> str:
    """A value as messages show it: one line of at most 80 characters."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:
        text = "a number of more than 4,300 digits"
    return text if len(text) <= 80 else f"{text[:77]}..."


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
