"""The command `streamproc`: one file per group of commands, each loaded when it is asked for."""

import importlib
from typing import Any

import click

from streamproc.errors import BrokerError, ConfigError, StoreError

_MODULES = {
    "run": "run",
    "check": "check",
    "config": "config",
    "migrate": "migrate",
    "invoke": "invoke",
    "publish": "publish",
    "token": "token",
    "openapi": "openapi",
    "lag": "lag",
    "offsets": "offsets",
    "skip": "offsets",
    "dlq": "dlq",
    "schedule": "schedule",
    "broker": "broker",
    "healthcheck": "info",
    "version": "info",
}


class _Failure(click.ClickException):
    """What may pass: exit code 1."""


class _Mistake(click.ClickException):
    """What is written wrongly."""

    exit_code = 2


class _Main(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order people meet them."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the one file that has the command."""
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"streamproc.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Tells what somebody must act on in one sentence: exit code 2 for what is written wrongly, 1 for the rest."""
        try:
            return super().invoke(ctx)
        except (ConfigError, BrokerError, StoreError) as error:
            kind = _Mistake if isinstance(error, ConfigError) else _Failure
            raise kind(str(error)) from error


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Serverless event functions on your own Kafka.

    \b
    Example:
      streamproc run handlers.app:app
    """
