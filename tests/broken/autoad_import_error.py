"""Fault: the plugin needs a module that is not there."""

import no_such_module  # noqa: F401
