"""How a record holds its event: the formats, record -> (payload, event id). Pure.

An opener takes the records of a batch and returns, aligned, the payloads (JSON of the event; or the event itself
where the type is told outside of it; or Poison) and the producers' event ids ("" where there is none). base64 is
strict: RFC 4648, section 3.3, but for non-zero trailing bits, which section 3.5 leaves to the decoder.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from streamproc.model import Event, Poison, Reason, Record, Records
from streamproc.s3 import S3Event
from streamproc.stream.options import Format

Payload = bytes | Event | Poison
Opened = tuple[list[Payload], list[str]]
Opener = Callable[[Records], Opened]
TypedDecoders = Mapping[str, Callable[[bytes], Event | Poison]]
T = TypeVar("T")

_VALUES = re.compile(
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?<=value )-?\d+|(?<=unknown field )`.*?`(?=(?: - at `\$[\w.\[\]]*`)?$)""",
    re.DOTALL,
)
"""What a decoder's error quotes of its input: strings, enum values, names of unknown fields."""
_CLOUD_EVENT_HEADERS = frozenset(("content-type", "ce_type", "ce_id"))
_EventId = Annotated[str, msgspec.Meta(max_length=256)]


class _KinesisData(msgspec.Struct, gc=False):
    data: bytes


class _Kinesis(msgspec.Struct, gc=False):
    """A Lambda Kinesis record: one element of the `Records` a Lambda function gets."""

    kinesis: _KinesisData
    event_id: _EventId = msgspec.field(default="", name="eventID")


class _CloudEvent(msgspec.Struct, gc=False):
    """A structured CloudEvent (cloudevents/spec, JSON format 1.0)."""

    specversion: str
    type: str
    id: _EventId
    data: msgspec.Raw = msgspec.Raw()
    data_base64: bytes = b""


class _S3(msgspec.Struct, gc=False):
    """What S3 tells of objects; or, before the first, `"Event": "s3:TestEvent"` in place of `Records`."""

    event: str = msgspec.field(default="", name="Event")
    records: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="Records")


class _Keys(msgspec.Struct, gc=False):
    kinesis: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    specversion: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    type: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    records: msgspec.Raw | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="Records")


_kinesis = msgspec.json.Decoder(_Kinesis)
_cloud_event = msgspec.json.Decoder(_CloudEvent)
_s3 = msgspec.json.Decoder(_S3)
_keys = msgspec.json.Decoder(_Keys)
_S3_TYPE = str(S3Event.__struct_config__.tag)
_S3_NOTHING = b'{"Records":[]}'


def classify(error: Exception, *, shape: Reason) -> Poison:
    """The poison for a decoder's error; `shape` is the reason for valid JSON of another form than expected.

    The detail keeps the error's path and its words, not the values it quotes. Any error may come out of an event's
    `__post_init__`; only MemoryError says nothing about the record, and is raised again.
    """
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, RecursionError):
        return Poison("too_deep", "the nesting is too deep")
    if isinstance(error, UnicodeDecodeError):
        return Poison("encoding", "a string is not UTF-8")
    if not isinstance(error, msgspec.DecodeError):
        return Poison(shape, f"a check raised {type(error).__name__}")
    text = _VALUES.sub("'...'", str(error))[:300]
    if isinstance(error, msgspec.ValidationError):
        return Poison("base64" if "base64 encoded" in text else shape, text)
    return Poison("json", text)


def opener(form: Format, types: TypedDecoders) -> Opener:
    """The opener of a format; `types` maps an event type to its decoder, for formats that tell the type outside."""
    if form == "kinesis":
        return open_kinesis
    if form == "json" or form == "base64":
        of_value = _open_json if form == "json" else _open_base64
        return lambda records: _open_each(records.values, records.values, of_value)
    if form == "s3":
        return lambda records: _open_each(records.values, records.values, lambda value: _open_s3(value, types))
    of_record = _open_cloud_event if form == "cloudevents" else _open_auto
    return lambda records: _open_each(records.values, records, lambda record: of_record(record, types))


def open_kinesis(records: Records) -> Opened:
    """Lambda Kinesis records; being the default and the hot path, decoded by `map`, which goes on after an error."""
    values = records.values
    rest = map(_kinesis.decode, values)  # type: ignore[arg-type]  # None is an error
    opened: list[_Kinesis] = []
    while True:
        try:
            opened.extend(rest)
            return [one.kinesis.data for one in opened], [one.event_id for one in opened]
        except Exception as error:
            poison: Any = _unopened(values[len(opened)], error)
            opened.append(_Kinesis(_KinesisData(poison)))


def _open_each(values: Sequence[bytes | None], items: Sequence[T], one: Callable[[T], tuple[Payload, str]]) -> Opened:
    """Opens the values, or the records that hold them."""
    payloads: list[Payload] = []
    ids: list[str] = []
    for value, item in zip(values, items, strict=True):
        try:
            payload, event_id = one(item)
        except Exception as error:
            payload, event_id = _unopened(value, error), ""
        payloads.append(payload)
        ids.append(event_id)
    return payloads, ids


def _unopened(value: bytes | None, error: Exception) -> Poison:
    if value is None:
        return Poison("tombstone", "the record has no value")
    if not value:
        return Poison("empty", "the value has no bytes")
    return classify(error, shape="envelope")


def _given(value: bytes | None) -> bytes:
    if not value:
        raise ValueError
    return value


def _open_json(value: bytes | None) -> tuple[Payload, str]:
    return _given(value), ""


def _open_base64(value: bytes | None) -> tuple[Payload, str]:
    return msgspec.convert(_given(value).decode("ascii"), bytes), ""


def _open_cloud_event(record: Record, types: TypedDecoders) -> tuple[Payload, str]:
    found = [(name.lower(), value or b"") for name, value in record.headers]
    headers = {name: value.decode() for name, value in found if name in _CLOUD_EVENT_HEADERS}
    if headers.get("content-type", "").lower().startswith("application/cloudevents") or "ce_type" not in headers:
        event = _cloud_event.decode(_given(record.value))
        return _typed(event.type, event.data_base64 or bytes(event.data), types), event.id
    if len(headers.get("ce_id", "")) > 256:
        raise msgspec.ValidationError("Expected `str` of length <= 256 - at header `ce_id`")
    return _typed(headers["ce_type"], _given(record.value), types), headers.get("ce_id", "")


def _typed(event_type: str, data: bytes, types: TypedDecoders) -> Payload:
    decode = types.get(event_type)
    if decode is None:
        return Poison("unknown_type", f"no function takes the event type {event_type[:64]!r}")
    try:
        return decode(data)
    except Exception as error:
        poison = classify(error, shape="schema")
        return Poison(poison.reason, poison.detail, event_type)


def _open_s3(value: bytes | None, types: TypedDecoders) -> tuple[Payload, str]:
    found = _s3.decode(_given(value))
    is_test = found.event == "s3:TestEvent" and found.records is msgspec.UNSET
    return _typed(_S3_TYPE, _S3_NOTHING if is_test else _given(value), types), ""


def _open_auto(record: Record, types: TypedDecoders) -> tuple[Payload, str]:
    names = {name.lower() for name, _ in record.headers}
    if "ce_type" in names:
        return _open_cloud_event(record, types)
    value = _given(record.value)
    if not value.lstrip().startswith(b"{"):
        return _open_base64(value)
    keys = _keys.decode(value)
    if keys.specversion is not msgspec.UNSET:
        return _open_cloud_event(record, types)
    if keys.kinesis is not msgspec.UNSET:
        envelope = _kinesis.decode(value)
        return envelope.kinesis.data, envelope.event_id
    if keys.records is not msgspec.UNSET and keys.type is msgspec.UNSET:
        return _open_s3(value, types)
    return value, ""
