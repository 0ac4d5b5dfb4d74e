"""How an event becomes a record of a format: the other direction of `envelope.py`. Pure."""

import base64
import uuid

import msgspec
import orjson

from streamproc.model import Event, Headers, OutRecord
from streamproc.stream.options import Format, StreamOptions

_encode = msgspec.json.Encoder().encode


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
    value, headers = wrap(_encode(event), form, event_id=event_id or str(uuid.uuid4()), event_type=event_type, key=key)
    return OutRecord(topic, value, key.encode(), headers)
