"""What a user declares: an App is an explicit list of functions. Plain data, checked when built."""

import inspect
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, Literal

import msgspec

from streamproc.errors import ConfigError
from streamproc.model import Event

Handler = Callable[..., Any]
KeyOf = str | Callable[[Any], object]

_LIMITS: dict[str, tuple[float, float]] = {
    "batch_size": (1, 10_000),
    "batch_window_s": (0, 300),
    "concurrency": (1, 10_000),
    "timeout_s": (0.1, 86_400),
    "max_retry_attempts": (-1, 10_000),
    "max_record_age_s": (-1, 604_800),
    "backoff_s": (0, 3_600),
    "backoff_max_s": (0, 86_400),
}


@dataclass(frozen=True, slots=True)
class Stream:
    """A function that runs for each record of one event type.

    Without `batch_size` the handler gets `(event, ctx)`, with it `(events, ctx)`. An `async def` runs on the event
    loop, a plain `def` in a thread. Times are in seconds; -1 means no limit. `key` is what orders records: a field
    of the event, a function of it, or the record's own key when not given. Raises ConfigError when impossible.
    """

    event: type[Event]
    handler: Handler
    _: KW_ONLY
    name: str = ""
    topic: str | None = None
    key: KeyOf | None = None
    order: Literal["key", "partition", "unordered"] = "key"
    batch_size: int | None = None
    batch_window_s: float = 0.0
    concurrency: int | None = None
    timeout_s: float = 60.0
    max_retry_attempts: int = 10
    max_record_age_s: float = -1.0
    backoff_s: float = 0.1
    backoff_max_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", getattr(self.handler, "__name__", ""))
        self._check_target()
        self._check_limits()

    def _check_target(self) -> None:
        if not (isinstance(self.event, type) and issubclass(self.event, Event)):
            raise ConfigError(f"Stream({self.event!r}): the first argument must be a subclass of Event")
        if not callable(self.handler) or not self.name:
            raise ConfigError(f"Stream({self.event.__name__}): the handler must be a function with a name")
        if isinstance(self.key, str) and self.key not in self.event.__struct_fields__:
            known = ", ".join(self.event.__struct_fields__)
            raise ConfigError(f"{self.name}: key={self.key!r} is not a field of {self.event.__name__} ({known})")

    def _check_limits(self) -> None:
        for option, (low, high) in _LIMITS.items():
            value = getattr(self, option)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{self.name}: {option}={value} is outside {low:g} to {high:g}")
        if -1 < self.max_record_age_s < 60:
            raise ConfigError(
                f"{self.name}: max_record_age_s={self.max_record_age_s:g} must be -1 (no limit) or at least 60"
            )
        if self.batch_window_s and self.batch_size is None:
            raise ConfigError(f"{self.name}: batch_window_s needs batch_size")
        if self.order not in ("key", "partition", "unordered"):
            raise ConfigError(f"{self.name}: order={self.order!r} is not one of key, partition, unordered")
        if self.key is not None and self.order != "key":
            raise ConfigError(f"{self.name}: key={self.key!r} has no meaning with order={self.order!r}")

    @property
    def event_type(self) -> str:
        """The event type on the wire."""
        return str(self.event.__struct_config__.tag)

    @property
    def is_async(self) -> bool:
        """True when the handler runs on the event loop, False when it runs in a thread."""
        return inspect.iscoroutinefunction(self.handler) or inspect.iscoroutinefunction(
            getattr(self.handler, "__call__", None)  # noqa: B004  (an instance with an async __call__)
        )

    @property
    def concurrency_max(self) -> int:
        """Calls in flight in one process: what was asked for, else 100 on the loop and 8 in threads."""
        return self.concurrency or (100 if self.is_async else 8)


OPTIONS = frozenset(f.name for f in fields(Stream)) - {"event", "handler", "name", "_"}
"""The options of a function that settings may override, `[functions.<name>]`."""


@asynccontextmanager
async def _no_services(_settings: Any) -> AsyncIterator[None]:
    yield None


@dataclass(frozen=True, slots=True)
class App:
    """All functions of an application and what they share.

    `services` is called with the Settings and returns an async context manager; what it yields is `ctx.services` in
    every handler. It is opened once before the first record and closed after the last. Raises ConfigError when the
    list contradicts itself.
    """

    functions: Sequence[Stream]
    services: Callable[[Any], AbstractAsyncContextManager[Any]] = _no_services

    def __post_init__(self) -> None:
        if not self.functions:
            raise ConfigError("App: the list of functions is empty")
        names: dict[str, Stream] = {}
        types: dict[str, type[Event]] = {}
        for function in self.functions:
            if not isinstance(function, Stream):
                raise ConfigError(f"App: {function!r} is not a Stream")
            if function.name in names:
                raise ConfigError(f"App: two functions are named {function.name!r}; give one of them name=...")
            names[function.name] = function
            if types.setdefault(function.event_type, function.event) is not function.event:
                raise ConfigError(f"App: two event classes have the type {function.event_type!r}")
            if not re.fullmatch(r"[\x21-\x7e]{1,200}", function.event_type):
                raise ConfigError(f"App: {function.event_type!r} is not a usable event type")

    def check_topics(self, topics: Sequence[str]) -> None:
        """Raises ConfigError when a function waits for a topic that is not read, or nobody for one that is."""
        for function in self.functions:
            if function.topic is not None and function.topic not in topics:
                raise ConfigError(f"{function.name}: topic={function.topic!r} is not one of stream.topics")
        for topic in topics:
            if all(function.topic not in (None, topic) for function in self.functions):
                raise ConfigError(f"stream.topics names {topic!r}, but no function takes events of it")

    def with_options(self, options: dict[str, dict[str, Any]]) -> "App":
        """A copy with the options of the named functions replaced. Raises ConfigError for what does not exist."""
        names = {function.name for function in self.functions}
        for name, changed in options.items():
            if name not in names:
                raise ConfigError(f"functions.{name}: no such function; there are {', '.join(sorted(names))}")
            for option in changed.keys() - OPTIONS:
                raise ConfigError(f"functions.{name}.{option}: no such option; there are {', '.join(sorted(OPTIONS))}")
        return replace(self, functions=[_with(function, options.get(function.name, {})) for function in self.functions])


def _with(function: Stream, changed: dict[str, Any]) -> Stream:
    hints = {**Stream.__annotations__, "key": str | None}  # no setting can hold a function
    try:
        typed = {option: msgspec.convert(value, hints[option], strict=False) for option, value in changed.items()}
    except msgspec.ValidationError as error:
        raise ConfigError(f"functions.{function.name}: {error}") from None
    return replace(function, **typed)
