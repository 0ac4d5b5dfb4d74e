"""The API of the application against its own description: generated requests, with and without a token."""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from handlers.app import app
from handlers.seed import seed
from handlers.services import open_services
from streamproc import Http
from streamproc.adapters.memory import MemoryBroker, MemoryProducer
from streamproc.http.auth import TokenVerifier, sign
from streamproc.http.gateway import Around, Gateway
from streamproc.http.openapi import document
from streamproc.http.options import AuthOptions, HttpOptions
from streamproc.http.server import serve_public
from streamproc.settings import load

SCOPES = tuple(sorted({function.scope for function in app.http_functions}))
ROOT = Path(__file__).parents[2]
SEED = 20_261_125


@dataclass(frozen=True)
class Api:
    """The served application, its description in a file, and a token for all of it."""

    url: str
    description: Path
    token: str


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with _api(tmp_path) as served:
        yield served


@asynccontextmanager
async def _api(folder: Path) -> AsyncIterator[Api]:
    (folder / "secret").write_text(secrets.token_hex(32))
    auth = AuthOptions(secret_file=str(folder / "secret"), development=True)
    flags = {
        "store.url": f"sqlite:///{folder}/shop.db",
        "mail.directory": str(folder / "mail"),
        "objects.url": f"file:{folder}/objects",
    }
    settings = load(None, {}, flags=flags).settings
    broker = MemoryBroker(time.time)
    broker.create_topic("events", 4)
    description = folder / "openapi.json"
    description.write_text(json.dumps(document(app, title="shop", version="1")))
    async with open_services(settings) as services:
        await seed(services, users=3, skus=3, quantity=1_000)
        around = Around(
            services=services,
            producer=MemoryProducer(broker),
            verifier=TokenVerifier(auth, time.time),
            options=HttpOptions(),
            stream=settings.stream,
            now=time.time,
            stored=lambda: None,
        )
        async with serve_public(Gateway(app, around), HttpOptions(listen="127.0.0.1:0"), 5.0) as address:
            token = sign(auth, subject="u-1", scopes=SCOPES, lifetime_s=3_600, now=time.time())
            yield Api(f"http://{address}", description, token)


async def schemathesis(api: Api, *options: str) -> None:
    """Runs it; a failure shows its report."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        str(api.description),
        f"--url={api.url}",
        f"--seed={SEED}",
        "--checks=all",
        "--continue-on-failure",
        "--no-color",
        "--warnings=off",
        "--generation-allow-x00=false",  # refused, which no schema can say; tests/unit/http tests it
        *options,
        cwd=api.description.parent,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.integration.whole_numbers", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-12_000:]


@pytest.mark.timeout(600)
async def test_generated_requests_with_a_token(api: Api) -> None:
    await schemathesis(api, "-H", f"Authorization: Bearer {api.token}", "--max-examples=40")


@pytest.mark.timeout(600)
async def test_generated_requests_without_a_token(api: Api) -> None:
    await schemathesis(
        api,
        "--max-examples=10",
        "--exclude-checks=positive_data_acceptance,negative_data_rejection",
        "--phases=fuzzing",
    )


@pytest.mark.parametrize("function", app.http_functions, ids=lambda function: function.name)
async def test_without_a_token_every_route_is_401_before_its_body_is_read(api: Api, function: Http) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = function.path.replace("{id}", "x")
    head = f"{function.method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: 1000\r\n\r\n".encode())  # and nothing of the body
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(len(b'{"error":"Unauthorized"}'))
    writer.close()
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert body == b'{"error":"Unauthorized"}'
