"""Users, whatever database is behind them."""

import asyncio
from datetime import timedelta, timezone

import pytest

from handlers.stores.users import User, email_key
from streamproc.model import OutRecord
from tests.contract.stores import EVENT, LATER, NOON, Store, refusal, user

SQL = "Zoë'; DROP TABLE users; -- \\ %s $1 ? ☃"


async def events(store: Store) -> int:
    return await store.stores.outbox.count()


async def test_a_user_is_found_by_its_id(store: Store) -> None:
    zoe = user("u-ö'\"", "u@example.com", SQL)
    await store.stores.users.add([zoe, user("u-2", "", "")])
    assert await store.stores.users.find(zoe.user_id) == zoe
    assert await store.stores.users.find("u-2") == user("u-2", "", "")
    assert await store.stores.users.find("u-0") is None
    assert await store.stores.users.find(SQL) is None


@pytest.mark.parametrize("microsecond", [0, 1, 123_457, 999_999])
@pytest.mark.parametrize("year", [1970, 2026, 2099])
async def test_a_time_comes_back_to_the_microsecond(store: Store, year: int, microsecond: int) -> None:
    zone = timezone(timedelta(hours=-5))
    made = user()._replace(created_at=NOON.replace(year=year, microsecond=microsecond).astimezone(zone))
    await store.stores.users.add([made])
    found = await store.stores.users.find("u-1")
    assert found == made
    assert found.created_at.utcoffset() == timedelta(0)


async def test_users_that_exist_stay_as_they_are(store: Store) -> None:
    for name in ("first", "second"):
        await store.stores.users.add([user(name=name), user("u-2", "U@example.com", name)])
    assert await store.stores.users.find("u-1") == user(name="first")
    assert await store.stores.users.find("u-2") is None
    await store.stores.users.add([])
    assert await events(store) == 0


async def test_a_user_is_created_with_its_event(store: Store) -> None:
    assert await store.stores.users.create(user(), EVENT) == user()
    assert await store.stores.users.find("u-1") == user()
    async with store.stores.outbox.relay() as waiting:
        assert waiting is not None
        assert [record for _, record in await waiting.take(10)] == [EVENT]


async def test_an_id_that_exists_is_answered_with_what_is_stored(store: Store) -> None:
    await store.stores.users.create(user(), EVENT)
    again = User("u-1", "other@example.com", "Other", LATER)
    assert await store.stores.users.create(again, EVENT) == user()
    assert await store.stores.users.create(user(), EVENT) == user()
    assert await store.stores.users.find("u-1") == user()
    assert await events(store) == 1


@pytest.mark.parametrize(
    ("email", "same"),
    [
        ("zoe@example.com", "ZOE@Example.COM"),
        ("zo\u00eb@example.com", "zoe\u0308@example.com"),
        ("zoe@example.com", "\uff5a\uff4f\uff45@example.com"),
        ("stra\u00dfe@example.com", "STRASSE@example.com"),
        ("\u210b@example.com", "h@example.com"),
        ("\u0390\u0323@example.com", "\u0399\u0308\u0301\u0323@example.com"),
    ],
    ids=["case", "decomposed", "full-width", "sharp s", "letter-like", "order of marks"],
)
async def test_an_email_belongs_to_one_user_in_any_form(store: Store, email: str, same: str) -> None:
    assert email_key(email) == email_key(same)
    await store.stores.users.create(user(email=email), EVENT)
    assert await store.stores.users.create(user("u-2", same), EVENT) is None
    assert await store.stores.users.find("u-2") is None
    assert await events(store) == 1
    found = await store.stores.users.find("u-1")
    assert found is not None
    assert found.email == email


async def test_one_of_many_at_once_gets_the_email(store: Store) -> None:
    made = await asyncio.gather(*(store.stores.users.create(user(f"u-{n}"), EVENT) for n in range(20)))
    assert len([one for one in made if one is not None]) == await events(store) == 1


async def test_one_of_many_at_once_creates_the_id(store: Store) -> None:
    asked = [user(email=f"{n}@example.com") for n in range(20)]
    made = await asyncio.gather(*(store.stores.users.create(one, EVENT) for one in asked))
    assert {one.user_id if one else None for one in made} == {"u-1"}
    assert len(set(made)) == await events(store) == 1


async def test_pages_follow_the_ids_as_bytes(store: Store) -> None:
    ids = sorted(["", "A", "B", "a", "b", "b ", "b-1", "\u00e4", "\uffff", "\U0001f600"], key=str.encode)
    await store.stores.users.add(user(one, str(n)) for n, one in enumerate(reversed(ids)))
    found, after = [], ""
    while page := await store.stores.users.page(after=after, limit=3):
        assert len(page) <= 3
        found += [one.user_id for one in page]
        after = found[-1]
    assert found == ids[1:]


async def test_a_page_after_text_that_cannot_be_stored_is_a_page(store: Store) -> None:
    await store.stores.users.add([user(one, one) for one in ("a", "aa", "b", "ba")])
    assert [one.user_id for one in await store.stores.users.page(after="a\0z", limit=9)] == ["aa", "b", "ba"]
    assert [one.user_id for one in await store.stores.users.page(after="b\0", limit=9)] == ["ba"]
    assert await store.stores.users.page(after="b" * 100_000, limit=9) == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (user("u\0"), "nul"),
        (user(email="u\0@example.com"), "nul"),
        (user(name="\0"), "nul"),
        (user("u" * 1_025), "too_long"),
        (user("\U0001f600" * 257), "too_long"),
        (user(email="e" * 1_025), "too_long"),
        (user(email="\ufdfa" * 100), "too_long"),
    ],
    ids=["NUL in id", "NUL in email", "NUL in name", "id", "id in bytes", "email", "email that grows"],
)
async def test_what_not_every_database_keeps_is_refused(store: Store, bad: User, reason: str) -> None:
    assert await refusal(store.stores.users.create(bad, EVENT)) == reason
    assert await refusal(store.stores.users.add([user("u-9", "9"), bad])) == reason
    assert await store.stores.users.find(bad.user_id) is None
    assert await store.stores.users.page(after="", limit=9) == []
    assert await events(store) == 0


async def test_the_longest_texts_are_kept(store: Store) -> None:
    longest = user("\U0001f600" * 256, "\u00eb" * 512, "n" * 100_000)
    assert await store.stores.users.create(longest, OutRecord("t", b"v" * 1_000_000)) == longest
    assert await store.stores.users.find(longest.user_id) == longest
