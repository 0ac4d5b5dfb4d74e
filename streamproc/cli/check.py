"""`check`: what `run` would do, without doing it."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from streamproc.cli.common import (
    Source,
    Target,
    app_options,
    json_option,
    print_json,
    print_table,
    settings_options,
)
from streamproc.errors import ConfigError

if TYPE_CHECKING:
    from streamproc.app import Http, Stream

Found = TypeVar("Found")


@click.command()
@app_options()
@settings_options
@json_option
def check(*, target: Target, source: Source, as_json: bool) -> None:
    """Check APP and its settings, and show its functions.

    Each is shown with the options it runs with, those of the settings included.

    What is wrong with the settings and with the app is reported together, with exit code 2.

    \b
    Example:
      streamproc check handlers.app:app
    """
    from streamproc.checks import check_start

    problems: list[str] = []
    loaded = _attempt(problems, source.load)
    app = _attempt(problems, target.load)
    if loaded is not None and app is not None:
        declared, settings = app, loaded.settings
        app = _attempt(problems, lambda: declared.with_options(settings.functions))
        _attempt(problems, lambda: check_start(declared, settings, None))
        for function in declared.http_functions:
            _attempt(problems, partial(_check_signature, function))
    if problems or app is None or loaded is None:
        raise ConfigError("\n".join(problems))
    found = [
        [_describe(function, loaded.settings.stream.topics) for function in app.stream_functions],
        [_describe_http(function) for function in app.http_functions],
    ]
    if as_json:
        print_json([one for several in found for one in several])
        return
    for number, several in enumerate(several for several in found if several):
        click.echo(nl=bool(number))
        print_table(list(several[0]), [list(one.values()) for one in several])


def _attempt(problems: list[str], step: Callable[[], Found]) -> Found | None:
    try:
        return step()
    except ConfigError as error:
        problems.append(str(error))
        return None


def _check_signature(function: "Http") -> None:
    from streamproc.http.signature import signature

    signature(function)


def _describe_http(function: "Http") -> dict[str, Any]:
    return {
        "function": function.name,
        "method": function.method,
        "path": function.path,
        "scope": "public" if function.public else function.scope or "any token",
        "cors": function.cors,
        "body_bytes_max": function.body_bytes_max,
        "concurrency": function.concurrency_max,
        "timeout_s": function.timeout_s,
        "rate_per_s": function.rate_per_s,
    }


def _describe(function: "Stream", topics: list[str]) -> dict[str, Any]:
    key = function.key
    return {
        "function": function.name,
        "event_type": function.event_type,
        "topic": [function.topic] if function.topic else topics,
        "key": key if isinstance(key, str | None) else getattr(key, "__name__", "function"),
        "order": function.order,
        "batch_size": function.batch_size,
        "batch_window_s": function.batch_window_s,
        "concurrency": function.concurrency_max,
        "timeout_s": function.timeout_s,
        "max_retry_attempts": function.max_retry_attempts,
        "max_record_age_s": function.max_record_age_s,
        "backoff_s": function.backoff_s,
        "backoff_max_s": function.backoff_max_s,
    }
