"""kill -9 between a time and the function that is due then: one firing for each time, and each leg has one effect."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from handlers.services import open_services
from streamproc.rows import Firing
from tests.integration.crashes.app import SCHEDULE
from tests.integration.crashes.points import SCHEDULE as POINTS
from tests.integration.crashes.run import Open, Place, at_each
from tests.integration.harness import metrics, until_true

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

CLAIMED = f'streamproc_schedule_firings_total{{schedule="{SCHEDULE}",state="due"}}'


async def prepare(place: Place, since: datetime) -> None:
    """The schedule was first seen at that time."""
    async with open_services(place.world.loaded) as services:
        assert await services.firings.claim(Firing(SCHEDULE, since, "since", since), None)


async def firings(place: Place) -> dict[datetime, str]:
    """The times that were fired, each with its state."""
    rows = await place.world.query("SELECT fire_at, state FROM firings WHERE state <> 'since' ORDER BY fire_at")
    assert len(rows) == len({fire_at for fire_at, _ in rows})
    return {datetime.fromtimestamp(fire_at, UTC): state for fire_at, state in rows}


def noted(place: Place, what: str) -> Counter[str]:
    """How often the function wrote this down, by the time that was due."""
    lines = (place.world.folder / "effects").read_text().splitlines()
    return Counter(line.partition(" ")[2] for line in lines if line.startswith(f"{what} "))


async def test_a_time_is_fired_once_and_has_one_effect_after_a_kill_at_any_point(opened: Open) -> None:
    async def tried(place: Place, point: str) -> None:
        fire_at = datetime.now(UTC).replace(microsecond=0)
        await prepare(place, fire_at - timedelta(seconds=1))
        cron = f"{fire_at:%-S %-M %-H %-d %-m} *"  # the next one is a year away
        async with place.second(point, env={"CRON": cron}):
            pass
        assert await firings(place) == {fire_at: "done"}
        assert await place.end() == {"events": 1, "letters": [], "mails": []}
        at = fire_at.isoformat()
        unrecorded = point == "line written, its leg not recorded"
        assert noted(place, "line") == {at: 2 if unrecorded else 1}
        assert noted(place, "call") == {at: 2 if unrecorded or point == "function done, firing not recorded" else 1}

    await at_each(POINTS, opened, tried)


async def test_two_services_that_claim_the_same_times_at_once_fire_each_once(opened: Open, tmp_path: Path) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    times = [hour + timedelta(seconds=30 * number) for number in range(120)]
    env = {"CRON": f"*/30 * {hour:%-H %-d %-m} *", "RACE": str(tmp_path / "race")}
    async with opened(1) as place:

        async def are_done() -> bool:
            return list((await firings(place)).values()) == ["done"] * len(times)

        await prepare(place, hour - timedelta(seconds=1))
        with place.start("", env) as one, place.start("", env) as other:
            await until_true(are_done, "all times are done")
            await place.settled()
            claimed = [metrics(service.address()).get(CLAIMED, 0) for service in (one, other)]
            assert [await service.stop() for service in (one, other)] == [0, 0]
        assert await firings(place) == dict.fromkeys(times, "done")
        assert sum(claimed) == len(times)
        once = {at.isoformat(): 1 for at in times}
        assert (noted(place, "call"), noted(place, "line")) == (once, once)
        assert await place.end() == {"events": len(times), "letters": [], "mails": []}
