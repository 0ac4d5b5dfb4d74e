"""`check`: what `run` would do, without doing it."""

from collections.abc import Callable
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
    from streamproc.app import Stream

Found = TypeVar("Found")


@click.command()
@app_options()
@settings_options
@json_option
def check(*, target: Target, source: Source, as_json: bool) -> None:
    """Check APP and its settings, and show its functions.

    Each is shown with the options it runs with, those of the settings included.

    Everything that is wrong is reported together, with exit code 2.

    \b
    Example:
      streamproc check handlers.app:app
    """
    problems: list[str] = []
    loaded = _attempt(problems, source.load)
    app = _attempt(problems, target.load)
    if loaded is not None and app is not None:
        declared, settings = app, loaded.settings
        app = _attempt(problems, lambda: declared.with_options(settings.functions))
        _attempt(problems, lambda: declared.check_topics(settings.stream.topics))
    if problems or app is None or loaded is None:
        raise ConfigError("\n".join(problems))
    functions = [_describe(function, loaded.settings.stream.topics) for function in app.stream_functions]
    if as_json:
        print_json(functions)
    else:
        print_table(list(functions[0]), [list(function.values()) for function in functions])


def _attempt(problems: list[str], step: Callable[[], Found]) -> Found | None:
    try:
        return step()
    except ConfigError as error:
        problems.append(str(error))
        return None


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
