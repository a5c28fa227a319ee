"""Fault: written for plugin API v2, so it must not even be imported."""

raise SystemError("must never be imported")
