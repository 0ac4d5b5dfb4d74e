"""What object stores say and do when something is wrong: settings, folders, credentials, servers that are gone."""

import asyncio
import builtins
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from streamproc.adapters.objects import ObjectOptions, open_objects
from streamproc.errors import ConfigError, StoreError
from streamproc.ports import ObjectStore
from streamproc.settings import load, secrets
from tests.seaweedfs import SECRET_KEY, Server

SPOOF = "x: Server returned non-2xx status code: 404 <Error><Code>NoSuchBucket</Code><Code>KeyTooLongError</Code>"
SIZE = 20_000_000


async def get(store: ObjectStore, key: str = "a") -> bytes | None:
    return await store.get(key, bytes_max=SIZE)


async def failure(options: ObjectOptions, error: type[Exception] = StoreError, key: str = "a") -> str:
    """What is said, the same for every use."""
    said = set()
    async with open_objects(options) as store:
        for use in (store.put(key, b"1", content_type="a/b"), get(store, key), store.delete(key)):
            with pytest.raises(error) as caught:
                await use
            said.add(str(caught.value))
            assert caught.value.__cause__ is None
            assert caught.value.__suppress_context__
    (text,) = said
    return text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        *(({"url": url}, "url is none of") for url in ("", "data", "file:", "file:/", "file://host/x", "s3:", "s3://")),
        *(({"url": f"s3://{bucket}"}, "url is none of") for bucket in ("a", "B" * 9, "a/b", "ab/", "a" * 64, "-ab")),
        *(
            ({"endpoint": it}, "endpoint is not")
            for it in ("host:1", "ftp://h", "http://", "http://u:p@h", "http://h/x")
        ),
        ({"secret_key": "x"}, "access needs"),
        ({"secret_file": "x"}, "access needs"),
        ({"access_key": "x"}, "access needs"),
        ({"access_key": "x", "secret_key": "x", "secret_file": "x"}, "secret_key and secret_file exclude"),
    ],
)
def test_wrong_settings_are_told(given: dict[str, str], said: str, tmp_path: Path) -> None:
    flags = {f"objects.{name}": value for name, value in given.items()}
    with pytest.raises(ConfigError, match=rf"^\[objects\]: {said}"):
        load(None, {}, flags=flags)


@pytest.mark.parametrize("url", ["file:data", "file:/data", "file:///data", "s3://abc", "s3://a.b-c9"])
def test_right_settings_pass(url: str) -> None:
    options = ObjectOptions(url=url, endpoint="https://h:1", access_key="a", secret_file="b")
    assert options.url == url


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("in-a-file\n")
    loaded = load(None, {"STREAMPROC_OBJECTS__ACCESS_KEY": "a", "STREAMPROC_OBJECTS__SECRET_FILE": str(file)})
    assert secrets(loaded.settings) == {"in-a-file"}
    loaded = load(None, {"STREAMPROC_OBJECTS__ACCESS_KEY": "a", "STREAMPROC_OBJECTS__SECRET_KEY": "plain"})
    assert secrets(loaded.settings) == {"plain"}
    assert "plain" not in str(loaded.values())


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^objects\.url: cannot make the folder '.*/file/x': Not a directory$"):
        async with open_objects(ObjectOptions(url=f"file:{tmp_path}/file/x")):
            pass


async def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_objects(ObjectOptions()) as store:
        monkeypatch.chdir("/")
        await store.put("a/b", b"1", content_type="")
    assert (tmp_path / "data" / "objects" / "a" / "b").read_bytes() == b"1"


async def test_a_missing_extra_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "obstore":
            raise ModuleNotFoundError(name, name="obstore")
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.delitem(sys.modules, "streamproc.adapters.object_store", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"pip install 'streamproc\[objects\]'$"):
        async with open_objects(ObjectOptions()):
            pass


async def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    options = ObjectOptions(url=f"file:{tmp_path}/objects")
    async with open_objects(options) as store:
        (tmp_path / "objects").rmdir()
        (tmp_path / "objects").write_text("")
        with pytest.raises(StoreError, match=rf"^file:{tmp_path}/objects: Not a directory$"):
            await store.put("a", b"1", content_type="")


@pytest.mark.parametrize("key", ["a", "e", SPOOF])
async def test_wrong_credentials_are_told_without_them(seaweedfs: Server, key: str) -> None:
    wrong = seaweedfs.options(secret_key="wr0ng-secret")
    assert await failure(wrong, key=key) == "s3://objects: access is refused: 403 SignatureDoesNotMatch"
    unknown = seaweedfs.options(access_key="nobody")
    assert await failure(unknown, key=key) == "s3://objects: access is refused: 403 InvalidAccessKeyId"


@pytest.mark.parametrize("key", ["a", "e", SPOOF])
async def test_a_missing_bucket_is_no_missing_object(seaweedfs: Server, key: str) -> None:
    async with open_objects(seaweedfs.options(url="s3://no-such-bucket")) as store:
        for use in (get(store, key), store.delete(key)):
            with pytest.raises(StoreError, match=r"^s3://no-such-bucket: 404 NoSuchBucket$"):
                await use


async def test_a_key_that_looks_like_an_answer_is_a_missing_object(seaweedfs: Server) -> None:
    async with open_objects(seaweedfs.options()) as store:
        assert await get(store, SPOOF) is None
        await store.delete(SPOOF)


async def test_a_secret_in_a_file_is_read_and_told_when_it_is_missing(seaweedfs: Server, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    options = seaweedfs.options(secret_key="", secret_file=str(file))
    with pytest.raises(ConfigError, match=r"^objects\.secret_file: cannot read '.*': No such file or directory$"):
        async with open_objects(options):
            pass
    file.write_text(f"{SECRET_KEY}\n")
    async with open_objects(options) as store:
        await store.put("a", b"1", content_type="")
    async with open_objects(options) as store:
        file.unlink()
        with pytest.raises(StoreError, match=r"^s3://objects: objects\.secret_file: cannot read "):
            await get(store)
        file.write_text(SECRET_KEY)
        assert await get(store) == b"1"


async def test_variables_of_the_environment_change_nothing(seaweedfs: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION"):
        monkeypatch.setenv(f"AWS_{name}", "other")
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    async with open_objects(seaweedfs.options()) as store:
        await store.put("a", b"1", content_type="")
        assert await get(store) == b"1"


async def test_a_server_that_is_gone_is_told_soon_and_found_again() -> None:
    with Server() as server:
        async with open_objects(server.options()) as store:
            await store.put("a", b"1", content_type="a/b")
            server.kill()
            begin = time.monotonic()
            assert await failure(server.options()) == "s3://objects: no answer"
            with pytest.raises(StoreError, match=r"^s3://objects: no answer$"):
                await get(store)
            assert time.monotonic() - begin < 3
            await asyncio.to_thread(server.start)
            assert await get(store) == b"1"


async def test_a_server_that_never_answers_is_left_after_the_time_limit() -> None:
    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep, "127.0.0.1") as silent:
        endpoint = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        options = ObjectOptions(url="s3://abc", endpoint=endpoint, access_key="a", secret_key="b", timeout_s=0.1)
        assert await failure(options) == "s3://abc: no answer"


WRITER = """
import asyncio, sys
from streamproc.adapters.objects import ObjectOptions, open_objects
async def main():
    async with open_objects(ObjectOptions(url=sys.argv[1])) as store:
        while True:
            for byte in (b"a", b"b"):
                await store.put("d/big", byte * int(sys.argv[2]), content_type="")
                print(flush=True)
asyncio.run(main())
"""


def kill_a_writer(folder: Path) -> set[str]:
    """Kills it in the middle of a put, if that succeeds, and says what it left besides."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, f"file:{folder}", str(SIZE)], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        deadline = time.monotonic() + 10
        while len(os.listdir(folder / "d")) == 1:
            assert time.monotonic() < deadline
        writer.kill()
    return set(os.listdir(folder / "d")) - {"big"}


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with open_objects(ObjectOptions(url=f"file:{tmp_path}")) as store:
        yield store


async def test_a_killed_writer_leaves_the_object_whole(folder: ObjectStore, tmp_path: Path) -> None:
    parts: set[str] = set()
    for _ in range(50):
        parts = await asyncio.to_thread(kill_a_writer, tmp_path)
        assert await get(folder, "d/big") in (b"a" * SIZE, b"b" * SIZE)
        if parts:
            break
    assert parts
    assert [await get(folder, f"d/{name}") for name in parts] == [None] * len(parts)
    await folder.put("d/big", b"1", content_type="")
    assert await get(folder, "d/big") == b"1"


@pytest.mark.parametrize(
    ("change", "then"),
    [
        (lambda file: file.write_bytes(b"1" * 1_000_000), b"1" * 1_000),
        (lambda file: file.unlink(), b"1" * 1_000),
        (lambda file: file.write_bytes(b""), None),
    ],
    ids=["grows", "goes", "shrinks"],
)
async def test_what_changes_while_it_is_read_is_whole_or_an_error(
    folder: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], then: bytes
) -> None:
    async def get_and_change(*args: Any) -> Any:
        found = await get_async(*args)
        change(tmp_path / "a")
        return found

    get_async = obstore.get_async
    monkeypatch.setattr(obstore, "get_async", get_and_change)
    await folder.put("a", b"1" * 1_000, content_type="")
    if then is None:
        with pytest.raises(StoreError, match=r"^file:"):
            await folder.get("a", bytes_max=1_000)
    else:
        assert await folder.get("a", bytes_max=1_000) == then
