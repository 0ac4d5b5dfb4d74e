"""What a handler of events must look like, found when it is declared and not at its first record."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, get_args, get_origin, get_type_hints

from streamproc.errors import ConfigError
from streamproc.model import Event


def check_handler(name: str, handler: Callable[..., Any], event: type[Event], *, batched: bool) -> None:
    """Raises ConfigError where a handler could not be called with its event, or its events, and the context."""
    called = handler if inspect.isroutine(handler) else type(handler).__call__
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise ConfigError(f"{name}: the handler is a generator: it must return, not yield")
    given = "(events, ctx)" if batched else "(event, ctx)"
    try:
        signature = inspect.signature(handler)
    except ValueError:  # of some that are written in C
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ConfigError(f"{name}: the handler is called with {given}: {error}") from None
    try:
        hints = get_type_hints(called)
    except Exception:  # names that only a type checker knows
        return
    first = next((hints.get(parameter) for parameter in signature.parameters), None)
    _check_annotation(name, first, event, batched=batched)


def _check_annotation(name: str, annotation: Any, event: type[Event], *, batched: bool) -> None:
    origin = get_origin(annotation)
    takes_many = isinstance(origin, type) and issubclass(origin, Iterable)
    taken = next(iter(get_args(annotation)), None) if takes_many else annotation
    if not (isinstance(taken, type) and issubclass(taken, Event)):
        return
    if takes_many != batched:
        wrong = "one event: it is given a list, for it has batch_size" if batched else "a list: give it batch_size=..."
        raise ConfigError(f"{name}: the handler takes {wrong}")
    if not issubclass(event, taken):
        raise ConfigError(f"{name}: the handler takes {taken.__name__}, and is declared for {event.__name__}")
