"""What is done every night, through the whole pipeline, with real files and stores."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from handlers.app import app
from handlers.daily_cleanup import CLEANUP
from handlers.housekeeping import Folders
from handlers.report import Counted, compose
from handlers.services import Services
from handlers.stores.orders import Order
from handlers.stores.readings import Reading
from handlers.stores.users import User
from streamproc import testing
from streamproc.errors import BrokerError
from tests.contract.stores import EVENT
from tests.contract.test_stores_readings import RULE
from tests.unit.handlers.conftest import Mails

NIGHT = datetime.fromtimestamp(testing.EPOCH, UTC)
DAY = timedelta(days=1)
DeadLetters = Callable[[datetime, datetime], Awaitable[int]]


async def seven(_since: datetime, _until: datetime) -> int:
    return 7


@pytest.fixture
def house(services: Services, tmp_path: Path) -> Services:
    folders = Folders(tmp_path / "tmp", tmp_path / "logs")
    for folder in folders:
        for name, age in (("old.log", 8 * DAY), ("new.log", timedelta())):
            file = folder / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(name)
            second = (NIGHT - age).timestamp()
            os.utime(file, (second, second))
    return replace(services, folders=folders, dead_letters=seven)


async def fill(services: Services, when: datetime, name: str) -> None:
    """A user, an order, two readings and an alert at a time."""
    await services.users.create(User(name, f"{name}@example.com", name, when), EVENT)
    await services.orders.place(Order(name, name, {"a": 1}, when), EVENT)
    rows = [Reading(sensor, when, name, degrees, 1.0, NIGHT) for sensor, degrees in (("s", 31.0), ("t", 1.0))]
    await services.readings.upsert(rows, RULE)


async def night(services: Services, name: str = "daily-cleanup") -> testing.Result:
    return await testing.run(app, [testing.task(app, name, NIGHT)], services=services)


async def legs(services: Services) -> dict[str, tuple[str, int, str]]:
    found = await services.journal.read(CLEANUP.run_id(NIGHT.isoformat()))
    return {one.leg: (one.state, one.attempts, one.result) for one in found if one.leg}


def files(services: Services) -> list[list[str]]:
    return [sorted(file.name for file in folder.iterdir()) for folder in services.folders]


CLEAN = [["new.log"], ["new.log", "old.log.gz"]]


async def test_old_files_go_and_the_report_counts_the_day(house: Services, mails: Mails) -> None:
    times = (-DAY - timedelta(seconds=1), -DAY, -timedelta(hours=1), -timedelta(microseconds=1), timedelta())
    for number, age in enumerate(times):
        await fill(house, NIGHT + age, f"u-{number}")
    result = await night(house)
    assert (result.count("ok"), files(house)) == (1, CLEAN)
    assert await legs(house) == {
        "temporary_files": ("done", 1, "1"),
        "logs": ("done", 1, "1"),
        "report": ("done", 1, "3 3 6 2 7"),
    }
    [mail] = mails()
    assert (mail["To"], mail["Subject"]) == (house.operators, "Report of 2023-11-13 22:13 to 2023-11-14 22:13")
    text = mail.get_body(("plain",)).get_content()
    for line in ("users", "orders", "readings", "alerts", "dead letters"):
        assert line in text


async def test_a_repeat_does_nothing_again(house: Services, mails: Mails) -> None:
    await night(house)
    (house.folders.temporary / "old.log").write_text("again")
    os.utime(house.folders.temporary / "old.log", (0, 0))
    result = await night(house)
    assert (result.count("ok"), len(mails())) == (1, 1)
    assert (house.folders.temporary / "old.log").exists()


async def test_a_part_that_fails_lets_the_others_run_and_is_repeated_alone(house: Services, mails: Mails) -> None:
    outages = [BrokerError("gone"), BrokerError("gone")]

    async def dead_letters(since: datetime, until: datetime) -> int:
        if outages:
            raise outages.pop()
        return 0

    (house.folders.logs / "old.log.gz.part").symlink_to("/dev/full")
    result = await night(replace(house, dead_letters=dead_letters))
    assert (result.count("ok"), result.count("retried"), len(mails())) == (1, 2, 1)
    assert {name: leg[:2] for name, leg in (await legs(house)).items()} == {
        "temporary_files": ("done", 1),
        "logs": ("done", 2),
        "report": ("done", 3),
    }
    assert files(house) == CLEAN


async def test_a_part_that_never_works_is_a_dead_letter_in_the_end(house: Services) -> None:
    async def dead_letters(_since: datetime, _until: datetime) -> int:
        raise BrokerError("gone")

    result = await night(replace(house, dead_letters=dead_letters))
    assert [one.reason for one in result.dead_letters] == ["retries_exhausted"]
    assert files(house) == CLEAN


async def test_readings_of_more_than_thirty_days_ago_are_deleted(house: Services) -> None:
    for number, age in enumerate((31 * DAY, 30 * DAY, DAY)):
        await fill(house, NIGHT - age, f"u-{number}")
    assert (await night(house, "reading-retention")).count("ok") == 1
    assert await house.readings.count(NIGHT - 40 * DAY, NIGHT) == (4, 3)


def report(**counts: int) -> EmailMessage:
    counted = Counted(**{**dict.fromkeys(Counted._fields, 0), **counts})
    return compose(counted, NIGHT - DAY, NIGHT, key="k", to="o@example.com")


def test_the_report_is_text_and_a_page_with_a_chart() -> None:
    mail = report(users=1_234, dead_letters=10**12)
    assert mail["Message-ID"] == "<k@shop.example>"
    assert [part.get_content_type() for part in mail.walk()] == [
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
    ]
    plain, page, chart = (part for part in mail.walk() if not part.is_multipart())
    assert "users                  1,234\n" in plain.get_content()
    assert '<td align="right">1,000,000,000,000</td>' in page.get_content()
    assert f'src="cid:{chart["Content-ID"][1:-1]}"' in page.get_content()
    picture = Image.open(BytesIO(chart.get_content()))
    assert (picture.format, picture.size[0]) == ("PNG", 420)


def bars(mail: EmailMessage) -> list[int]:
    """How many pixels long each bar of the chart is."""
    chart = next(part for part in mail.walk() if part.get_content_type() == "image/png")
    picture = Image.open(BytesIO(chart.get_content())).convert("RGB")
    rows = [[picture.getpixel((x, row * 22 + 10)) for x in range(110, picture.width)] for row in range(5)]
    return [row.count((0x3B, 0x6E, 0xA5)) for row in rows]


def test_the_bars_of_the_chart_grow_with_the_counts_and_stay_on_it() -> None:
    users, orders, readings, alerts, letters = bars(report(orders=9, readings=999, alerts=10**9, dead_letters=10**15))
    assert (users, alerts) == (1, letters)
    assert users < orders < readings < alerts < 310
    assert readings - 1 == pytest.approx(3 * (orders - 1), abs=3)
