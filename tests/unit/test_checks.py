"""What is refused before anything is connected: triggers that an app has nothing for, and calls nobody could make."""

from typing import Any

import pytest

from streamproc import App, ConfigError, Event, Http, Schedule, Stream
from streamproc.checks import Trigger, check_start
from streamproc.settings import Settings, load
from streamproc.stream.options import StreamOptions


class Ping(Event, tag="ping"):
    n: int


async def handle(event: Any, ctx: Any) -> None: ...


async def answer(ctx: Any) -> None: ...


STREAM, HTTP = Stream(Ping, handle), Http("GET", "/", answer, public=True)
DAILY = Schedule("daily", "0 3 * * *", handle)


def app(*functions: Any) -> App:
    return App(functions=functions, outbox=lambda services: services, firings=lambda services: services)


def settings(**flags: Any) -> Settings:
    given = {"stream.format": "cloudevents"} | {name.replace("__", "."): value for name, value in flags.items()}
    return load(None, {}, flags=given).settings


@pytest.mark.parametrize(
    ("only", "functions", "sentence"),
    [
        ("http", (STREAM, DAILY), "--only http: the app has no HTTP functions"),
        ("stream", (HTTP,), "--only stream: the app has no functions for records"),
        ("schedule", (HTTP, STREAM), "--only schedule: the app has no schedules"),
    ],
)
def test_a_trigger_that_an_app_has_nothing_for_is_refused(
    only: Trigger, functions: tuple[Any, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_start(app(*functions), settings(), only)


@pytest.mark.parametrize("only", [None, "http", "stream", "schedule"])
def test_what_an_app_has_may_run_alone(only: Trigger | None) -> None:
    check_start(app(STREAM, HTTP, DAILY), settings(), only)


def test_functions_of_schedules_are_functions_for_records() -> None:
    check_start(app(DAILY), settings(), "stream")


@pytest.mark.parametrize(("only", "is_refused"), [(None, True), ("http", True), ("stream", False), ("schedule", False)])
def test_tokens_must_be_checked_where_requests_are_answered(only: Trigger | None, is_refused: bool) -> None:
    made = app(STREAM, Http("GET", "/", answer), DAILY)
    if is_refused:
        with pytest.raises(ConfigError, match="auth: set secret_file, jwks_url or jwks_file"):
            check_start(made, settings(), only)
    else:
        check_start(made, settings(), only)


def test_tokens_of_development_are_for_loopback(tmp_path: Any) -> None:
    (tmp_path / "secret").write_text("s" * 32)
    given = {"auth__development": True, "auth__secret_file": str(tmp_path / "secret")}
    made = app(Http("GET", "/", answer))
    check_start(made, settings(**given), None)
    with pytest.raises(ConfigError, match=r"auth\.development: tokens anybody on this machine can sign"):
        check_start(made, settings(**given, http__listen="0.0.0.0:80"), None)


def test_the_event_ids_of_tasks_need_a_place_in_their_topic() -> None:
    with pytest.raises(
        ConfigError, match=r"stream\.format: json of topic 'events' has no place for the outbox's event"
    ):
        check_start(app(DAILY), settings(stream__format="json"), None)


def test_a_schedule_whose_topic_is_not_read_is_refused() -> None:
    made = app(Schedule("daily", "0 3 * * *", handle, topic="tasks"))
    check_start(made, settings(stream__topics="tasks"), None)
    with pytest.raises(ConfigError, match=r"daily: topic='tasks' is not one of stream\.topics"):
        check_start(made, settings(), None)


def test_dead_letters_that_would_be_read_as_events_are_refused() -> None:
    made = Settings(stream=StreamOptions(topics=["a", "a.dlq"], format="cloudevents"))
    with pytest.raises(ConfigError, match=r"the dead letters of a would go to a\.dlq, which is an input topic"):
        check_start(app(STREAM), made, None)
