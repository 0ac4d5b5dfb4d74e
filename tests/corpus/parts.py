"""What cases are made of: a record, and what must become of it."""

import base64
import json
import zlib
from dataclasses import dataclass

SENSOR = (
    '{"type":"sensor.reading","sensorId":"s-1","timestamp":"2026-01-01T00:00:00Z","temperature":21.5,"humidity":40}'
)
USER = '{"type":"user.created","userId":"u-1"}'
ORDER = '{"type":"order.placed","orderId":"o-1","userId":"u-1","items":[{"sku":"sku-1","quantity":1}]}'
SEQUENCE = 49590338271490256608559692538361571095921575989136588898

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A record and what must become of it.

    `expected` is `ok` or the condition of its dead letter, `path` a part of that letter's message that says where,
    "" where there is no place to name. `size` is the length of the value in bytes.
    """

    id: str
    value: bytes | None
    key: bytes | None
    headers: Headers
    expected: str
    path: str
    size: int

    @property
    def row(self) -> str:
        """The row of the fault matrix: what is before the first dash of the id."""
        return self.id.partition("-")[0]


def case(
    name: str,
    value: bytes | None,
    expected: str,
    path: str = "",
    *,
    key: bytes | None = b"k",
    headers: Headers = (),
) -> Case:
    """A case whose record is this value."""
    return Case(name, value, key, headers, expected, path, len(value or b""))


def event_case(name: str, event: str | bytes, expected: str, path: str = "") -> Case:
    """A case whose record is a good envelope around this event."""
    return case(name, envelope(name, event), expected, path)


def encoded(event: str | bytes) -> str:
    """The event in base64."""
    return base64.b64encode(event.encode() if isinstance(event, str) else event).decode()


def envelope(name: str, event: str | bytes) -> bytes:
    """A Lambda Kinesis record around an event; its ids follow from the case's name."""
    return around(name, json.dumps(encoded(event)))


def around(name: str, data: str) -> bytes:
    """A Lambda Kinesis record whose `data` is this piece of JSON."""
    sequence = SEQUENCE + zlib.crc32(name.encode())
    return (
        f'{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":"k","sequenceNumber":"{sequence}",'
        f'"data":{data},"approximateArrivalTimestamp":1545084650.987}},'
        f'"eventID":"shardId-000000000006:{sequence}","eventSource":"aws:kinesis"}}'
    ).encode()


def named(event_id: str) -> bytes:
    """A Lambda Kinesis record of a good event with this event id, a piece of JSON."""
    return f'{{"kinesis":{{"data":"{encoded(USER)}"}},"eventID":{event_id}}}'.encode()


def sensor(field: str, value: str) -> str:
    """A sensor reading with one field replaced by a piece of JSON."""
    fields = {"sensorId": '"s-1"', "timestamp": '"2026-01-01T00:00:00Z"', "temperature": "21.5", "humidity": "40"}
    fields[field] = value
    return '{"type":"sensor.reading",' + ",".join(f'"{name}":{text}' for name, text in fields.items()) + "}"


def order(items: str) -> str:
    """An order with these items, a piece of JSON."""
    return '{"type":"order.placed","orderId":"o-1","userId":"u-1","items":' + items + "}"


def quantity(text: str) -> str:
    """An order of one item with this quantity, a piece of JSON."""
    return order('[{"sku":"sku-1","quantity":' + text + "}]")
