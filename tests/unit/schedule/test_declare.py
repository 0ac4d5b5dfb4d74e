"""Schedules that could never run are refused, and those that can are functions for records like others."""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from streamproc import App, ConfigError, Event, Schedule, Stream, TaskDue, testing
from streamproc.adapters.memory_firings import MemoryFirings
from streamproc.app import option_types, options_of


class Ping(Event, tag="ping"):
    n: int


async def clean(task: TaskDue, ctx: Any) -> None: ...


def blocking(task: TaskDue, ctx: Any) -> None: ...


async def ping(event: Ping, ctx: Any) -> None: ...


def app_of(*functions: Any, **more: Any) -> App:
    return App(functions=functions, **({"outbox": None, "firings": lambda _: MemoryFirings()} | more))


def app(*functions: Any) -> App:
    return app_of(*functions, outbox=lambda services: services)


@pytest.mark.parametrize("name", ["", "Daily", "a/b", "a b", "a" * 101, "ä", "a\n"])
def test_a_name_that_no_key_or_setting_could_hold_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"Schedule({name!r}): a name has 1 to 100 characters")):
        Schedule(name, "0 3 * * *", clean)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cron": "0 0 30 2 *"}, "daily: cron='0 0 30 2 *' is never due"),
        ({"cron": "@daily"}, "daily: cron='@daily' is no cron expression"),
        ({"tz": "Berlin"}, "daily: tz='Berlin' is no time zone of this machine"),
        ({"handler": blocking}, "daily: the handler must be an async def; run what blocks with asyncio.to_thread"),
        ({"handler": None}, "daily: the handler must be an async def"),
        ({"catch_up": "first"}, "daily: catch_up='first' is not one of none, last, all"),
        ({"overlap": "kill"}, "daily: overlap='kill' is not one of skip, queue"),
        ({"timeout_s": 0}, "daily: timeout_s=0 is outside 0.1 to 86400"),
        ({"max_retry_attempts": -2}, "daily: max_retry_attempts=-2 is outside -1 to 10000"),
        ({"backoff_s": 3_601}, "daily: backoff_s=3601 is outside"),
        ({"backoff_max_s": -1}, "daily: backoff_max_s=-1 is outside"),
    ],
)
def test_impossible_options_are_refused_and_the_schedule_is_named(options: dict[str, Any], message: str) -> None:
    declared: dict[str, Any] = {"cron": "0 3 * * *", "handler": clean} | options
    with pytest.raises(ConfigError, match=re.escape(message)):
        Schedule("daily", declared.pop("cron"), declared.pop("handler"), **declared)


def test_a_schedule_is_a_function_for_records_of_a_type_of_its_own() -> None:
    daily = Schedule("daily", "0 3 * * *", clean, timeout_s=60, backoff_s=2, topic="events", max_retry_attempts=3)
    made = app(Stream(Ping, ping), daily, Schedule("a.b_c-1", "0 4 * * *", clean))
    assert [one.name for one in made.schedules] == ["daily", "a.b_c-1"]
    first, second, third = made.stream_functions
    assert (first.event_type, second.event_type, third.event_type) == ("ping", "task.due.daily", "task.due.a.b_c-1")
    assert (second.name, second.timeout_s, second.backoff_s, second.topic) == ("daily", 60, 2, "events")
    assert (second.max_retry_attempts, second.is_async, second.order, second.key) == (3, True, "key", None)
    assert (third.timeout_s, third.backoff_s, third.backoff_max_s) == (3_600, 1, 300)
    made.check_topics(["events"])


def test_a_task_is_the_same_on_the_wire_and_back() -> None:
    made = app(Schedule("daily", "0 3 * * *", clean))
    task = testing.task(made, "daily", datetime(2026, 11, 26, 3, tzinfo=UTC))
    text = b'{"type":"task.due.daily","schedule":"daily","fireAt":"2026-11-26T03:00:00Z"}'
    assert msgspec.json.encode(task) == text
    assert msgspec.json.decode(text, type=made.stream_functions[0].event) == task
    assert isinstance(task, TaskDue)
    with pytest.raises(msgspec.ValidationError, match="timezone"):
        msgspec.json.decode(text.replace(b"Z", b""), type=made.stream_functions[0].event)
    elsewhere = testing.task(made, "daily", datetime(2026, 11, 26, 4, tzinfo=timezone(timedelta(hours=1))))
    assert elsewhere == task


def test_schedules_need_a_database_that_hands_events_to_the_broker() -> None:
    daily = Schedule("daily", "0 3 * * *", clean)
    for missing in ({}, {"firings": None, "outbox": lambda services: services}):
        with pytest.raises(ConfigError, match=r"App: daily is a schedule: it needs outbox=\.\.\. and firings=\.\.\."):
            app_of(daily, **missing)
    assert app_of(Stream(Ping, ping)).schedules == []


def test_two_functions_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two functions are named 'ping'"):
        app(Stream(Ping, ping), Schedule("ping", "0 3 * * *", clean))


def test_a_schedule_is_found_by_its_name_or_the_error_says_which_there_are() -> None:
    made = app(Schedule("daily", "0 3 * * *", clean), Schedule("hourly", "0 * * * *", clean))
    assert made.schedule("hourly") is made.schedules[1]
    with pytest.raises(ConfigError, match="no schedule is named 'dayly'; did you mean 'daily'"):
        made.schedule("dayly")
    with pytest.raises(ConfigError, match="no schedule is named 'x'; there are daily, hourly"):
        made.schedule("x")
    with pytest.raises(ConfigError, match="no schedule is named 'x'; there are none"):
        app(Stream(Ping, ping)).schedule("x")


def test_settings_override_the_options_of_a_schedule() -> None:
    made = app(Schedule("daily", "0 3 * * *", clean))
    changed = made.with_options({"daily": {"cron": "0 4 * * *", "tz": "Europe/Berlin", "catch_up": "all"}})
    changed = changed.with_options({"daily": {"overlap": "queue", "timeout_s": "7"}})
    [daily] = changed.schedules
    assert (daily.cron, daily.tz, daily.catch_up, daily.overlap) == ("0 4 * * *", "Europe/Berlin", "all", "queue")
    assert changed.stream_functions[0].timeout_s == 7
    with pytest.raises(ConfigError, match="daily: cron='no' is no cron expression"):
        made.with_options({"daily": {"cron": "no"}})
    with pytest.raises(ConfigError, match=r"functions\.daily: Invalid enum value 'some'"):
        made.with_options({"daily": {"catch_up": "some"}})
    with pytest.raises(ConfigError, match=r"functions\.daily\.batch_size: no such option; there are backoff_max_s"):
        made.with_options({"daily": {"batch_size": 3}})
    assert options_of(Schedule) <= option_types().keys()
    assert not options_of(Schedule) & {"name", "handler", "event"}
