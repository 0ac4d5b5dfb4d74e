"""Kinesis envelopes as an application's producers would write them, from a seed."""

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

NUMBER = "n"
"""The Kafka header that numbers a record, so that it is known again in any sink."""

SENSOR, ORDER, USER = "sensor.reading", "order.placed", "user.created"
SENSORS, USERS, SKUS = 1_000, 500, 200
STOCK = 1_000_000_000
SHORT_QUANTITY = 999
"""What an order asks for of `SHORT_SKU`, of which there is none."""
SHORT_SKU = "sku-none"


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the event types; what is missing from 1 is bad records. `numbered` records have a header `NUMBER`.

    Readings are of so many `sensors` and of `types` of events in turn; `padding` is how many bytes more they have.
    """

    sensor: float = 0.69
    order: float = 0.20
    user: float = 0.10
    sensors: int = SENSORS
    types: int = 1
    padding: int = 0
    numbered: bool = True


@dataclass(frozen=True, slots=True)
class Produced:
    """A record to publish. `kind` is its event type, or `bad`; `expected` is `ok` or a dead letter's condition."""

    number: int
    kind: str
    expected: str
    key: bytes | None
    value: bytes | None
    numbered: bool = True

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Its number, if it is numbered."""
        return [(NUMBER, str(self.number).encode())] if self.numbered else []


def event_id(number: int) -> str:
    """The event id of a good record."""
    return f"demo-{number}"


def envelope(number: int, key: str, event: str) -> bytes:
    """A Lambda Kinesis record around an event's JSON; about 282 bytes for a sensor reading."""
    data = base64.b64encode(event.encode()).decode()
    return (
        f'{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"{key}","sequenceNumber":"{number:021d}",'
        f'"data":"{data}"}},"eventID":"{event_id(number)}"}}'
    ).encode()


def records(count: int, seed: int, mix: Mix | None = None) -> Iterator[Produced]:
    """`count` records, the same for the same seed but for the time in sensor readings."""
    draw = random.Random(seed)
    shares = mix or Mix()
    bad = _bad_cases() if shares.sensor + shares.order + shares.user < 1 else []
    for number in range(count):
        pick = draw.random()
        if pick < shares.sensor:
            yield _sensor(number, draw, shares)
        elif pick < shares.sensor + shares.order:
            yield _order(number, draw)
        elif pick < shares.sensor + shares.order + shares.user:
            yield _user(number, draw)
        else:
            value, expected = bad[draw.randrange(len(bad))]
            yield Produced(number, "bad", expected, b"bad", value)


def _bad_cases() -> list[tuple[bytes, str]]:
    from tests.corpus.load import cases  # only where bad records are wanted

    return [(case.value, case.expected) for case in cases() if case.expected != "ok" and case.value is not None]


def _sensor(number: int, draw: random.Random, mix: Mix) -> Produced:
    key = f"s-{draw.randrange(mix.sensors)}"
    temperature = round(draw.uniform(10, 31), 1)
    stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    kind = f"{SENSOR}.{number % mix.types}" if number % mix.types else SENSOR
    padding = f',"note":"{"x" * mix.padding}"' if mix.padding else ""
    event = (
        f'{{"type":"{kind}","sensorId":"{key}","timestamp":"{stamp}",'
        f'"temperature":{temperature},"humidity":{draw.uniform(30, 60):.1f}{padding}}}'
    )
    return Produced(number, SENSOR, "ok", key.encode(), envelope(number, key, event), mix.numbered)


def _order(number: int, draw: random.Random) -> Produced:
    user = f"u-{draw.randrange(USERS)}"
    short = draw.random() < 0.002
    sku, quantity = (SHORT_SKU, SHORT_QUANTITY) if short else (f"sku-{draw.randrange(SKUS)}", draw.randint(1, 5))
    items = f'[{{"sku":"{sku}","quantity":{quantity}}},{{"sku":"sku-{draw.randrange(SKUS)}","quantity":1}}]'
    event = f'{{"type":"{ORDER}","orderId":"o-{number}","userId":"{user}","items":{items}}}'
    expected = "out_of_stock" if short else "ok"
    return Produced(number, ORDER, expected, user.encode(), envelope(number, user, event))


def _user(number: int, draw: random.Random) -> Produced:
    user = f"u-{draw.randrange(USERS)}"
    event = f'{{"type":"{USER}","userId":"{user}"}}'
    return Produced(number, USER, "ok", user.encode(), envelope(number, user, event))
