"""Times of cron expressions: what daylight saving does to them, and that where one begins to count changes nothing."""

import re
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.schedule import cron

BERLIN = "Europe/Berlin"
SPRING = "2026-03-29"  # the clock goes from 02:00 to 03:00, which is 01:00 UTC
AUTUMN = "2026-10-25"  # the clock goes from 03:00 back to 02:00, which is 01:00 UTC
EXPRESSIONS = ["30 2 * * *", "0 2,3 * * *", "30 1-3 * * *", "0 * * * *", "*/15 * * * *", "*/20 2 * * *", "0 */2 * * *"]
SPARSE = ["0 0 1 1 *", "0 12 29 2 *", "15 6 L * *", "0 9 * * 1#2", "0 0 13 * FRI", "59 59 23 31 12 *"]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def on(day: str, expression: str, tz: str = BERLIN) -> list[str]:
    """The UTC times of what is due on a day of the zone, from its midnight to the next."""
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(tz))
    following = midnight + timedelta(days=1)
    found = cron.between(expression, tz, midnight - timedelta(microseconds=1), before=following)
    return [f"{one:%H:%M}" for one in found]


@pytest.mark.parametrize(
    ("expression", "spring", "autumn"),
    [
        ("30 2 * * *", ["01:00"], ["00:30"]),
        ("0 2 * * *", ["01:00"], ["00:00"]),
        ("0 3 * * *", ["01:00"], ["02:00"]),
        ("59 1 * * *", ["00:59"], ["23:59"]),
        ("0,30 2 * * *", ["01:00"], ["00:00", "00:30"]),
        ("10,50 2,3 * * *", ["01:00", "01:10", "01:50"], ["00:10", "00:50", "02:10", "02:50"]),
        ("30 1-3 * * *", ["00:30", "01:00", "01:30"], ["23:30", "00:30", "02:30"]),
    ],
)
def test_a_time_of_day_comes_once_a_day(expression: str, spring: list[str], autumn: list[str]) -> None:
    assert (on(SPRING, expression), on(AUTUMN, expression)) == (spring, autumn)


@pytest.mark.parametrize(
    ("expression", "spring", "autumn"),
    [
        ("*/30 2 * * *", [], ["00:00", "00:30", "01:00", "01:30"]),
        ("30 */2 * * *", [f"{hour:02}:30" for hour in (23, *range(2, 22, 2))], None),
        ("0 30 2 * * *", [], ["00:30", "01:30"]),
    ],
)
def test_what_follows_the_clock_is_skipped_and_repeated_with_it(
    expression: str, spring: list[str], autumn: list[str] | None
) -> None:
    assert on(SPRING, expression) == spring
    assert autumn is None or on(AUTUMN, expression) == autumn


@pytest.mark.parametrize(("expression", "step_s"), [("*/15 * * * *", 900), ("0 * * * *", 3_600), ("* * * * *", 60)])
@pytest.mark.parametrize(("day", "hours"), [(SPRING, 23), (AUTUMN, 25), ("2026-07-01", 24)])
def test_what_comes_every_hour_comes_every_real_hour(expression: str, step_s: int, day: str, hours: int) -> None:
    assert len(on(day, expression)) == hours * 3_600 // step_s
    start = moment(day) - timedelta(days=1)
    found = list(islice(cron.times(expression, BERLIN, start), 3 * 86_400 // step_s))
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(seconds=step_s)}


def test_a_time_that_comes_twice_is_not_due_again_for_who_begins_in_between() -> None:
    second = moment("2026-10-25T01:10")  # 02:10 for the second time
    assert cron.next_after("30 2 * * *", BERLIN, second) == moment("2026-10-26T01:30")
    assert cron.next_after("*/15 * * * *", BERLIN, second) == moment("2026-10-25T01:15")


def test_utc_has_no_daylight_saving() -> None:
    assert on(SPRING, "30 2 * * *", "UTC") == on(AUTUMN, "30 2 * * *", "UTC") == ["02:30"]


@pytest.mark.parametrize(
    ("expression", "following"),
    [
        ("0 3 * * *", "2026-11-27T03:00"),
        ("0 0 L * *", "2026-11-30T00:00"),
        ("0 0 LW * *", "2026-11-30T00:00"),
        ("0 0 * * 5L", "2026-11-27T00:00"),
        ("0 0 * * MON#1", "2026-12-07T00:00"),
        ("0 0 1 jan *", "2027-01-01T00:00"),
        ("0 0 1 * 0", "2026-11-29T00:00"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("*/20 * * * * *", "2026-11-26T12:00:20"),
    ],
)
def test_what_an_expression_may_say(expression: str, following: str) -> None:
    cron.check(expression, "UTC")
    assert cron.next_after(expression, "UTC", moment("2026-11-26T12:00")) == moment(following)


def test_a_time_is_after_the_moment_and_at_no_fraction_of_a_second() -> None:
    noon = moment("2026-11-26T12:00")
    assert cron.next_after("0 12 * * *", "UTC", noon) == noon + timedelta(days=1)
    assert cron.next_after("0 12 * * *", "UTC", noon - timedelta(microseconds=1)) == noon
    assert cron.next_after("* * * * * *", "UTC", noon + timedelta(microseconds=1)) == noon + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("expression", "tz", "sentence"),
    [
        ("61 * * * *", "UTC", "cron='61 * * * *' is no cron expression (bad minute): write five fields"),
        ("@daily", "UTC", "cron='@daily' is no cron expression (wrong number of fields): write five fields"),
        ("", "UTC", "cron='' is no cron expression"),
        ("0 0 32 * *", "UTC", "cron='0 0 32 * *' is no cron expression (bad day-of-month)"),
        ("0 0 1 1 " + "9" * 5_000, "UTC", "is no cron expression (exceeds the limit"),
        ("0 0 30 2 *", "UTC", "cron='0 0 30 2 *' is never due: no such month has that day"),
        ("0 0 31 4,6 *", BERLIN, "cron='0 0 31 4,6 *' is never due"),
        ("0 3 * * *", "Berlin", "tz='Berlin' is no time zone of this machine: write it as in Europe/Berlin"),
        ("0 3 * * *", "Europe", "tz='Europe' is no time zone"),
        ("0 3 * * *", "../etc/passwd", "tz='../etc/passwd' is no time zone"),
        ("0 3 * * *", "", "tz='' is no time zone"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(expression: str, tz: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        cron.check(expression, tz)


moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda one: one.replace(tzinfo=UTC))
near_changes = st.builds(
    lambda day, seconds: moment(day) + timedelta(seconds=seconds),
    st.sampled_from([SPRING, AUTUMN]),
    st.integers(-7_200, 4 * 3_600),
)
zones = st.sampled_from([BERLIN, "UTC", "America/St_Johns", "Australia/Lord_Howe"])


@settings(deadline=None)
@given(expression=st.sampled_from(EXPRESSIONS), tz=zones, start=moments | near_changes)
def test_times_are_the_same_wherever_one_begins_to_count(expression: str, tz: str, start: datetime) -> None:
    found = list(islice(cron.times(expression, tz, start), 60))
    assert found == sorted(set(found))
    assert found[0] > start
    for earlier, later in pairwise(found):
        assert cron.next_after(expression, tz, earlier) == later
        assert cron.next_after(expression, tz, earlier + (later - earlier) / 2) == later


@settings(deadline=None)
@given(
    expression=st.sampled_from(EXPRESSIONS + SPARSE), tz=zones, start=moments | near_changes, days=st.integers(0, 900)
)
def test_the_latest_is_the_last_of_all_between(expression: str, tz: str, start: datetime, days: int) -> None:
    first = cron.next_after(expression, tz, start)
    before = first + timedelta(days=days if expression in SPARSE else days / 100, microseconds=1)
    expected = [first, *cron.between(expression, tz, first, before=before)][-1]
    assert cron.latest(expression, tz, first, before=before) == expected
    assert cron.latest(expression, tz, first, before=expected + timedelta(microseconds=1)) == expected
