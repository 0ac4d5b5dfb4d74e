"""How an event becomes a record of a format: the other direction of `envelope.py`. Pure."""

import base64
import math
import uuid
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import orjson
from msgspec import inspect

from streamproc.errors import HandlerError
from streamproc.model import Event, Headers, OutRecord
from streamproc.stream.options import Format, StreamOptions

_encode = msgspec.json.Encoder().encode


def encode(event: Event) -> bytes:
    """Returns an event's JSON. Raises HandlerError for NaN and infinities, which JSON has not and no reader takes.

    The encoder writes them as null, so an event without a null in its JSON is not looked at.
    """
    value = _encode(event)
    fields = _float_fields(type(event))
    if fields and value.find(b"null") >= 0:
        for field, name in fields:
            for number, path in _not_finite(getattr(event, field), f"$.{name}"):
                named = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
                raise HandlerError(f"{event.__struct_config__.tag} cannot be written: {named} at `{path}`")
    return value


@cache
def _float_fields(kind: type[Event]) -> list[tuple[str, str]]:
    """The fields of an event class that may hold a float, as they are called here and in the event's JSON."""
    described: Any = inspect.type_info(kind)
    return [(field.name, field.encode_name) for field in described.fields if _has_floats(field.type, set())]


def _has_floats(info: Any, seen: set[int]) -> bool:
    """Whether a type, as msgspec describes it, may hold a float somewhere."""
    if isinstance(info, inspect.FloatType | inspect.AnyType | inspect.CustomType):
        return True
    if isinstance(info, tuple):
        return any(_has_floats(one, seen) for one in info)
    if not isinstance(info, inspect.Type | inspect.Field) or id(info) in seen:
        return False
    seen.add(id(info))
    return any(_has_floats(getattr(info, name), seen) for name in info.__struct_fields__)


def _not_finite(value: Any, path: str) -> Iterator[tuple[float, str]]:
    """The floats in a value that are not finite, with their paths, in the words of the decoder's errors."""
    match value:
        case float():
            if not math.isfinite(value):
                yield value, path
        case None | str() | bytes() | int():
            pass
        case msgspec.Struct():
            for name, field in zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True):
                yield from _not_finite(getattr(value, field), f"{path}.{name}")
        case dict():
            for one in value.values():
                yield from _not_finite(one, f"{path}[...]")
        case list() | tuple() | set() | frozenset():
            for index, one in enumerate(value):
                yield from _not_finite(one, f"{path}[{index}]")
        case _:
            built = msgspec.to_builtins(value)
            if isinstance(built, dict):  # a dataclass
                for name in built:
                    yield from _not_finite(getattr(value, name), f"{path}.{name}")


def keeps_event_ids(form: Format) -> bool:
    """Whether records of this format have a place for an event id."""
    return form not in ("json", "base64", "s3")


def wrap(event: bytes, form: Format, *, event_id: str, event_type: str, key: str) -> tuple[bytes, Headers]:
    """Value and headers of the record that holds an event's JSON; `auto` takes a CloudEvent in binary mode."""
    match form:
        case "kinesis":
            kinesis = {"kinesisSchemaVersion": "1.0", "partitionKey": key, "data": base64.b64encode(event).decode()}
            envelope = {"kinesis": kinesis, "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": event_id}
            return orjson.dumps(envelope | {"eventName": "aws:kinesis:record"}), ()
        case "base64":
            return base64.b64encode(event), ()
        case "json" | "s3":
            return event, ()
        case _:
            attributes = {"ce_specversion": "1.0", "ce_id": event_id, "ce_source": "/streamproc", "ce_type": event_type}
            headers = attributes | {"content-type": "application/json"}
            return event, [(name, value.encode()) for name, value in headers.items()]


def record_of(event: Event, options: StreamOptions, *, key: str, topic: str = "", event_id: str = "") -> OutRecord:
    """An event as a record of its topic: the first input topic when not given, CloudEvents on one that is no input.

    A random id when none is given.
    """
    topic = topic or options.topics[0]
    form = options.format_of(topic) if topic in options.topics else "cloudevents"
    event_type = str(event.__struct_config__.tag)
    value, headers = wrap(encode(event), form, event_id=event_id or str(uuid.uuid4()), event_type=event_type, key=key)
    return OutRecord(topic, value, key.encode(), headers)
