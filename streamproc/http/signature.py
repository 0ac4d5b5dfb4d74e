"""What the handler of an HTTP function takes, read from its annotations. Pure."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from keyword import iskeyword
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from streamproc.app import Http
from streamproc.errors import ConfigError

CONTEXT = "ctx"
_SIMPLE = (str, int, float, bool, datetime, date, Enum)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A path or query parameter; `default` is `inspect.Parameter.empty` where it is required.

    `name` is what callers write.
    """

    name: str
    type: Any
    default: Any

    @property
    def argument(self) -> str:
        """What the handler calls it: `from_` for `from`, which is a keyword in Python."""
        return f"{self.name}_" if iskeyword(self.name) else self.name

    @property
    def required(self) -> bool:
        """Whether a request without it is refused."""
        return self.default is inspect.Parameter.empty

    @property
    def is_text(self) -> bool:
        """Whether it takes what is given as it is."""
        return _bare(self.type) is str

    @property
    def is_time(self) -> bool:
        """Whether it is a date and time, which is written out, and not a number."""
        return {_bare(part) for part in _parts(_bare(self.type))} - {NoneType} == {datetime}


@dataclass(frozen=True, slots=True)
class Signature:
    """A handler's parameters by where they come from; `body_name` is "" where it takes none."""

    path: Mapping[str, Parameter]
    query: Mapping[str, Parameter]
    body_name: str
    body_type: Any
    answer: Any

    @property
    def takes_bytes(self) -> bool:
        """Whether the body is taken as it is, whatever it calls itself."""
        return _bare(self.body_type) is bytes


def signature(function: Http) -> Signature:
    """Reads a handler. Raises ConfigError for one that no request could call."""
    try:
        hints = get_type_hints(function.handler, include_extras=True)
        parameters = inspect.signature(function.handler).parameters
    except (NameError, TypeError, ValueError) as error:
        raise ConfigError(f"{function.name}: its annotations cannot be read: {error}") from None
    if CONTEXT not in parameters:
        raise ConfigError(f"{function.name}: it must take a parameter named {CONTEXT}")
    in_path = function.path_names
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
            called = name[:-1] if name.endswith("_") and iskeyword(name[:-1]) else name
            query[called] = Parameter(called, hint, parameter.default)
        elif name != CONTEXT:
            bodies[name] = hint
    if len(bodies) > 1:
        raise ConfigError(f"{function.name}: {' and '.join(bodies)} cannot both be the body")
    body_name, body_type = next(iter(bodies.items()), ("", None))
    return Signature(path, query, body_name, body_type, hints.get("return", Any))


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _is_simple(hint: Any) -> bool:
    hint = _bare(hint)
    origin = get_origin(hint)
    if origin is Literal:
        return True
    if origin in (Union, UnionType):
        return all(part is NoneType or _is_simple(part) for part in _parts(hint))
    return isinstance(hint, type) and issubclass(hint, _SIMPLE)
