"""A server of key sets that does what a test tells it: answer, change, fail, be slow or be gone."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from streamproc.http.auth import InvalidToken, KeysUnavailable, TokenVerifier


class KeyServer:
    """What the server answers, and how often it was asked; it waits while `gate` is closed."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}
        self.repeat = 1
        self.drips = False
        self.hangs_up = False
        self.gate = threading.Event()
        self.gate.set()
        self.paths: list[str] = []
        self.url = ""

    @property
    def requests(self) -> int:
        """How many requests have come."""
        return len(self.paths)


@contextmanager
def serve(address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[KeyServer]:
    """Serves on loopback until the block ends."""
    script = KeyServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            script.paths.append(self.path)
            if not script.drips:
                script.gate.wait(30)
            if script.hangs_up:
                return
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                if script.drips:
                    self._drip()
                for _ in range(script.repeat):
                    self.wfile.write(script.body)
            except OSError:
                pass  # the client gave up, or read enough

        def _drip(self) -> None:
            while not script.gate.wait(0.01):
                self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(address, Handler)
    script.url = f"http://127.0.0.1:{server.server_port}/keys"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield script
    finally:
        script.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


async def refusal(verifier: TokenVerifier, token: str) -> str:
    """Why a token is refused; empty when it is taken. Then waits for what it started in the background."""
    try:
        await verifier.verify(token)
    except (InvalidToken, KeysUnavailable) as error:
        return str(error) if isinstance(error, InvalidToken) else "unavailable"
    finally:
        await asyncio.gather(*fetches())
    return ""


def fetches() -> list[asyncio.Task[None]]:
    """What verifiers fetch in the background."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "jwks"]


async def until_asked(server: KeyServer, times: int) -> None:
    """Waits until this many requests have come."""
    async with asyncio.timeout(10):
        while server.requests < times:
            await asyncio.sleep(0.005)
