"""The `autoad` command: the group, its plugins, and what becomes of errors. Importing it never imports torch."""

from __future__ import annotations

import io
import os
import sys
import traceback
from importlib import import_module
from typing import Any, NoReturn

import click

from autoad_core.discovery import Plugins, discover
from autoad_core.errors import (
    AmbiguousName,
    AutoADError,
    ConfigError,
    Interrupted,
    SpaceError,
    UnknownName,
    trouble,
)

WRONG_USAGE = (ConfigError, UnknownName, AmbiguousName, SpaceError)
COMMANDS = {
    "search": "autoad_cli.search:search",
    "resume": "autoad_cli.search:resume",
    "show": "autoad_cli.show:show",
    "report": "autoad_cli.report:report",
    "evaluate": "autoad_cli.score:evaluate",
    "predict": "autoad_cli.score:predict",
    "check": "autoad_cli.check:check",
    "list-components": "autoad_cli.components:list_components",
    "init": "autoad_cli.init:init",
}


class LazyGroup(click.Group):
    """Commands are imported when they are used, so that none costs the others' start-up."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt) as error:
            _fail(error, verbose=bool(ctx.params.get("verbose")))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="autoad")
@click.option("--no-plugins", is_flag=True, help="Use built-in components only.")
@click.option("-v", "--verbose", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, no_plugins: bool, verbose: bool) -> None:
    """Find the anomaly detector that fits your images."""
    ctx.obj = Context(no_plugins)


class Context:
    """What commands share: the plugins, found on first use."""

    def __init__(self, builtin_only: bool) -> None:
        self.builtin_only = builtin_only
        self._plugins: Plugins | None = None

    @property
    def plugins(self) -> Plugins:
        """All plugins; each fault is one line on stderr."""
        if self._plugins is None:
            strict = os.environ.get("AUTOAD_STRICT", "0") not in ("", "0")
            self._plugins = discover(builtin_only=self.builtin_only, strict=strict)
            for problem in self._plugins.problems:
                click.echo(f"skipped plugin {problem}", err=True)
        return self._plugins


def _fail(error: BaseException, *, verbose: bool) -> NoReturn:
    """One line on stderr; 2 for wrong usage, 130 for an interruption, else 1."""
    if isinstance(error, BrokenPipeError):  # whoever read us has left: head, less
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the interpreter's last flush
        sys.exit(0)
    if isinstance(error, KeyboardInterrupt | Interrupted):
        click.echo(str(error) or "Interrupted.", err=True)
        sys.exit(130)
    if verbose:
        traceback.print_exception(error)
    click.echo(f"Error: {' '.join(_told(error).split())}", err=True)
    sys.exit(2 if isinstance(error, WRONG_USAGE) else 1)


def _told(error: BaseException) -> str:
    """What, where, and what to do."""
    if isinstance(error, AutoADError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'output'}: {trouble(error)}"
    return (
        f"{type(error).__name__}: {error}; a fault of this program: autoad -v shows where, please report it"
    )


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be any bytes
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    cli()


if __name__ == "__main__":
    main()
