"""What the handler of an HTTP function takes, read from its annotations. Pure."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from streamproc.app import Http
from streamproc.errors import ConfigError

CONTEXT = "ctx"
_SIMPLE = (str, int, float, bool, datetime, date, Enum)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path or query parameter; `default` is `inspect.Parameter.empty` where it is required."""

    name: str
    type: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether a request without it is refused."""
        return self.default is inspect.Parameter.empty

    @property
    def is_text(self) -> bool:
        """Whether it takes what is given as it is."""
        return (get_args(self.type)[0] if get_origin(self.type) is Annotated else self.type) is str


@dataclass(frozen=True, slots=True)
class Signature:
    """A handler's parameters by where they come from; `body_name` is "" where it takes none."""

    path: Mapping[str, Parameter]
    query: Mapping[str, Parameter]
    body_name: str
    body_type: Any
    answer: Any


def signature(function: Http) -> Signature:
    """Reads a handler. Raises ConfigError for one that no request could call."""
    try:
        hints = get_type_hints(function.handler, include_extras=True)
        parameters = inspect.signature(function.handler).parameters
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f"{function.name}: its annotations cannot be read: {error}") from None
    if CONTEXT not in parameters:
        raise ConfigError(f"{function.name}: it must take a parameter named {CONTEXT}")
    in_path = re.findall(r"{(\w+)}", function.path)
    for name in in_path:
        if name not in parameters:
            raise ConfigError(f"{function.name}: the path names {{{name}}}, which it does not take")
        if name == CONTEXT or not _is_simple(hints.get(name, str)):
            raise ConfigError(f"{function.name}: {{{name}}} of the path cannot become {hints.get(name)}")
    for name, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ConfigError(f"{function.name}: it is called with names, which its parameter {name!r} has no use for")
    path: dict[str, Parameter] = {}
    query: dict[str, Parameter] = {}
    bodies: dict[str, Any] = {}
    for name, parameter in parameters.items():
        hint = hints.get(name, str)
        if name in in_path:
            path[name] = Parameter(name, hint, inspect.Parameter.empty)
        elif name != CONTEXT and _is_simple(hint):
            query[name] = Parameter(name, hint, parameter.default)
        elif name != CONTEXT:
            bodies[name] = hint
    if len(bodies) > 1:
        raise ConfigError(f"{function.name}: {' and '.join(bodies)} cannot both be the body")
    body_name, body_type = next(iter(bodies.items()), ("", None))
    return Signature(path, query, body_name, body_type, hints.get("return", Any))


def _is_simple(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_simple(get_args(hint)[0])
    if origin is Literal:
        return True
    if origin in (Union, UnionType):
        return all(part is NoneType or _is_simple(part) for part in get_args(hint))
    return isinstance(hint, type) and issubclass(hint, _SIMPLE)
