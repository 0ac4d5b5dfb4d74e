"""Places for objects as the contract tests see them: what opens one, and what is in it, past the adapter."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx2
import obstore
from obstore.store import S3Store

from streamproc.adapters.objects import ObjectOptions, open_objects
from streamproc.ports import ObjectStore
from tests.seaweedfs import ACCESS_KEY, BUCKET, SECRET_KEY, Server

_ODD = [
    *("a", "a/b", "a/b/c", "A", "a b", "a%20b", "a+b", "a%b", "a%2520b", "a%2Fb", "a%2fb", "%2e%2e/x", "a/%2e%2e/b"),
    *("a/...", "..a", "a..", "a.", ".a", "-", "~", "~user", "%", "%%", "a%/b", "a%%/b", "a%", "%25", "a%25"),
    *("#", "#1", "a#1", "a#1x", "a/#5", "a%231", "?", "a?b=c&d", "*", "a*", "[x]", "{x}", "<q>", '"q"', "'q'", "^`|"),
    *("a:b", "a;b@c$,!()", "a=b", " ", " a", "a ", "a / b", "\u00e9", "e\u0301", "…", "\u2028", "\ufeff", "\u202ea"),
    *("😀", "李小龙/猫.jpg", "é" * 120, "x" * 250, "%" * 250, "#" * 250, "/".join("x" * 510), "/".join("é" * 339)),
    "uploads/2026/cat.jpg",
]
ODD_KEYS = [f"{number}/{key}" for number, key in enumerate(_ODD)]
"""Each in a folder of its own: in a folder, `a` and `a/b` are not both objects."""
ILLEGAL_KEYS = [
    *("", "/", "/a", "a/", "a//b", ".", "..", "../x", "a/..", "a/../b", "./a", "a/./b", "a/.", "\\", "a\\b", "..\\x"),
    *("\0", "a\0b", "\n", "a\r", "\t", "\x1f", "\x7f", "\x80", "\x9f", "\ud800", "a" * 1_025, "é" * 513, "😀" * 257),
]


@dataclass(frozen=True)
class World:
    """A place for objects; `count` says how many are in it, and `type_of` the type of one where types are kept."""

    options: ObjectOptions
    count: Callable[[], int]
    type_of: Callable[[str], str | None]

    @asynccontextmanager
    async def open(self) -> AsyncIterator[ObjectStore]:
        async with open_objects(self.options) as store:
            yield store


def folder_world(folder: Path) -> World:
    def count() -> int:
        return sum(len(files) for _, _, files in os.walk(folder))

    return World(ObjectOptions(url=f"file:{folder}"), count, lambda key: None)


def bucket_world(server: Server) -> World:
    """The server's bucket, emptied, and looked at with a client of the test's own."""
    client = S3Store(
        BUCKET,
        config={
            "endpoint": server.endpoint,
            "region": "us-east-1",
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        },
        client_options={"allow_http": True},
    )

    def keys() -> list[str]:
        return [found["path"] for found in obstore.list(client).collect()]

    def type_of(key: str) -> str | None:
        return httpx2.head(obstore.sign(client, "HEAD", key, timedelta(minutes=1))).headers["Content-Type"]

    for key in keys():
        obstore.delete(client, key)
    return World(server.options(), lambda: len(keys()), type_of)
