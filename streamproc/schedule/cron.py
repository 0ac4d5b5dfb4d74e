"""When a schedule is due: cron expressions in a time zone. Pure; moments go in with any time zone and come out in UTC.

Five fields (minute, hour, day of month, month, day of week) with lists, ranges, steps and names (MON, JAN); `L` is the
last day of the month, `LW` its last weekday, `FRI` or 5 the Fridays, `5L` the last Friday, `1#2` the second Monday. Six
fields begin with seconds. There is no `@daily`: write `0 0 * * *`. If day of month or day of week begins with a star,
both must match, else one of them.

Daylight saving is Debian cron's. Five fields of which neither minute nor hour begins with a star name times of the
day, and each day has them once: what the clock skips in spring is due when it goes on (02:30 at 03:00, and so all that
falls into the gap, together), and what comes twice in autumn is due the first time. All other expressions follow the
clock: `*/15 * * * *` and `0 * * * *` are due every quarter and every hour that really passes, what is skipped
(`*/30 2 * * *`) is not due, and what comes twice is due twice.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError


def check(cron: str, tz: str) -> None:
    """Raises ValueError, with a sentence, for what is no time zone, no expression, or one that never is due."""
    now = datetime.now(zone(tz))
    try:
        CronSim(cron, now)
    except (CronSimError, ValueError) as error:
        if _is_sound_in_other_months(cron, now):
            raise ValueError(f"cron={cron!r} is never due: no such month has that day") from None
        wrong = f"cron={cron!r} is no cron expression ({str(error)[:60].lower()})"
        raise ValueError(f"{wrong}: write five fields, as in '0 3 * * *'") from None
    if next(times(cron, tz, now), None) is None:
        raise ValueError(f"cron={cron!r} is never due: no day in fifty years matches")


def _is_sound_in_other_months(cron: str, now: datetime) -> bool:
    fields = cron.split()
    try:
        CronSim(" ".join([*fields[:-2], "*", *fields[-1:]]), now)
    except (CronSimError, ValueError):
        return False
    return True


def zone(tz: str) -> tzinfo:
    """The time zone of this name. Raises ValueError, with a sentence."""
    if tz == "UTC":
        return UTC  # also on a machine without a time zone database
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"tz={tz!r} is no time zone of this machine: write it as in Europe/Berlin; "
            "where the system has no time zones, install tzdata"
        ) from None


def times(cron: str, tz: str, after: datetime) -> Iterator[datetime]:
    """The times after a moment, one by one, without end."""
    previous = after.astimezone(UTC)
    for local in CronSim(cron, after.astimezone(zone(tz))):
        moment = local.astimezone(UTC)
        if moment > previous:  # one that came twice was due the first time, maybe before `after`
            yield moment
            previous = moment


def next_after(cron: str, tz: str, moment: datetime) -> datetime:
    """The first time after a moment."""
    return next(times(cron, tz, moment))


def between(cron: str, tz: str, after: datetime, *, before: datetime) -> Iterator[datetime]:
    """The times after one moment and before another."""
    return takewhile(lambda moment: moment < before, times(cron, tz, after))


def latest(cron: str, tz: str, first: datetime, *, before: datetime) -> datetime:
    """The last time before a moment, given an earlier one; by bisection, as years may lie between them."""
    found, end = first, before
    while end - found > timedelta(seconds=1):  # no time lies from `end` up to `before`
        middle = found + (end - found) / 2
        following = next_after(cron, tz, middle)
        if following < before:
            found = following
        else:
            end = middle
    return found
