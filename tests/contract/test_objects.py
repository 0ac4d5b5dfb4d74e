"""What any ObjectStore does: one suite for a folder and for a bucket of a real S3 server."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.adapters.object_store import file_of
from streamproc.adapters.objects import check_key
from streamproc.errors import ObjectTooLarge
from streamproc.ports import ObjectStore
from tests.contract.object_worlds import ILLEGAL_KEYS, ODD_KEYS, World, bucket_world, folder_world
from tests.seaweedfs import Server

MB = 2**20
NO_LIMIT = 2**40


@pytest.fixture(params=["folder", "bucket"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Empty."""
    if request.param == "folder":
        return folder_world(tmp_path / "a b%20#1" / "é")
    return bucket_world(request.getfixturevalue("seaweedfs"))


@pytest.fixture
async def store(world: World) -> AsyncIterator[ObjectStore]:
    async with world.open() as opened:
        yield opened


async def put(store: ObjectStore, key: str, data: bytes) -> None:
    await store.put(key, data, content_type="text/plain")


async def get(store: ObjectStore, key: str) -> bytes | None:
    return await store.get(key, bytes_max=NO_LIMIT)


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256)), b"x" * (12 * MB + 1)], ids=len)
async def test_what_was_put_is_got(store: ObjectStore, data: bytes) -> None:
    await put(store, "uploads/2026/cat.jpg", data)
    assert await store.get("uploads/2026/cat.jpg", bytes_max=len(data)) == data


async def test_what_was_put_is_there_for_others(world: World) -> None:
    async with world.open() as store:
        await put(store, "a", b"1")
    async with world.open() as store:
        assert await get(store, "a") == b"1"


async def test_an_odd_key_is_kept_as_it_is(store: ObjectStore, world: World) -> None:
    for key in ODD_KEYS:
        await put(store, key, key.encode())
    assert world.count() == len(set(ODD_KEYS)) == len(ODD_KEYS)
    for key in ODD_KEYS:
        assert await get(store, key) == key.encode(), key
    for key, after in pairwise(ODD_KEYS):
        await store.delete(key)
        assert await get(store, key) is None
        assert await get(store, after) == after.encode(), after
    assert world.count() == 1


async def test_a_key_is_found_in_the_bucket_as_it_is(seaweedfs: Server) -> None:
    world = bucket_world(seaweedfs)
    async with world.open() as store:
        for key in ODD_KEYS:
            await store.put(key, b"", content_type="image/x-test")
            assert world.type_of(key) == "image/x-test", key


@pytest.mark.parametrize("key", ["x" * 1_024, "é" * 512, "%" * 1_024, f"{'x' * 500}/{'#' * 500}"], ids=range(4))
async def test_a_long_name_is_kept_or_refused_for_good(store: ObjectStore, world: World, key: str) -> None:
    if world.options.url.startswith("file:"):
        other = f"{key[:-1]}y"
        await put(store, key, b"1")
        await put(store, other, b"2")
        assert (await get(store, key), await get(store, other), world.count()) == (b"1", b"2", 2)
    else:
        with pytest.raises(ValueError, match=r"^s3://objects takes no key as long$"):
            await put(store, key, b"1")


async def test_in_a_folder_a_name_is_an_object_or_a_folder(tmp_path: Path) -> None:
    async with folder_world(tmp_path).open() as store:
        await put(store, "a", b"1")
        await put(store, "b/c", b"2")
        for key in ("a/b", "a/b/c", "b"):
            with pytest.raises(ValueError, match=r"has an object where this key has a folder"):
                await put(store, key, b"3")
            assert await get(store, key) is None
            await store.delete(key)
        assert (await get(store, "a"), await get(store, "b/c")) == (b"1", b"2")
    assert (tmp_path / "b" / "c").read_bytes() == b"2"


@pytest.mark.parametrize("key", ILLEGAL_KEYS, ids=range(len(ILLEGAL_KEYS)))
async def test_what_is_no_key_is_refused(store: ObjectStore, world: World, key: str) -> None:
    for use in (put(store, key, b"1"), get(store, key), store.delete(key)):
        with pytest.raises(ValueError, match=r"^a key ") as caught:
            await use
        assert len(str(caught.value)) < 70
    assert world.count() == 0


segments = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\"), min_size=1, max_size=300)
keys = st.lists(segments.filter(lambda segment: segment not in (".", "..")), min_size=1, max_size=9).map("/".join)


@given(keys)
def test_every_key_passes_and_its_file_stays_in_the_folder(key: str) -> None:
    if len(key.encode()) > 1_024:
        with pytest.raises(ValueError, match="bytes"):
            check_key(key)
        return
    check_key(key)
    names = file_of(key).split("/")
    assert not {"", ".", ".."} & set(names)
    assert max(len(name.encode()) for name in names) < 255 - len("#1234")
    assert not any("#" in name for name in names)
    for name, segment in zip(names, key.split("/"), strict=True):
        assert unquote(name) == segment if "%~" not in name else name.endswith(sha256(segment.encode()).hexdigest())


@given(st.text(st.sampled_from("a./\\\0\x7f\ud800"), max_size=6))
def test_what_passes_as_a_key_is_one(text: str) -> None:
    is_key = text != "" and not set(text) & set("\\\0\x7f\ud800") and not {"", ".", ".."} & set(text.split("/"))
    try:
        check_key(text)
    except ValueError:
        assert not is_key
    else:
        assert is_key


async def test_the_last_one_put_counts(store: ObjectStore, world: World) -> None:
    for data in (b"long" * 1_000, b"short", b""):
        await put(store, "a", data)
        assert await get(store, "a") == data
    assert world.count() == 1


async def test_what_is_not_there_is_none_and_needs_no_deletion(store: ObjectStore) -> None:
    await put(store, "a/b/c", b"1")
    for key in ("x", "a", "a/b", "a/b/c/d", "a/x/c"):
        assert await get(store, key) is None
        await store.delete(key)
    assert await get(store, "a/b/c") == b"1"


async def test_what_is_deleted_is_gone_and_can_be_put_again(store: ObjectStore, world: World) -> None:
    await put(store, "a/b", b"1")
    await store.delete("a/b")
    assert await get(store, "a/b") is None
    assert world.count() == 0
    await put(store, "a/b", b"2")
    assert await get(store, "a/b") == b"2"


async def test_an_object_that_is_too_large_is_not_read(store: ObjectStore) -> None:
    await put(store, "a", b"x" * 1_001)
    assert await store.get("a", bytes_max=1_001) is not None
    for limit in (1_000, 0):
        with pytest.raises(ObjectTooLarge, match=f"^an object of 1,001 bytes, where at most {limit:,} are taken$"):
            await store.get("a", bytes_max=limit)


async def test_of_puts_at_once_one_is_left_whole_and_readers_see_no_part(store: ObjectStore, world: World) -> None:
    contents = [bytes([number]) * (MB + number) for number in range(10)]
    await put(store, "a", contents[0])
    done = asyncio.gather(*(put(store, "a", data) for data in contents))
    while not done.done():
        assert await get(store, "a") in contents
    await done
    assert await get(store, "a") in contents
    assert world.count() == 1


async def test_many_at_once(store: ObjectStore) -> None:
    await asyncio.gather(*(put(store, f"d{n % 7}/{n}", str(n).encode()) for n in range(200)))
    found = await asyncio.gather(*(get(store, f"d{n % 7}/{n}") for n in range(200)))
    assert found == [str(n).encode() for n in range(200)]
