"""`invoke`: one event through its function, here and now."""

import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from streamproc.cli.common import Source, Target, app_options, cell, json_option, print_json, settings_options
from streamproc.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from streamproc.app import App
    from streamproc.settings import Settings


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option("--function", default="", help="The function, where several take the event.")
@app_options(as_option=True)
@settings_options
@json_option
def invoke(file: BinaryIO, function: str, *, target: Target, source: Source, as_json: bool) -> None:
    """Call the function of one event, without Kafka.

    FILE holds the event as JSON, or a record's value; - is standard input. The function gets the services of the app.
    Exit code 1 when it did not succeed.

    \b
    Example:
      streamproc invoke event.json --function send_welcome_email
    """
    import asyncio

    from streamproc.adapters import logs
    from streamproc.settings import secrets

    settings = source.load().settings
    app = target.load().with_options(settings.functions)
    logs.configure(settings.log, secrets(settings))
    outcome = asyncio.run(_call(app, file.read(), function=function, settings=settings))
    if as_json:
        print_json(outcome)
    else:
        click.echo(": ".join(cell(value) for value in outcome.values() if value))
    sys.exit(0 if outcome["outcome"] == "ok" else 1)


async def _call(app: "App", event: bytes, *, function: str, settings: "Settings") -> dict[str, Any]:
    import logging

    from streamproc import testing

    try:
        async with app.services(settings) as services:
            return describe(await testing.invoke(app, event, services=services, function=function))
    except (ConfigError, BrokerError):
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("the call failed")
        return {"outcome": "failed", "reason": type(error).__name__, "detail": str(error)}


def describe(returned: object) -> dict[str, Any]:
    """What a function returned, as an outcome with its reason and detail."""
    from streamproc.model import Failures, Reject, RetryLater

    match returned:
        case None:
            return {"outcome": "ok"}
        case RetryLater():
            return {"outcome": "retry_later", "reason": f"after {returned.after_s:g} s", "detail": returned.detail}
        case Reject():
            return {"outcome": "rejected", "reason": returned.reason, "detail": returned.detail}
        case Failures():
            return describe(returned.by_index.get(0))
        case BaseException():
            return {"outcome": "failed", "reason": type(returned).__name__, "detail": str(returned)}
        case _:
            return {"outcome": "failed", "reason": "HandlerError", "detail": f"returned {type(returned).__name__}"}
