"""For authors of functions: a request through the real gateway, with no server, broker or token."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

import msgspec

from streamproc.app import App
from streamproc.http.auth import Caller, TokenVerifier
from streamproc.http.gateway import Around, Gateway
from streamproc.http.options import HttpOptions
from streamproc.model import OutRecord
from streamproc.ports import Producer
from streamproc.stream.options import StreamOptions


@dataclass(frozen=True, slots=True)
class Response:
    """What a request was answered, and which records the function emitted."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    emitted: Sequence[OutRecord]

    def json(self) -> Any:
        """The body."""
        return msgspec.json.decode(self.body)


class _Anybody:
    """Takes every token for one of this caller."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def verify(self, _token: str) -> Caller:
        return self._caller


class _Taken:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[OutRecord] = []

    async def send(self, records: Sequence[OutRecord]) -> Sequence[None]:
        self.records += records
        return [None] * len(records)


async def request(
    app: App, line: str, body: object = None, *, services: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Sends a request, as in `request(app, "POST /orders", {"pieces": 2})`, through the real gateway, in this loop.

    The caller is `test`, with every scope the app knows; `body` is sent as JSON, bytes as they are.
    """
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    taken = _Taken()
    caller = Caller("test", frozenset(function.scope for function in app.http_functions), {})
    around = Around(
        services=services,
        producer=cast(Producer, taken),
        verifier=cast(TokenVerifier, _Anybody(caller)),
        options=HttpOptions(access_log=False),
        stream=StreamOptions(),
        now=time.time,
        stored=lambda: None,
    )
    named = {"authorization": "Bearer test", "content-type": "application/json", **(headers or {})}
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in named.items()],
    }
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": _sent(body)}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    gateway = Gateway(app, around)
    await gateway(scope, receive, send)
    gateway.close()
    answered = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Response(sent[0]["status"], answered, sent[1]["body"], taken.records)


def _sent(body: object) -> bytes:
    if body is None or isinstance(body, bytes):
        return body or b""
    return msgspec.json.encode(body)
