"""People and sensors who call the API of the application, from threads; what is not answered is asked again."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bench import uploads
from bench.generate import SHORT_QUANTITY, SHORT_SKU
from handlers.payments import ANSWER_LOST, DECLINED
from streamproc.errors import BrokerError

USERS, ORDERS, REPORTS, READINGS_EACH, PROBES = 300, 200, 40, 10, 10
CARDS = {1: DECLINED, 2: ANSWER_LOST}
ORDER_KINDS = 10
"""Of so many orders, one asks for what is not in stock, and some are paid with the cards above, by their number."""
THREADS = 4
PATIENCE_S = 60.0
SCOPES = ("users:write", "users:read", "orders:write", "orders:read", "readings:write", "files:write")


@dataclass(slots=True)
class Answers:
    """What the API said it did: ids it gave, readings it accepted, calls it refused by status."""

    users: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    short: int = 0
    declined: int = 0
    pictures: int = 0
    readings: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    repeated: int = 0

    @property
    def events(self) -> int:
        """How many events their calls lead to, at least."""
        return len(self.users) + len(self.orders) + self.readings + self.pictures


class _Call(NamedTuple):
    """A request."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]


class Visitors:
    """All visitors of one run; `tokens` has the header of a good caller and of one without scopes."""

    def __init__(self, addresses: Sequence[str], *, good: str, scopeless: str) -> None:
        self._addresses = addresses
        self._good = {"authorization": f"Bearer {good}"}
        self._scopeless = {"authorization": f"Bearer {scopeless}"}
        self._local = threading.local()
        self._lock = threading.Lock()
        self._asked = 0
        self.answers = Answers()

    @property
    def share(self) -> float:
        """How much of what they came for is done."""
        return self._asked / (USERS + ORDERS + REPORTS + uploads.UPLOADS + 3 * PROBES)

    def run(self) -> None:
        """All of it. Raises BrokerError when nobody answers."""
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(self._sign_up, range(USERS)))
            list(threads.map(self._order, range(ORDERS)))
            list(threads.map(self._report, range(REPORTS)))
            list(threads.map(self._upload, range(uploads.UPLOADS)))
            list(threads.map(self._knock, range(PROBES)))

    def _sign_up(self, number: int) -> None:
        user = self._send(
            "POST", "/users", {"email": f"visitor-{number}@example.com", "name": f"Visitor {number}"}, number
        )
        with self._lock:
            self.answers.users.append(user["id"])

    def _order(self, number: int) -> None:
        kind = number % ORDER_KINDS
        item = {"sku": f"sku-{number}", "quantity": 2} if kind else {"sku": SHORT_SKU, "quantity": SHORT_QUANTITY}
        user = self.answers.users[number % len(self.answers.users)]
        order = self._send("POST", "/orders", {"userId": user, "items": [item], "card": CARDS.get(kind, "")}, number)
        with self._lock:
            self.answers.orders.append(order["id"])
            self.answers.short += not kind
            self.answers.declined += CARDS.get(kind) == DECLINED

    def _upload(self, number: int) -> None:
        self._send("PUT", f"/files/{uploads.key(number)}", uploads.picture(number), number)
        with self._lock:
            self.answers.pictures += 1

    def _report(self, number: int) -> None:
        readings = [_reading(number, second) for second in range(READINGS_EACH if number % 2 else 1)]
        receipt = self._send("POST", "/readings", readings if number % 2 else readings[0], number)
        with self._lock:
            self.answers.readings += receipt["accepted"]

    def _knock(self, number: int) -> None:
        body = {"email": f"intruder-{number}@example.com", "name": "Intruder"}
        for headers in ({}, {"authorization": "Bearer no.good.token"}, self._scopeless):
            status, _ = self._ask("POST", "/users", body, headers)
            with self._lock:
                self.answers.refused[status] += 1

    def _send(self, method: str, path: str, body: Any, number: int) -> Any:
        status, answer = self._ask(method, path, body, {**self._good, "idempotency-key": f"{path}-{number}"})
        if status not in (201, 202):
            raise BrokerError(f"{method} {path} was answered {status}: {answer}")
        return answer

    def _ask(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        call = _Call(method, path, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)
        deadline = time.monotonic() + PATIENCE_S
        for attempt in itertools.count():
            address = self._addresses[(attempt + threading.get_ident()) % len(self._addresses)]
            try:
                status, answer = self._once(address, call)
            except (OSError, http.client.HTTPException):
                self._connections().pop(address, None)
                status, answer = 503, None
            if status not in (503, 504):
                with self._lock:
                    self._asked += 1
                    self.answers.repeated += attempt > 0
                return status, answer
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        raise BrokerError(f"{method} {path} was not answered within {PATIENCE_S:g} s")

    def _once(self, address: str, call: "_Call") -> tuple[int, Any]:
        connections = self._connections()
        connection = connections.setdefault(address, http.client.HTTPConnection(address, timeout=10))
        headers = {"content-type": "application/json", **call.headers}
        connection.request(call.method, call.path, call.body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")

    def _connections(self) -> dict[str, http.client.HTTPConnection]:
        if not hasattr(self._local, "connections"):
            self._local.connections = {}
        found: dict[str, http.client.HTTPConnection] = self._local.connections
        return found


def _reading(number: int, second: int) -> dict[str, Any]:
    stamp = f"2026-01-01T00:{number:02d}:{second:02d}Z"
    return {"sensorId": f"visitor-{number}", "timestamp": stamp, "temperature": 20.5, "humidity": 40.0}


class Background:
    """Work in a thread, whose error is raised by `wait`."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._threads = ThreadPoolExecutor(1)
        self._future = self._threads.submit(work)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def wait(self) -> None:
        """Until it has ended."""
        try:
            self._future.result()
        finally:
            self._threads.shutdown()
