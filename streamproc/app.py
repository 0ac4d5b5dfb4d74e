"""What a user declares: an App is an explicit list of functions. Plain data, checked when built."""

import inspect
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import KW_ONLY, dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec

from streamproc.errors import ConfigError
from streamproc.handler import check_handler
from streamproc.limits import HTTP_LIMITS, STREAM_LIMITS, check_limits
from streamproc.model import Event
from streamproc.ports import Firings, Outbox
from streamproc.schedule.declare import Schedule
from streamproc.schedule.task import Task

Handler = Callable[..., Any]
KeyOf = str | Callable[[Any], object]

_PATH = re.compile(r"/|(?!$)(/([A-Za-z0-9._~-]+|{[A-Za-z_]\w*}))*(/{[A-Za-z_]\w*:path})?", re.ASCII)
_PARAMETER = re.compile(r"{(\w+)(?::path)?}")


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
        self._check_options()
        check_handler(self.name, self.handler, self.event, batched=self.batch_size is not None)

    def _check_target(self) -> None:
        if not (isinstance(self.event, type) and issubclass(self.event, Event)):
            raise ConfigError(f"Stream({self.event!r}): the first argument must be a subclass of Event")
        if not callable(self.handler) or not self.name:
            raise ConfigError(f"Stream({self.event.__name__}): the handler must be a function with a name")
        if isinstance(self.key, str) and self.key not in self.event.__struct_fields__:
            known = ", ".join(self.event.__struct_fields__)
            raise ConfigError(f"{self.name}: key={self.key!r} is not a field of {self.event.__name__} ({known})")

    def _check_options(self) -> None:
        check_limits(self, STREAM_LIMITS)
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
        return _is_async(self.handler)

    @property
    def concurrency_max(self) -> int:
        """Calls in flight in one process: what was asked for, else 100 on the loop and 8 in threads."""
        return self.concurrency or (100 if self.is_async else 8)


@dataclass(frozen=True, slots=True)
class Http:
    """A function that answers HTTP requests of one method and path.

    The handler gets path and query parameters and the body by name, typed as annotated, and `ctx`; `{key:path}` at the
    end of the path takes the rest of it. `scope` is what the caller's token must allow, any valid token when not given;
    `public` functions need none. `cors` are the origins whose pages may call. `rate_per_s` is per caller, 0 no limit.
    Raises ConfigError when impossible.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    _: KW_ONLY
    name: str = ""
    scope: str = ""
    public: bool = False
    cors: tuple[str, ...] = ()
    body_bytes_max: int = 1_048_576
    concurrency: int | None = None
    timeout_s: float = 30.0
    rate_per_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", getattr(self.handler, "__name__", ""))
        if self.method not in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            raise ConfigError(f"Http({self.method!r}, {self.path!r}): no such method")
        if not _PATH.fullmatch(self.path):
            raise ConfigError(
                f"Http({self.method!r}, {self.path!r}): write the path as in /users/{{id}} or /files/{{key:path}}"
            )
        if len(self.path_names) != len(set(self.path_names)):
            raise ConfigError(f"Http({self.method!r}, {self.path!r}): the path names a parameter twice")
        if not callable(self.handler) or not self.name:
            raise ConfigError(f"Http({self.method!r}, {self.path!r}): the handler must be a function with a name")
        if self.public and self.scope:
            raise ConfigError(f"{self.name}: public excludes scope={self.scope!r}")
        if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]*", self.scope):
            raise ConfigError(f"{self.name}: scope={self.scope!r} is not one scope, as in users:write")
        for origin in self.cors:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
                raise ConfigError(f"{self.name}: cors names {origin!r}, which is no origin, as in https://shop.example")
        check_limits(self, HTTP_LIMITS)

    @property
    def is_async(self) -> bool:
        """True when the handler runs on the event loop, False when it runs in a thread."""
        return _is_async(self.handler)

    @property
    def path_names(self) -> Sequence[str]:
        """The parameters that the path names."""
        return _PARAMETER.findall(self.path)

    @property
    def concurrency_max(self) -> int:
        """Calls in one process: what was asked for, else 1,000 on the loop and 8 in threads."""
        return self.concurrency or (1_000 if self.is_async else 8)


def _is_async(handler: Handler) -> bool:
    of_call = getattr(handler, "__call__", None)  # noqa: B004  (an instance with an async __call__)
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(of_call)


Function = Stream | Http | Schedule


def options_of(kind: type[Function]) -> frozenset[str]:
    """The options of a kind of function that settings may override, `[functions.<name>]`."""
    return frozenset(f.name for f in fields(kind)) - {"event", "handler", "name", "method", "path", "_"}


def option_types() -> dict[str, Any]:
    """Option -> its type in settings, over all kinds of functions."""
    kinds = (Stream, Http, Schedule)
    hints = {option: hint for kind in kinds for option, hint in kind.__annotations__.items()}
    hints["key"] = str | None  # no setting can hold a function
    return {option: hints[option] for kind in kinds for option in options_of(kind)}


@asynccontextmanager
async def _no_services(_settings: Any) -> AsyncIterator[None]:
    yield None


@dataclass(frozen=True, slots=True)
class App:
    """All functions of an application and what they share.

    `services` is called with the Settings and returns an async context manager; what it yields is `ctx.services` in
    every handler. It is opened once before the first call and closed after the last. `outbox` finds in it the Outbox
    whose events are published, `firings` what schedules are kept in, beside the outbox; `migrations` is the folder
    whose `sqlite/` and `postgres/` hold the numbered SQL files of the store. Raises ConfigError when the list
    contradicts itself.
    """

    functions: Sequence[Function]
    services: Callable[[Any], AbstractAsyncContextManager[Any]] = _no_services
    outbox: Callable[[Any], Outbox] | None = None
    firings: Callable[[Any], Firings] | None = None
    migrations: Path | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.functions, Sequence):
            raise ConfigError(f"App: functions={self.functions!r} is no list")
        if not self.functions:
            raise ConfigError("App: the list of functions is empty")
        for part in ("services", "outbox", "firings"):
            if not callable(getattr(self, part) or _no_services):
                raise ConfigError(f"App: {part}={getattr(self, part)!r} is no function")
        names: set[str] = set()
        for function in self.functions:
            if not isinstance(function, Function):
                raise ConfigError(f"App: {function!r} is neither a Stream nor an Http nor a Schedule")
            if isinstance(function, Schedule) and (self.outbox is None or self.firings is None):
                raise ConfigError(f"App: {function.name} is a schedule: it needs outbox=... and firings=...")
            if function.name in names:
                raise ConfigError(f"App: two functions are named {function.name!r}; give one of them name=...")
            names.add(function.name)
        self._check_event_types()
        self._check_routes()

    def _check_event_types(self) -> None:
        types: dict[str, type[Event]] = {}
        for function in self.stream_functions:
            if not isinstance(function.event.__struct_config__.tag, str):
                raise ConfigError(f"App: the tag of {function.event.__name__} must be a string")
            try:
                msgspec.json.Decoder(function.event)
            except Exception as error:
                raise ConfigError(f"App: no {function.event.__name__} can be read from JSON: {error}") from None
            if types.setdefault(function.event_type, function.event) is not function.event:
                raise ConfigError(f"App: two event classes have the type {function.event_type!r}")
            if not re.fullmatch(r"[\x21-\x7e]{1,200}", function.event_type):
                raise ConfigError(f"App: {function.event_type!r} is not a usable event type")

    def _check_routes(self) -> None:
        routes: dict[tuple[str, str], Http] = {}
        paths: dict[str, str] = {}
        for function in self.http_functions:
            shape = _PARAMETER.sub("{}", function.path)
            first = routes.setdefault((function.method, shape), function)
            if first is not function:
                raise ConfigError(f"App: {first.name} and {function.name} both answer {function.method} {shape}")
            if paths.setdefault(shape, function.path) != function.path:
                raise ConfigError(f"App: {paths[shape]} and {function.path} are one path: name its parameters alike")

    @property
    def stream_functions(self) -> Sequence[Stream]:
        """The functions for records; those of schedules, too."""
        made = [_stream_of(one, self.firings) if isinstance(one, Schedule) else one for one in self.functions]
        return [function for function in made if isinstance(function, Stream)]

    @property
    def http_functions(self) -> Sequence[Http]:
        """The functions for requests."""
        return [function for function in self.functions if isinstance(function, Http)]

    @property
    def schedules(self) -> Sequence[Schedule]:
        """The functions that run at certain times."""
        return [function for function in self.functions if isinstance(function, Schedule)]

    def schedule(self, name: str) -> Schedule:
        """The schedule of this name. Raises ConfigError that says which there are."""
        by_name = {schedule.name: schedule for schedule in self.schedules}
        if name not in by_name:
            near = get_close_matches(name, by_name, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(by_name)) or 'none'}"
            raise ConfigError(f"no schedule is named {name!r}; {hint}")
        return by_name[name]

    def check_topics(self, topics: Sequence[str]) -> None:
        """Raises ConfigError when a function waits for a topic that is not read, or nobody for one that is."""
        for function in self.stream_functions:
            if function.topic is not None and function.topic not in topics:
                raise ConfigError(f"{function.name}: topic={function.topic!r} is not one of stream.topics")
        for topic in topics if self.stream_functions else ():
            if all(function.topic not in (None, topic) for function in self.stream_functions):
                raise ConfigError(f"stream.topics names {topic!r}, but no function takes events of it")

    def with_options(self, options: dict[str, dict[str, Any]]) -> "App":
        """A copy with the options of the named functions replaced. Raises ConfigError for what does not exist."""
        by_name = {function.name: function for function in self.functions}
        for name, changed in options.items():
            if name not in by_name:
                raise ConfigError(f"functions.{name}: no such function; there are {', '.join(sorted(by_name))}")
            known = options_of(type(by_name[name]))
            for option in changed.keys() - known:
                raise ConfigError(f"functions.{name}.{option}: no such option; there are {', '.join(sorted(known))}")
        return replace(self, functions=[_with(function, options.get(function.name, {})) for function in self.functions])


def _stream_of(schedule: Schedule, firings: Any) -> Stream:
    """The function for the records of a schedule."""
    options = {option: getattr(schedule, option) for option in options_of(Schedule) & options_of(Stream)}
    return Stream(schedule.event, Task(schedule, firings), name=schedule.name, **options)


def _with(function: Function, changed: dict[str, Any]) -> Function:
    hints = option_types()
    try:
        typed = {option: msgspec.convert(value, hints[option], strict=False) for option, value in changed.items()}
    except msgspec.ValidationError as error:
        raise ConfigError(f"functions.{function.name}: {error}") from None
    return replace(function, **typed)
