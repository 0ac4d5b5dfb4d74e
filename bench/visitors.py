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
from typing import Any

from bench.generate import SHORT_QUANTITY, SHORT_SKU
from streamproc.errors import BrokerError

USERS, ORDERS, REPORTS, READINGS_EACH, PROBES = 300, 200, 40, 10, 10
SHORT_EVERY = 10
"""Each so many-th order asks for what is not in stock."""
THREADS = 4
PATIENCE_S = 60.0
SCOPES = ("users:write", "users:read", "orders:write", "orders:read", "readings:write")


@dataclass(slots=True)
class Answers:
    """What the API said it did: ids it gave, readings it accepted, calls it refused by status."""

    users: list[str] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)
    short: int = 0
    readings: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    repeated: int = 0

    @property
    def events(self) -> int:
        """How many events their calls lead to, at least."""
        return len(self.users) + len(self.orders) + self.readings


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
        return self._asked / (USERS + ORDERS + REPORTS + 3 * PROBES)

    def run(self) -> None:
        """All of it. Raises BrokerError when nobody answers."""
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(self._sign_up, range(USERS)))
            list(threads.map(self._order, range(ORDERS)))
            list(threads.map(self._report, range(REPORTS)))
            list(threads.map(self._knock, range(PROBES)))

    def _sign_up(self, number: int) -> None:
        user = self._post("/users", {"email": f"visitor-{number}@example.com", "name": f"Visitor {number}"}, number)
        with self._lock:
            self.answers.users.append(user["id"])

    def _order(self, number: int) -> None:
        short = number % SHORT_EVERY == 0
        item = {"sku": SHORT_SKU, "quantity": SHORT_QUANTITY} if short else {"sku": f"sku-{number}", "quantity": 2}
        user = self.answers.users[number % len(self.answers.users)]
        order = self._post("/orders", {"userId": user, "items": [item]}, number)
        with self._lock:
            self.answers.orders.append(order["id"])
            self.answers.short += short

    def _report(self, number: int) -> None:
        readings = [_reading(number, second) for second in range(READINGS_EACH if number % 2 else 1)]
        receipt = self._post("/readings", readings if number % 2 else readings[0], number)
        with self._lock:
            self.answers.readings += receipt["accepted"]

    def _knock(self, number: int) -> None:
        body = {"email": f"intruder-{number}@example.com", "name": "Intruder"}
        for headers in ({}, {"authorization": "Bearer no.good.token"}, self._scopeless):
            status, _ = self._ask("/users", body, headers)
            with self._lock:
                self.answers.refused[status] += 1

    def _post(self, path: str, body: Any, number: int) -> Any:
        status, answer = self._ask(path, body, {**self._good, "idempotency-key": f"{path}-{number}"})
        if status not in (201, 202):
            raise BrokerError(f"POST {path} was answered {status}: {answer}")
        return answer

    def _ask(self, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        deadline = time.monotonic() + PATIENCE_S
        for attempt in itertools.count():
            address = self._addresses[(attempt + threading.get_ident()) % len(self._addresses)]
            try:
                status, answer = self._once(address, path, body, headers)
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
        raise BrokerError(f"POST {path} was not answered within {PATIENCE_S:g} s")

    def _once(self, address: str, path: str, body: Any, headers: Mapping[str, str]) -> tuple[int, Any]:
        connections = self._connections()
        connection = connections.setdefault(address, http.client.HTTPConnection(address, timeout=10))
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
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
