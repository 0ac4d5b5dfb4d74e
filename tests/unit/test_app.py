"""Declarations that contradict themselves are refused, and the message names the entry."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import pytest

from streamproc import App, ConfigError, Event, Http, Schedule, Stream
from streamproc.app import option_types, options_of


class Ping(Event, tag="ping"):
    n: int


class Other(Event, tag="ping"):
    n: int


class Bare(Event):
    n: int


async def handle(event: Ping, ctx: Any) -> None: ...


def blocking(event: Ping, ctx: Any) -> None: ...


class Callable:
    async def __call__(self, event: Ping, ctx: Any) -> None: ...


async def answer(ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "m"}, r"handle: key='m' is not a field of Ping \(n\)"),
        ({"batch_size": 0}, "handle: batch_size=0 is outside 1 to 10000"),
        ({"batch_size": True}, "handle: batch_size=True is no whole number"),
        ({"concurrency": 1.5}, "handle: concurrency=1.5 is no whole number"),
        ({"max_retry_attempts": "5"}, "handle: max_retry_attempts='5' is no whole number"),
        ({"backoff_s": 31}, r"handle: backoff_s=31 is above backoff_max_s=30"),
        ({"timeout_s": "5"}, "handle: timeout_s='5' is no number"),
        ({"batch_window_s": 1}, "handle: batch_window_s needs batch_size"),
        ({"concurrency": 10_001}, "handle: concurrency=10001"),
        ({"timeout_s": 0}, "handle: timeout_s=0"),
        ({"max_retry_attempts": -2}, "handle: max_retry_attempts=-2"),
        ({"max_record_age_s": 30}, r"max_record_age_s=30 must be -1 \(no limit\) or at least 60"),
        ({"order": "random"}, "order='random' is not one of key, partition, unordered"),
        ({"order": "unordered", "key": "n"}, "key='n' has no meaning with order='unordered'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stream(Ping, handle, **options)


def test_what_is_no_event_or_no_function_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a subclass of Event"):
        Stream(int, handle)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be a function with a name"):
        Stream(Ping, Callable())
    assert Stream(Ping, Callable(), name="mine").is_async
    assert Stream(Bare, lambda event, ctx: None, name="mine").event_type == "Bare"


async def forgets(event: Ping) -> None: ...


async def takes_three(event: Ping, ctx: Any, more: int) -> None: ...


async def yields(event: Ping, ctx: Any) -> AsyncIterator[int]:
    yield 1


async def takes_other(event: Bare, ctx: Any) -> None: ...


async def takes_many(events: Sequence[Ping], ctx: Any) -> None: ...


async def takes_many_others(events: list[Bare], ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("handler", "batch_size", "message"),
    [
        (forgets, None, r"forgets: the handler is called with \(event, ctx\): too many positional arguments"),
        (forgets, 5, r"forgets: the handler is called with \(events, ctx\)"),
        (takes_three, None, "missing a required argument: 'more'"),
        (yields, None, "yields: the handler is a generator: it must return, not yield"),
        (takes_other, None, "takes_other: the handler takes Bare, and is declared for Ping"),
        (takes_many, None, "takes_many: the handler takes a list: give it batch_size="),
        (handle, 5, "handle: the handler takes one event: it is given a list, for it has batch_size"),
        (takes_many_others, 5, "takes_many_others: the handler takes Bare, and is declared for Ping"),
    ],
)
def test_a_handler_that_no_record_could_call_is_refused(handler: Any, batch_size: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Stream(Ping, handler, batch_size=batch_size)


@pytest.mark.parametrize("handler", [handle, blocking, Callable(), partial(handle), lambda event, ctx: None])
def test_what_may_handle_an_event(handler: Any) -> None:
    assert Stream(Ping, handler, name="mine").handler is handler
    assert Stream(Ping, takes_many, batch_size=5).batch_size == 5


def test_a_schedule_is_called_with_its_task_and_context() -> None:
    with pytest.raises(ConfigError, match=r"daily: the handler is called with \(event, ctx\)"):
        Schedule("daily", "0 3 * * *", forgets)
    with pytest.raises(ConfigError, match="daily: the handler takes Ping, and is declared for TaskDue"):
        Schedule("daily", "0 3 * * *", handle)


class Numbered(Event, tag=1):
    n: int


class Strange(Event, tag="strange"):
    what: "NoSuchName"  # type: ignore[name-defined]  # noqa: F821


class Torn(Event, tag="torn"):
    what: set[int] | list[int]


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Numbered, "App: the tag of Numbered must be a string"),
        (Strange, "App: no Strange can be read from JSON: name 'NoSuchName' is not defined"),
        (Torn, "App: no Torn can be read from JSON: Type unions may not contain more than one array-like"),
    ],
)
def test_an_event_that_no_record_could_be_is_refused(event: type[Event], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        App(functions=[Stream(event, lambda event, ctx: None, name="f")])


def test_concurrency_follows_where_the_function_runs() -> None:
    assert Stream(Ping, handle).concurrency_max == 100
    assert Stream(Ping, blocking).concurrency_max == 8
    assert Stream(Ping, blocking, concurrency=3).concurrency_max == 3


def test_a_list_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="the list of functions is empty"):
        App(functions=[])
    with pytest.raises(ConfigError, match="two functions are named 'handle'"):
        App(functions=[Stream(Ping, handle), Stream(Ping, handle)])
    with pytest.raises(ConfigError, match="two event classes have the type 'ping'"):
        App(functions=[Stream(Ping, handle), Stream(Other, lambda event, ctx: None, name="other")])
    with pytest.raises(ConfigError, match=r"App: functions=Stream\(.*\) is no list"):
        App(functions=Stream(Ping, handle))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="App: services='shop' is no function"):
        App(functions=[Stream(Ping, handle)], services="shop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="neither a Stream nor an Http nor a Schedule"):
        App(functions=[handle])  # type: ignore[list-item]


def test_options_are_overridden_by_name() -> None:
    app = App(functions=[Stream(Ping, handle, key="n"), Stream(Ping, blocking)])
    changed = app.with_options({"handle": {"concurrency": "7", "key": None}, "blocking": {"timeout_s": 3}})
    assert [(f.concurrency, f.key, f.timeout_s) for f in changed.functions] == [(7, None, 60.0), (None, None, 3.0)]
    with pytest.raises(ConfigError, match=r"functions\.nobody: no such function; there are blocking, handle"):
        app.with_options({"nobody": {}})
    with pytest.raises(ConfigError, match=r"functions\.handle\.speed: no such option"):
        app.with_options({"handle": {"speed": 1}})
    with pytest.raises(ConfigError, match=r"functions\.handle: Expected `int"):
        app.with_options({"handle": {"concurrency": "many"}})


def test_topics_and_functions_must_fit() -> None:
    app = App(functions=[Stream(Ping, handle, topic="a")])
    app.check_topics(["a"])
    with pytest.raises(ConfigError, match="handle: topic='a' is not one of"):
        app.check_topics(["b"])
    with pytest.raises(ConfigError, match=r"stream\.topics names 'b', but no function takes"):
        app.check_topics(["a", "b"])


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "get", "BREW", ""])
def test_only_methods_of_functions_are_methods(method: Any) -> None:
    with pytest.raises(ConfigError, match=rf"Http\('{method}', '/x'\): no such method"):
        Http(method, "/x", answer)


@pytest.mark.parametrize(
    "path",
    ["/", "/users", "/users/{id}", "/{a}/{b}/c.d~e-f_g", "/v1/users/{user_id}/orders",
     "/{key:path}", "/files/{key:path}", "/{a}/b/{key:path}"]
)  # fmt: skip
def test_paths_are_written_with_names_in_braces(path: str) -> None:
    assert Http("GET", path, answer).path == path


@pytest.mark.parametrize(
    "path",
    ["", "users", "/users/", "//users", "/users//x", "/users/{}", "/{1a}", "/{a-b}", "/a{b}", "/{a}b", "/a b", "/ä",
     "/{a:path}/b", "/{a:path}/{b:path}", "/a{b:path}", "/{a:path}b", "/{a:path:path}", "/{:path}", "{a:path}",
     "/a?b", "/a#b", "/a%20b", "/{a", "/a}", "/{a:int}", "/users\n", "/*", "/a;b", "http://x/a"],
)  # fmt: skip
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"write the path as in /users/\{id\}"):
        Http("GET", path, answer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"public": True, "scope": "a"}, "answer: public excludes scope='a'"),
        ({"scope": "a b"}, "answer: scope='a b' is not one scope, as in users:write"),
        ({"scope": 'a"'}, "is not one scope"),
        ({"scope": "a\\"}, "is not one scope"),
        ({"scope": "ä"}, "is not one scope"),
        ({"cors": ("shop.example",)}, "answer: cors names 'shop.example', which is no origin, as in https://"),
        ({"cors": ("https://shop.example/",)}, "which is no origin"),
        ({"cors": ("https://a", "https://b c")}, "cors names 'https://b c'"),
        ({"cors": ("null",)}, "cors names 'null'"),
        ({"cors": "https://a"}, "cors names 'h'"),
        ({"body_bytes_max": -1}, "answer: body_bytes_max=-1 is outside 0 to 1.07374e"),
        ({"concurrency": 0}, "answer: concurrency=0 is outside 1 to 100000"),
        ({"concurrency": 100_001}, "answer: concurrency=100001"),
        ({"timeout_s": 0}, "answer: timeout_s=0 is outside 0.1 to 3600"),
        ({"timeout_s": float("nan")}, "answer: timeout_s=nan"),
        ({"rate_per_s": -1}, "answer: rate_per_s=-1 is outside 0 to"),
    ],
)
def test_impossible_options_of_a_request_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Http("GET", "/x", answer, **options)


def test_a_request_s_function_has_a_name_and_runs_where_it_can() -> None:
    def in_thread(ctx: Any) -> None: ...

    with pytest.raises(ConfigError, match=r"Http\('GET', '/x'\): the handler must be a function with a name"):
        Http("GET", "/x", Callable())
    with pytest.raises(ConfigError, match="must be a function with a name"):
        Http("GET", "/x", "answer")  # type: ignore[arg-type]
    assert (Http("GET", "/", answer).concurrency_max, Http("GET", "/", in_thread).concurrency_max) == (1_000, 8)
    assert Http("GET", "/", Callable(), name="mine", concurrency=3).concurrency_max == 3
    assert Http("GET", "/", Callable(), name="mine").is_async


@pytest.mark.parametrize("path", ["/{id}/{id}", "/{id}/x/{id}", "/{id}/{id:path}"])
def test_a_path_names_a_parameter_once(path: str) -> None:
    with pytest.raises(ConfigError, match="the path names a parameter twice"):
        Http("GET", path, answer)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (("GET", "/users/{id}"), r"App: first and second both answer GET /users/\{\}"),
        (("GET", "/users/{name}"), r"App: first and second both answer GET /users/\{\}"),
        (("PUT", "/users/{name}"), r"App: /users/\{id\} and /users/\{name\} are one path: name its parameters alike"),
        (("GET", "/users/{id:path}"), r"App: first and second both answer GET /users/\{\}"),
        (("PUT", "/users/{id:path}"), r"App: /users/\{id\} and /users/\{id:path\} are one path"),
    ],
)
def test_two_functions_do_not_answer_the_same(second: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        App(functions=[Http("GET", "/users/{id}", answer, name="first"), Http(*second, answer, name="second")])


def test_paths_that_differ_go_together() -> None:
    routes = [("GET", "/users/{id}"), ("PUT", "/users/{id}"), ("GET", "/users/me"), ("GET", "/users/{id}/orders")]
    routes += [("GET", "/{rest:path}"), ("GET", "/users/{id}/{rest:path}")]
    app = App(functions=[Http(*route, answer, name=str(n)) for n, route in enumerate(routes)])  # type: ignore[arg-type]
    assert [(one.method, one.path) for one in app.http_functions] == routes
    assert app.stream_functions == []
    app.check_topics(["anything"])


def test_options_of_a_request_are_overridden_by_name() -> None:
    app = App(functions=[Http("GET", "/x", answer, scope="a", rate_per_s=3), Stream(Ping, handle)])
    settings = {"cors": ["https://a.example"], "timeout_s": "2.5", "rate_per_s": 0, "body_bytes_max": 10, "scope": "b"}
    [changed] = app.with_options({"answer": settings, "handle": {"timeout_s": 7}}).http_functions
    assert (changed.cors, changed.timeout_s, changed.rate_per_s) == (("https://a.example",), 2.5, 0.0)
    assert (changed.body_bytes_max, changed.scope, changed.method, changed.path) == (10, "b", "GET", "/x")
    assert app.with_options({}).http_functions == app.http_functions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 5}, r"functions\.answer\.batch_size: no such option; there are body_bytes_max, concurrency"),
        ({"path": "/y"}, r"functions\.answer\.path: no such option"),
        ({"handler": "x"}, r"functions\.answer\.handler: no such option"),
        ({"public": True}, "answer: public excludes scope='a'"),
        ({"timeout_s": "soon"}, r"functions\.answer: Expected `float"),
        ({"cors": "https://a.example"}, r"functions\.answer: Expected `array"),
        ({"cors": ["a.example"]}, "answer: cors names 'a.example'"),
        ({"rate_per_s": -2}, "answer: rate_per_s=-2"),
    ],
)
def test_overrides_are_checked_as_declarations_are(settings: dict[str, Any], message: str) -> None:
    app = App(functions=[Http("GET", "/x", answer, scope="a")])
    with pytest.raises(ConfigError, match=message):
        app.with_options({"answer": settings})


def test_options_of_all_kinds_have_a_type() -> None:
    assert options_of(Http) == {
        "scope", "public", "cors", "body_bytes_max", "concurrency", "timeout_s", "rate_per_s",
    }  # fmt: skip
    assert option_types().keys() == options_of(Http) | options_of(Stream) | options_of(Schedule)
