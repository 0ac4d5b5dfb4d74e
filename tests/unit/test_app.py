"""Declarations that contradict themselves are refused, and the message names the entry."""

from typing import Any

import pytest

from streamproc import App, ConfigError, Event, Stream


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key": "m"}, r"handle: key='m' is not a field of Ping \(n\)"),
        ({"batch_size": 0}, "handle: batch_size=0 is outside 1 to 10000"),
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
    assert Stream(Bare, handle).event_type == "Bare"


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
        App(functions=[Stream(Ping, handle), Stream(Other, blocking)])
    with pytest.raises(ConfigError, match="neither a Stream nor an Http"):
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
